import * as Result from "effect/Result"
import { duration, integer, type Parser, year } from "../../StoreOptions.ts"
import { bytesOfUtf8, maxBytes, problemOfText } from "./keys.ts"

// What the options of a call may be, the same for every backend.

export const ttl: Parser<number> = duration(100, year)

export const guardGap: Parser<number> = duration(0, year)

export const reentrant: Parser<boolean> = (value) =>
  typeof value === "boolean" ? Result.succeed(value) : Result.fail("must be true or false")

/** `Infinity` means no limit. */
export const timeout: Parser<number> = duration(0)

/** `Infinity` means no limit, which lifts the locker's own. */
export const maxHold: Parser<number> = duration(1)

/** `Infinity` means never. */
export const warnAfter: Parser<number> = duration(1)

export const maxQueue: Parser<number> = integer(0, 2 ** 31 - 1)

/** The name of a holder, or of a lock in metrics. */
export const name: Parser<string> = (value) =>
  typeof value === "string" && /^[^{}\0-\x1f]{1,200}$/.test(value)
    ? Result.succeed(value)
    : Result.fail("must be 1 to 200 characters, without braces and control characters")

/** How long a holder that is asked to leave may stay. */
export const grace: Parser<number> = duration(0, year)

/** Why a holder is asked to leave, in words for people. */
export const why: Parser<string> = (value) => {
  const wrong = problemOfText(value)
  if (wrong !== undefined) return Result.fail(wrong)
  const text = value as string
  return bytesOfUtf8(text) > maxBytes ? Result.fail(`must be at most ${maxBytes} bytes of UTF-8`) : Result.succeed(text)
}

export const metadata: Parser<Readonly<Record<string, string>>> = (value) => {
  if (!isRecord(value) || !Object.values(value).every((text) => typeof text === "string")) {
    return Result.fail("must be a plain record of strings")
  }
  return bytesOfUtf8(JSON.stringify(value)) > maxBytes
    ? Result.fail(`must be at most ${maxBytes} bytes as JSON`)
    : Result.succeed(value as Readonly<Record<string, string>>)
}

/**
 * A `Date` or a `Map` is not a record, although it has no field that is not a string. A record from another realm is
 * one.
 */
const isRecord = (value: unknown): value is object => {
  if (typeof value !== "object" || value === null) return false
  const prototype: unknown = Object.getPrototypeOf(value)
  return (prototype === null || Object.getPrototypeOf(prototype) === null) &&
    Object.getOwnPropertySymbols(value).length === 0
}

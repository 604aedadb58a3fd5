import { toMillis } from "../StoreOptions.ts"
import { bytesOfUtf8, maxBytes } from "./names.ts"

// What a time to live and metadata must be, on every backend alike. Each rule says what is wrong in words that follow the
// name of the thing, or nothing.

/** The longest time to live: a longer one is a slip of a unit. */
export const year = 365 * 24 * 60 * 60 * 1000

export const problemOfTtl = (input: unknown): string | undefined => {
  const millis = toMillis(input)
  if (millis === undefined) return "is not a duration such as \"30 seconds\""
  if (millis < 100) return "is below 100 milliseconds"
  return millis > year ? "is longer than a year" : undefined
}

export const problemOfMetadata = (metadata: unknown): string | undefined => {
  if (!isRecord(metadata) || !Object.values(metadata).every((value) => typeof value === "string")) {
    return "is not a plain record of strings"
  }
  return bytesOfUtf8(JSON.stringify(metadata)) > maxBytes ? "is longer than 1024 bytes as JSON" : undefined
}

/** A `Date` or a `Map` is no record, though it has no field that is not a string. One of another realm is. */
const isRecord = (value: unknown): value is object => {
  if (typeof value !== "object" || value === null) return false
  const prototype: unknown = Object.getPrototypeOf(value)
  return (prototype === null || Object.getPrototypeOf(prototype) === null) &&
    Object.getOwnPropertySymbols(value).length === 0
}

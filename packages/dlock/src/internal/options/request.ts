import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Duration from "effect/Duration"
import * as Base64Url from "effect/encoding/Base64Url"
import * as Inspectable from "effect/Inspectable"
import * as Result from "effect/Result"
import { InvalidLockRequest, LockBackendError } from "../../LockError.ts"
import type { LockOptions, TryLockOptions } from "../../LockOptions.ts"
import type { Claim } from "../../LockStore.ts"
import type { Parser } from "../../StoreOptions.ts"
import * as Timing from "../timing.ts"
import { problemOfName } from "./keys.ts"
import * as Owner from "./owner.ts"
import * as Rules from "./rules.ts"
import type { Settings } from "./settings.ts"

/** The options of a call, after parsing. */
export interface Terms {
  readonly ttl: Duration.Duration
  readonly guardGap: Duration.Duration
  readonly holder: string
  /** A timeout in milliseconds. `Infinity` means no limit. */
  readonly timeout: number
}

/** The terms of a call without options. */
export const usual = ({ guardGap, holder, ttl }: Settings): Terms => ({
  ttl,
  guardGap: guardGap ?? usualGuardGap(ttl),
  holder,
  timeout: Infinity
})

/** The parser of each option. A missing option is a compile error. */
/** How each option is read. */
export const parsers = {
  ttl: Rules.ttl,
  timeout: Rules.timeout,
  guardGap: Rules.guardGap,
  metadata: Rules.metadata
} satisfies {
  readonly [Name in keyof LockOptions]-?: Parser<unknown>
}

/** The options that only a waiting call has. */
const ofThoseWhoWait = { timeout: true } satisfies Record<Exclude<keyof LockOptions, keyof TryLockOptions>, true>

const unknownOption = (waits: boolean): string => {
  const known = Object.keys(parsers).filter((name) => waits || !Object.hasOwn(ofThoseWhoWait, name))
  return `is not an option of this call: there are ${known.join(", ")}`
}

/** The given options, after parsing. */
type Read = { -readonly [Name in keyof typeof parsers]?: Result.Result.Success<ReturnType<(typeof parsers)[Name]>> }

/** Checks a key and the options of a call, before anything is sent. */
export const parse = (
  settings: Settings,
  usual: Terms,
  key: string,
  options: LockOptions | undefined,
  waits: boolean
): Terms | InvalidLockRequest => {
  const invalid = (parameter: string, problem: string) =>
    new InvalidLockRequest({ key: Inspectable.toStringUnknown(key, 0).toWellFormed(), parameter, problem })

  const wrong = problemOfName(key, settings.prefix)
  if (wrong !== undefined) return invalid("key", wrong)
  if (options === undefined) return usual
  if (typeof options !== "object" || options === null) return invalid("options", "must be an object")
  for (const option of Object.getOwnPropertySymbols(options)) return invalid(String(option), unknownOption(waits))
  const read: Record<string, unknown> = {}
  for (const option in options) {
    if (!Object.hasOwn(parsers, option) || (!waits && Object.hasOwn(ofThoseWhoWait, option))) {
      return invalid(option, unknownOption(waits))
    }
    const name = option as keyof typeof parsers
    const value = options[name]
    if (value === undefined) continue
    const parsed: Result.Result<unknown, string> = parsers[name](value)
    if (Result.isFailure(parsed)) return invalid(option, parsed.failure)
    read[option] = parsed.success
  }
  const { guardGap, metadata, timeout, ttl, ...unused } = read as Read
  // An option that is parsed but not used is a compile error.
  unused satisfies Record<string, never>
  const granted = ttl === undefined ? usual.ttl : Duration.millis(ttl)
  const gap = guardGap === undefined ? settings.guardGap : Duration.millis(guardGap)
  return {
    ttl: granted,
    guardGap: gap ?? usualGuardGap(granted),
    holder: metadata === undefined ? usual.holder : Owner.encode(usual.holder, metadata),
    timeout: timeout ?? usual.timeout
  }
}

/** Makes a claim with a new id. Its permits and capacity are those of the lock, so every store can grant it. */
export const claimOf = (
  { prefix }: Settings,
  key: string,
  { capacity, permits }: Pick<Claim, "permits" | "capacity">,
  { guardGap, holder, ttl }: UsedTerms,
  inside: ReadonlyArray<string> | undefined
): Claim => ({
  id: freshId(),
  key: prefix + key,
  prefix,
  permits,
  capacity,
  ttl,
  guardGap,
  holder,
  ...(inside !== undefined && { inside })
})

/** A term that reaches neither the claim nor the caller's timeout is a compile error where claims are made. */
type UsedTerms = [Exclude<keyof Terms, "guardGap" | "holder" | "ttl" | "timeout">] extends [never] ? Terms : never

/** The same claim under a new id. */
export const renamed = (claim: Claim): Claim => ({ ...claim, id: freshId() })

/** Replaces the claim's name in a store's error with the key that the user gave. */
export const about = (key: string) => (error: LockBackendError): LockBackendError =>
  new LockBackendError({ operation: error.operation, key, retryable: error.retryable, cause: error.cause })

// Many ids are drawn at a time, so that one id costs only a slice: 132 random bits as 22 characters of base64url.
let drawn = ""
let used = 0

const freshId = (): string => {
  if (used === drawn.length) {
    drawn = Base64Url.encode(SecureRandom.randomBytesUnsafe(idsAtATime * idLength * 3 / 4))
    used = 0
  }
  return drawn.slice(used, used += idLength)
}

const idLength = 22
const idsAtATime = 128

const usualGuardGap = (ttl: Duration.Duration): Duration.Duration =>
  Duration.millis(Timing.guardGap(Duration.toMillis(ttl)))

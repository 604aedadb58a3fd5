import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Duration from "effect/Duration"
import * as Base64Url from "effect/encoding/Base64Url"
import * as Inspectable from "effect/Inspectable"
import { InvalidLockRequest, LockBackendError } from "../LockError.ts"
import type { Claim } from "../LockStore.ts"
import { toMillis } from "../StoreOptions.ts"
import * as Holder from "./holder.ts"
import { problemOfName } from "./names.ts"
import { problemOfMetadata, problemOfTtl, year } from "./rules.ts"
import type { Settings } from "./settings.ts"

/** What one call may ask for: `LockOptions`, before they have been looked at. */
export interface RequestOptions {
  readonly ttl?: Duration.Input | undefined
  readonly timeout?: Duration.Input | undefined
  readonly guardGap?: Duration.Input | undefined
  readonly metadata?: Readonly<Record<string, string>> | undefined
}

/** What a call asks for, once that has been looked at. */
export interface Terms {
  readonly ttl: Duration.Duration
  readonly guardGap: Duration.Duration
  readonly holder: string
  /** Milliseconds; `Infinity` for no limit. */
  readonly timeout: number
}

/** Those of a call without options. */
export const usual = ({ guardGap, holder, ttl }: Settings): Terms => ({
  ttl,
  guardGap: guardGap ?? defaultGuardGap(ttl),
  holder,
  timeout: Infinity
})

const known = new Set(["ttl", "timeout", "guardGap", "metadata"])

/** Checks a key and the options of a call for it. Nothing has been sent when it says no. */
export const parse = (
  settings: Settings,
  usual: Terms,
  key: string,
  options: RequestOptions | undefined,
  waits: boolean
): Terms | InvalidLockRequest => {
  const invalid = (parameter: string, problem: string) =>
    new InvalidLockRequest({ key: Inspectable.toStringUnknown(key, 0).toWellFormed(), parameter, problem })

  const wrong = problemOfName(key, settings.prefix)
  if (wrong !== undefined) return invalid("key", wrong)
  if (options === undefined) return usual

  let { holder, timeout, ttl } = usual
  let { guardGap } = settings
  if (typeof options !== "object" || options === null) return invalid("options", "are not an object")
  for (const option of Object.getOwnPropertySymbols(options)) return invalid(String(option), "is not an option here")
  for (const option in options) {
    if (!known.has(option) || (option === "timeout" && !waits)) return invalid(option, "is not an option here")
  }
  if (options.ttl !== undefined) {
    const problem = problemOfTtl(options.ttl)
    if (problem !== undefined) return invalid("ttl", problem)
    ttl = Duration.millis(toMillis(options.ttl)!)
  }
  if (options.guardGap !== undefined) {
    const millis = toMillis(options.guardGap)
    if (millis === undefined) return invalid("guardGap", "is not a duration")
    if (millis < 0) return invalid("guardGap", "is negative")
    if (millis > year) return invalid("guardGap", "is longer than a year")
    guardGap = Duration.millis(millis)
  }
  if (options.timeout !== undefined) {
    const millis = toMillis(options.timeout)
    if (millis === undefined) return invalid("timeout", "is not a duration")
    if (millis < 0) return invalid("timeout", "is negative")
    timeout = millis
  }
  if (options.metadata !== undefined) {
    const problem = problemOfMetadata(options.metadata)
    if (problem !== undefined) return invalid("metadata", problem)
    holder = Holder.encode(holder, options.metadata)
  }
  return { ttl, guardGap: guardGap ?? defaultGuardGap(ttl), holder, timeout }
}

/** A claim that any store can honour, under an id that none has seen. */
export const claimOf = (
  { prefix }: Settings,
  key: string,
  { guardGap, holder, ttl }: Terms,
  inside: ReadonlyArray<string> | undefined
): Claim => ({
  id: freshId(),
  key: prefix + key,
  prefix,
  permits: 1,
  capacity: 1,
  ttl,
  guardGap,
  holder,
  ...(inside !== undefined && { inside })
})

/** The same claim under another such id. */
export const renamed = (claim: Claim): Claim => ({ ...claim, id: freshId() })

/** Stores speak of claims; the user asked for a key. */
export const about = (key: string) => (error: LockBackendError): LockBackendError =>
  new LockBackendError({ operation: error.operation, key, retryable: error.retryable, cause: error.cause })

// Drawn many at a time, so that each costs a slice: 132 random bits in the letters of base64url.
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

/** The larger of 100 ms and a tenth: timers are late, and the larger the lease the more a clock may drift within it. */
const defaultGuardGap = (ttl: Duration.Duration): Duration.Duration =>
  Duration.millis(Math.max(100, Duration.toMillis(ttl) / 10))

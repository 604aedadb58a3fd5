import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Duration from "effect/Duration"
import * as Base64Url from "effect/encoding/Base64Url"
import * as Result from "effect/Result"
import type { InvalidLockRequest } from "../../LockError.ts"
import { LockBackendError, type LockKind } from "../../LockError.ts"
import type { LockOptions, TryLockOptions } from "../../LockOptions.ts"
import type { Claim } from "../../LockStore.ts"
import type { Parser } from "../../StoreOptions.ts"
import * as Timing from "../timing.ts"
import { invalidRequest } from "./invalidRequest.ts"
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
  /**
   * Present if the call may re-enter what it holds already. It is an error if the call also gives what only a claim of
   * its own could have.
   */
  readonly reentry?: "allowed" | InvalidLockRequest
  /** For how many milliseconds the lock may be held. `Infinity` means no limit. */
  readonly maxHold: number
  /** How many claims may wait before this one. Absent means no limit. */
  readonly maxQueue: number | undefined
  /** Under which name the lock is counted. Absent means under none. */
  readonly name: string | undefined
}

/** The terms of a call without options. */
export const usual = ({ guardGap, holder, maxHold, timeout, ttl }: Settings): Terms => ({
  ttl,
  guardGap: guardGap ?? usualGuardGap(ttl),
  holder,
  timeout,
  maxHold,
  maxQueue: undefined,
  name: undefined
})

/** The parser of each option. A missing option is a compile error. */
export const parsers = {
  ttl: Rules.ttl,
  timeout: Rules.timeout,
  guardGap: Rules.guardGap,
  metadata: Rules.metadata,
  reentrant: Rules.reentrant,
  maxHold: Rules.maxHold,
  maxQueue: Rules.maxQueue,
  name: Rules.name
} satisfies {
  readonly [Name in keyof LockOptions]-?: Parser<unknown>
}

/** The options that only a waiting call has. */
export const ofThoseWhoWait = { timeout: true, maxQueue: true } satisfies Record<
  Exclude<keyof LockOptions, keyof TryLockOptions>,
  true
>

/** Whether an option is of the claim. A call that re-enters has no claim of its own, so such an option would do nothing. */
const isOfClaim: Readonly<Record<keyof LockOptions, boolean>> = {
  ttl: true,
  timeout: false,
  guardGap: true,
  metadata: true,
  reentrant: false,
  maxHold: false,
  maxQueue: false,
  name: false
}

/** Whether a call has an option. Permits are never re-entered. */
const isKnown = (option: string, waits: boolean, kind: LockKind): boolean =>
  Object.hasOwn(parsers, option) &&
  (waits || !Object.hasOwn(ofThoseWhoWait, option)) &&
  (kind !== "semaphore" || option !== "reentrant")

const unknownOption = (waits: boolean, kind: LockKind): string => {
  const known = Object.keys(parsers).filter((name) => isKnown(name, waits, kind))
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
  waits: boolean,
  kind: LockKind
): Terms | InvalidLockRequest => {
  const invalid = (parameter: string, problem: string) => invalidRequest(key, parameter, problem)

  const wrong = problemOfName(key, settings.prefix)
  if (wrong !== undefined) return invalid("key", wrong)
  if (options === undefined) return usual
  if (typeof options !== "object" || options === null) return invalid("options", "must be an object")
  for (const option of Object.getOwnPropertySymbols(options)) return invalid(String(option), unknownOption(waits, kind))
  const read: Record<string, unknown> = {}
  for (const option in options) {
    if (!isKnown(option, waits, kind)) return invalid(option, unknownOption(waits, kind))
    const name = option as keyof typeof parsers
    const value = options[name]
    if (value === undefined) continue
    const parsed: Result.Result<unknown, string> = parsers[name](value)
    if (Result.isFailure(parsed)) return invalid(option, parsed.failure)
    read[option] = parsed.success
  }
  const { guardGap, maxHold, maxQueue, metadata, name, reentrant, timeout, ttl, ...unused } = read as Read
  // An option that is parsed but not used is a compile error.
  unused satisfies Record<string, never>
  const granted = ttl === undefined ? usual.ttl : Duration.millis(ttl)
  const gap = guardGap === undefined ? settings.guardGap : Duration.millis(guardGap)
  const terms: Terms = {
    ttl: granted,
    guardGap: gap ?? usualGuardGap(granted),
    holder: metadata === undefined ? usual.holder : Owner.encode(usual.holder, metadata),
    timeout: timeout ?? usual.timeout,
    maxHold: maxHold ?? usual.maxHold,
    maxQueue,
    name
  }
  if (reentrant !== true) return terms
  // Inherited options are those of the lock, which count where it is acquired.
  const idle = Object.keys(read).find((name) => isOfClaim[name as keyof Read] && Object.hasOwn(options, name))
  return { ...terms, reentry: idle === undefined ? "allowed" : invalid(idle, doesNothing) }
}

const doesNothing = "does nothing here, because the call re-enters a lock that is held: give it to the outer call"

/** The options of a call, with the lock's own `ttl` (in milliseconds) if the call gives none. */
export const withTtl = <Options extends TryLockOptions>(
  options: Options | undefined,
  ttl: number | undefined
): Options | undefined => {
  if (ttl === undefined) return options
  if (options === undefined) return { ttl } as unknown as Options
  return typeof options === "object" && options?.ttl !== undefined ? options : withDefaults(options, { ttl } as Options)
}

/** The options of a call, which inherit what it does not give from those of its lock. */
export const withDefaults = <Options extends TryLockOptions>(
  options: Options | undefined,
  defaults: Options
): Options => {
  const all = Object.create(defaults) as Record<string, unknown>
  if (options === undefined) return all as unknown as Options
  // What is no record of options is refused by its own name.
  if (typeof options !== "object" || options === null || Object.getOwnPropertySymbols(options).length > 0) {
    return options
  }
  // Options that the caller's record inherits count as well.
  for (const option in options) {
    if (options[option] !== undefined || !(option in defaults)) all[option] = options[option]
  }
  return all as unknown as Options
}

/** The kind of a lock, how many permits a claim on it needs, and how many its key has. */
export interface Shape extends Pick<Claim, "kind" | "permits" | "capacity" | "onCapacityChange"> {
  /** Whether it is a leadership, for which candidates stand for days. Nobody is waiting for anything then. */
  readonly isLeadership?: true
}

export const mutex: Shape = { kind: "mutex", permits: 1, capacity: 1 }

export const leadership: Shape = { ...mutex, isLeadership: true }

/** Makes a claim with a new id. Its kind, permits and capacity are those of the lock, so every store can grant it. */
export const claimOf = (
  { prefix }: Settings,
  key: string,
  { capacity, kind, onCapacityChange, permits }: Shape,
  { guardGap, holder, maxQueue, ttl }: UsedTerms,
  inside: ReadonlyArray<string> | undefined
): Claim => ({
  id: freshId(),
  key: prefix + key,
  prefix,
  kind,
  permits,
  capacity,
  ...(onCapacityChange !== undefined && { onCapacityChange }),
  ...(maxQueue !== undefined && { maxQueue }),
  ttl,
  guardGap,
  holder,
  ...(inside !== undefined && { inside })
})

/** A term that reaches neither the claim, the caller's timeout, the cap of its lease, its metrics nor a re-entry is a compile error here. */
type UsedTerms = [
  Exclude<keyof Terms, "guardGap" | "holder" | "reentry" | "ttl" | "timeout" | "maxHold" | "maxQueue" | "name">
] extends [never] ? Terms
  : never

/** The same terms for a caller that already holds locks, of which others are to know the names. */
export const holding = (terms: Terms, names: ReadonlyArray<string>): Terms => ({
  ...terms,
  holder: Owner.withHeld(terms.holder, names)
})

/** The same terms for a caller in a sampled trace. Others find that trace by the holder. */
export const traced = (terms: Terms, traceparent: string | undefined): Terms =>
  traceparent === undefined ? terms : { ...terms, holder: Owner.withTrace(terms.holder, traceparent) }

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

export const usualGuardGap = (ttl: Duration.Duration): Duration.Duration =>
  Duration.millis(Timing.guardGap(Duration.toMillis(ttl)))

/**
 * The contract of a backend. A store owns atomic changes of state, the queue, the wake-up, the fencing token and the
 * time limit of each of its calls; everything else (validation, deadlines, the timing of renewals, retries, errors,
 * logs) is the core's and is the same on every backend. Write a store, run `Conformance.cases` of
 * `effect-dlock/testing` on it, and it is one.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Stream from "effect/Stream"
import * as Timing from "./internal/timing.ts"
import { LockBackendError, type LossReason } from "./LockError.ts"
import type { StoreTelemetry } from "./StoreTelemetry.ts"

/**
 * What one contender asks for: `permits` out of `capacity` on a key. It is granted when all claims that were queued
 * before it, held or waiting, leave room. A mutex is 1 of 1.
 *
 * @category models
 * @since 0.1.0
 */
export interface Claim {
  /** Random (128 bits, 22 characters of base64url) and never used again after a withdrawal or a `Gone`. */
  readonly id: string
  /** The name at the backend, prefix included. */
  readonly key: string
  /** With what `key` begins: for a store that writes the two apart. */
  readonly prefix: string
  /** Whole, from 1 to `capacity`. */
  readonly permits: number
  /** Whole, from 1 to 2,147,483,647. */
  readonly capacity: number
  /** For how long the holder may believe in a confirmation, counted from the moment at which it was asked for. */
  readonly ttl: Duration.Duration
  /** By how much the backend's expiry is later than the holder's deadline. */
  readonly guardGap: Duration.Duration
  /** Who asks, in words for people and machines (see `lease.holder`); a store keeps it beside the claim. */
  readonly holder: string
  /**
   * The ids of claims that the asker's sections hold through other stores, which may be other clients of the same backend;
   * absent in most. Where one of them holds this key, waiting for it would be waiting for oneself.
   */
  readonly inside?: ReadonlyArray<string>
}

/**
 * A claim is held.
 *
 * @category models
 * @since 0.1.0
 */
export interface Granted {
  readonly _tag: "Granted"
  /** Strictly larger than every token granted on this key before. */
  readonly fencingToken: bigint
  /** The time to live as the backend gave it: at least the claim's. */
  readonly ttl: Duration.Duration
  /** `Clock.monotonicTimeNanos` when the request was *sent* that proves how long the claim lives. */
  readonly confirmedAt: bigint
}

/**
 * What stands before a waiting claim, as the store last heard it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Ahead {
  /** The present holder's `Claim.holder`; absent where the store cannot know it (another library's client). */
  readonly holder: string | undefined
  /** How many waiting claims go first: 0 is the head of the queue. */
  readonly place: number
  /** How many claims wait on the key, this one included. */
  readonly waiting: number
}

/**
 * The claim has a place in the queue, which the store keeps alive until the claim is granted or withdrawn.
 *
 * @category models
 * @since 0.1.0
 */
export interface Queued {
  readonly _tag: "Queued"
  /** How many waiting claims went first when the answer was given: 0 is the head of the queue. */
  readonly place: number
  /** What is before the claim now, as far as the store knows. Sends nothing. */
  readonly ahead: () => Ahead
  /**
   * Waits for the grant. `Gone` where the place was lost (this process was silent for too long): the core asks again
   * under a fresh id. Interrupting it gives nothing up: only `withdraw` does.
   */
  readonly granted: Effect.Effect<Granted | Gone, LockBackendError>
}

/**
 * Held by others, for a request that does not wait. The store keeps nothing of the claim.
 *
 * @category models
 * @since 0.1.0
 */
export interface Busy {
  readonly _tag: "Busy"
}

/**
 * One of the claims `inside` which this one is asked for holds the key. The store keeps nothing of the new claim. A store
 * that does not look never says so; the asker then waits for itself, until its time is over.
 *
 * @category models
 * @since 0.1.0
 */
export interface AlreadyHeld {
  readonly _tag: "AlreadyHeld"
  /** The one of the claim that holds the key. */
  readonly fencingToken: bigint
}

/**
 * The claim is neither held nor queued, or is being withdrawn by the store, and its id must not be used again.
 *
 * @category models
 * @since 0.1.0
 */
export interface Gone {
  readonly _tag: "Gone"
  /**
   * Why the store gave up a claim that it had been granted, such as too few replicas. The core asks again under a fresh
   * id for a while, and fails with this after that. Without it the place was lost, and the core asks again at once.
   */
  readonly error?: LockBackendError
}

/**
 * The key is in use with another capacity. The store keeps nothing of the claim.
 *
 * @category models
 * @since 0.1.0
 */
export interface Mismatched {
  readonly _tag: "CapacityMismatch"
}

/**
 * The answer to a request.
 *
 * @category models
 * @since 0.1.0
 */
export type Answer = Granted | Queued | Busy | AlreadyHeld | Gone | Mismatched

/**
 * A claim that was granted.
 *
 * @category models
 * @since 0.1.0
 */
export interface Held {
  /** The claim as it was requested. */
  readonly claim: Claim
  /** The token of its grant. */
  readonly fencingToken: bigint
}

/**
 * What became of one claim in a renewal: it lives on (`Confirmed`, with the send time that proves it), it is nobody's
 * (`Gone`), another's (`Replaced`), it was taken away (`Revoked`), or nothing is known (`Unknown`), in which case the
 * core tries again until the deadline.
 *
 * @category models
 * @since 0.1.0
 */
export type Renewal =
  | { readonly _tag: "Confirmed"; readonly confirmedAt: bigint }
  | Gone
  | { readonly _tag: "Replaced" }
  | { readonly _tag: "Revoked" }
  | { readonly _tag: "Unknown"; readonly error: LockBackendError }

/**
 * What a withdrawal found. A store that queues its requests says `notSent` of a claim of which the backend has never heard,
 * nor will.
 *
 * @category models
 * @since 0.1.0
 */
export type Withdrawn = "released" | "cancelled" | "notHeld" | "notSent"

/**
 * A hint that a claim has been lost, before a renewal would find out.
 *
 * @category models
 * @since 0.1.0
 */
export interface Loss {
  /** The id of the claim. */
  readonly id: string
  /** Why the claim is lost, as its holder will be told. */
  readonly reason: LossReason
  /** Something keeps the others out until the claim is withdrawn: that is done once its section has ended. */
  readonly isOwed?: boolean
}

/**
 * Milliseconds that one call about a claim may take at most: a third of its `ttl`, so that there is time for another.
 *
 * @category models
 * @since 0.1.0
 */
export const callLimit = (claim: Claim): number => Timing.callTimeout(Duration.toMillis(claim.ttl))

/**
 * What a store fails with, before it writes anything, where a claim asks for what can never be had: no permits, or more
 * than the capacity. Otherwise nothing.
 *
 * @category validation
 * @since 0.1.0
 */
export const refusalOf = ({ capacity, permits }: Claim): LockBackendError | undefined => {
  const isPossible = Number.isInteger(permits) && Number.isInteger(capacity) &&
    permits >= 1 && permits <= capacity && capacity <= maxCapacity
  if (isPossible) return undefined
  const cause = new Error(`${permits} permits of ${capacity} can never be granted`)
  return new LockBackendError({ operation: "acquire", retryable: false, cause })
}

const maxCapacity = 2 ** 31 - 1

/**
 * The service that a backend implements.
 *
 * All its effects may be repeated: each is idempotent by the claim's id. Every call ends within a limit of the store's,
 * below a third of the claim's `ttl`.
 *
 * The caller's time is the caller's: a `request` and `Queued.granted` may be interrupted at any moment, by the caller or by
 * a limit of the core's, and must not keep whoever interrupts them. The core then withdraws the claim, at once.
 *
 * @category services
 * @since 0.1.0
 */
export class LockStore extends Context.Service<LockStore, {
  /**
   * Asks for a claim. With `queue` it takes a place where there is no room; with `try` it is `Busy` then. A repeat for
   * a claim that is held is `Granted` again, extended and with the same token.
   *
   * A claim outside its capacity (`refusalOf`) fails before anything is written: it could block those behind it for ever.
   *
   * It may wait in the store for its turn without failing; a `try` is answered or fails within a second of its sending.
   */
  readonly request: (claim: Claim, mode: "queue" | "try") => Effect.Effect<Answer, LockBackendError>
  /** Extends claims to a full `ttl`, never re-creating one. One answer for each, in order. */
  readonly renew: (held: ReadonlyArray<Held>) => Effect.Effect<ReadonlyArray<Renewal>>
  /**
   * Ends a claim, whatever became of it: held, queued, or a request whose answer never came and which the backend may
   * yet execute. Afterwards it is not held and never will be.
   *
   * Where a request of the claim is still under way, the order of the two is the store's to keep: behind that request's
   * answer, or at once, with a tombstone that the request meets, where the answer is lost. What never left the process needs
   * nothing, and is answered at once.
   */
  readonly withdraw: (claim: Claim) => Effect.Effect<Withdrawn, LockBackendError>
  /**
   * Set where `request` and `withdraw` end by themselves within a third of the claim's `ttl`, whatever the backend does.
   * The core puts a limit of its own around the calls of any other store, which costs a fiber each.
   */
  readonly bounded?: boolean
  /**
   * `Clock.monotonicTimeNanos` of when the server that keeps this claim's key last answered anything, whoever had asked;
   * absent where it never has. A caller whose time is over before an answer came is told `LockTimeout` where others were
   * answered meanwhile: it was the crowd that took the time. Without this, and in silence, it is a `LockBackendError`.
   */
  readonly heardAt?: (claim: Claim) => bigint | undefined
  /**
   * Where the store notes lost connections, from `StoreTelemetry.make`: an outage is then one line in the log, whether
   * the store or the locker notices it first.
   */
  readonly telemetry?: StoreTelemetry
  /** Hints of losses. Never needed for correctness: a renewal or the deadline finds them too. */
  readonly losses: Stream.Stream<Loss>
}>()("effect-dlock/LockStore") {}

/**
 * The contract between the locks and a backend.
 *
 * **When to use**
 *
 * Use to write a store for a backend. A store that passes `Conformance.cases` of `effect-dlock/testing` keeps the
 * contract.
 *
 * **Details**
 *
 * A store does the atomic changes of state, the queue, the wake-up of waiters, the fencing token, and the time limit of
 * each of its calls. The core does everything else, the same for every backend: validation, deadlines, the timing of
 * renewals, retries, errors and logs.
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
 * A request for a lock: `permits` out of `capacity` on a key.
 *
 * **Details**
 *
 * The store grants a claim when the claims that came before it, held and waiting, leave enough permits. A mutex is 1
 * permit of 1.
 *
 * @category models
 * @since 0.1.0
 */
export interface Claim {
  /** A random id: 128 bits as 22 characters of base64url. It is never used again after a withdrawal or a `Gone`. */
  readonly id: string
  /** The name of the lock at the backend: the prefix and the caller's key. */
  readonly key: string
  /** The prefix with which `key` begins, for a store that writes the two separately. */
  readonly prefix: string
  /** How many permits the claim needs: an integer from 1 to `capacity`. */
  readonly permits: number
  /** How many permits the key has: an integer from 1 to 2,147,483,647. */
  readonly capacity: number
  /** How long a confirmation is valid, counted from when it was requested. */
  readonly ttl: Duration.Duration
  /** How long the backend keeps the claim after the holder's deadline. */
  readonly guardGap: Duration.Duration
  /**
   * The name of the holder, and its metadata as JSON if it gave any (see `lease.holder`). The store keeps this text
   * with the claim.
   */
  readonly holder: string
  /**
   * The ids of the claims that enclosing sections of the caller hold through other stores. Those stores may be other
   * clients of the same backend. Absent if there are none.
   *
   * If one of these claims holds this key, the store answers `AlreadyHeld`, because the caller would wait for itself.
   */
  readonly inside?: ReadonlyArray<string>
}

/**
 * The claim is held.
 *
 * @category models
 * @since 0.1.0
 */
export interface Granted {
  readonly _tag: "Granted"
  /** The fencing token: larger than every token granted on this key before. */
  readonly fencingToken: bigint
  /** The time to live that the backend granted: at least the claim's `ttl`. */
  readonly ttl: Duration.Duration
  /** When the store *sent* the request that proves the grant, in nanoseconds of `Clock.monotonicTimeNanos`. */
  readonly confirmedAt: bigint
}

/**
 * The queue before a waiting claim, as the store knows it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Ahead {
  /**
   * The `Claim.holder` of the present holder. Absent if the store cannot know it, as for a client of another library.
   */
  readonly holder: string | undefined
  /** How many waiting claims come before this one. 0 is the head of the queue. */
  readonly place: number
  /** How many claims wait on the key, this one included. */
  readonly waiting: number
}

/**
 * The claim waits in the queue. The store keeps its place alive until the claim is granted or withdrawn.
 *
 * @category models
 * @since 0.1.0
 */
export interface Queued {
  readonly _tag: "Queued"
  /** How many waiting claims came before this one when the store answered. 0 is the head of the queue. */
  readonly place: number
  /** The queue before the claim now, as far as the store knows. It sends nothing. */
  readonly ahead: () => Ahead
  /**
   * Waits for the grant.
   *
   * It returns `Gone` if the claim lost its place, for example because this process was silent for too long. The core
   * then asks again under a new id.
   *
   * Interrupting the wait gives up nothing. Only `withdraw` ends the claim.
   */
  readonly granted: Effect.Effect<Granted | Gone, LockBackendError>
}

/**
 * Other claims hold the key, and the request was not to wait. The store keeps nothing of the claim.
 *
 * @category models
 * @since 0.1.0
 */
export interface Busy {
  readonly _tag: "Busy"
}

/**
 * One of the claims in the request's `inside` holds the key. The store keeps nothing of the new claim.
 *
 * **Gotchas**
 *
 * A store may never give this answer. Its callers then wait for themselves until their timeout.
 *
 * @category models
 * @since 0.1.0
 */
export interface AlreadyHeld {
  readonly _tag: "AlreadyHeld"
  /** The token of the claim that holds the key. */
  readonly fencingToken: bigint
}

/**
 * The claim is neither held nor queued, or the store is withdrawing it. Its id must not be used again.
 *
 * @category models
 * @since 0.1.0
 */
export interface Gone {
  readonly _tag: "Gone"
  /**
   * Why the store gave up a claim that the backend had granted, for example because too few replicas confirmed it. The
   * core asks again under a new id for a while, and then fails with this error.
   *
   * Absent if the claim lost its place. The core then asks again at once.
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
 * The answers of `LockStore.request`.
 *
 * @category models
 * @since 0.1.0
 */
export type Answer = Granted | Queued | Busy | AlreadyHeld | Gone | Mismatched

/**
 * A claim that was granted, and its token: the input of `LockStore.renew`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Held {
  /** The claim as it was requested. */
  readonly claim: Claim
  /** The fencing token of its grant. */
  readonly fencingToken: bigint
}

/**
 * The answer to the renewal of one claim.
 *
 * **Details**
 *
 * - `Confirmed`: the claim is held. `confirmedAt` is when the store sent the request that proves it, in nanoseconds of
 *   `Clock.monotonicTimeNanos`.
 * - `Gone`: the backend no longer has the claim.
 * - `Replaced`: another claim holds the key.
 * - `Revoked`: the claim was taken away.
 * - `Unknown`: the store does not know. The core tries again until the deadline.
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
 * What a withdrawal found.
 *
 * **Details**
 *
 * - `released`: the claim was held.
 * - `cancelled`: the claim was queued.
 * - `notHeld`: the backend had no such claim.
 * - `notSent`: the store had not sent the claim's request yet, so the backend never receives the claim. Only a store
 *   that queues its requests answers so.
 *
 * @category models
 * @since 0.1.0
 */
export type Withdrawn = "released" | "cancelled" | "notHeld" | "notSent"

/**
 * A hint that a claim was lost, earlier than a renewal would find it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Loss {
  /** The id of the claim. */
  readonly id: string
  /** Why the claim was lost. The holder reads it in `OwnershipLost.reason`. */
  readonly reason: LossReason
  /**
   * Whether something at the backend still keeps other claims out. The core then withdraws the claim after its section
   * has ended.
   */
  readonly isOwed?: boolean
}

/**
 * How many milliseconds one call about a claim may take: a third of its `ttl`, so that another call fits before the
 * deadline.
 *
 * @category models
 * @since 0.1.0
 */
export const callLimit = (claim: Claim): number => Timing.callTimeout(Duration.toMillis(claim.ttl))

/**
 * The error for a claim that can never be granted: it needs no permit, or more permits than the capacity. `undefined`
 * for every other claim.
 *
 * **When to use**
 *
 * Use in `request`, before the store writes anything.
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
 * **Details**
 *
 * Every effect can be repeated: the claim's id makes it idempotent. Every call must end within a limit that the store
 * sets, which is less than a third of the claim's `ttl`.
 *
 * **Gotchas**
 *
 * The caller, or a time limit of the core, may interrupt `request` and `Queued.granted` at any moment. The interruption
 * must not be delayed. The core then withdraws the claim at once.
 *
 * @category services
 * @since 0.1.0
 */
export class LockStore extends Context.Service<LockStore, {
  /**
   * Requests a claim.
   *
   * If there is no room, the mode `queue` puts the claim into the queue, and the mode `try` answers `Busy`. If the
   * claim is already held, the store extends it and answers `Granted` with the same token.
   *
   * A claim that can never be granted (see `refusalOf`) fails before the store writes anything, because in the queue it
   * could block the claims behind it for ever.
   *
   * The store may make a request wait for its turn. A `try` is answered or fails within 1 second after it was sent.
   */
  readonly request: (claim: Claim, mode: "queue" | "try") => Effect.Effect<Answer, LockBackendError>
  /**
   * Extends claims to their full `ttl`. It never creates a claim again. It returns one answer for each claim, in order.
   */
  readonly renew: (held: ReadonlyArray<Held>) => Effect.Effect<ReadonlyArray<Renewal>>
  /**
   * Ends a claim in any state: held, queued, or with a request whose answer never came and which the backend may still
   * execute. After the withdrawal the claim is not held, and it never will be.
   *
   * If a request of the claim is in flight, the store keeps the two in order. It sends the withdrawal after the answer
   * to that request. If that answer is lost, it withdraws at once and leaves a tombstone for the late request.
   *
   * A claim whose request was never sent needs no call to the backend, so the store answers at once.
   */
  readonly withdraw: (claim: Claim) => Effect.Effect<Withdrawn, LockBackendError>
  /**
   * Whether `request` and `withdraw` always end by themselves within a third of the claim's `ttl`. If not, the core
   * limits each call itself, which costs one fiber for each call.
   */
  readonly bounded?: boolean
  /**
   * When the server that keeps this claim's key last answered any caller, in nanoseconds of `Clock.monotonicTimeNanos`.
   * Absent if it never has.
   *
   * It explains a timeout that comes before the first answer. If the server answered other callers meanwhile, the load
   * took the time and the caller fails with `LockTimeout`. Otherwise, and in a store without this function, it fails
   * with `LockBackendError`.
   */
  readonly heardAt?: (claim: Claim) => bigint | undefined
  /**
   * The telemetry to which the store reports lost connections, made by `StoreTelemetry.make`. With it an outage is one
   * line in the log, whether the store or the locker notices it first.
   */
  readonly telemetry?: StoreTelemetry
  /** Hints of lost claims. Correctness never needs them, because a renewal or the deadline finds each loss too. */
  readonly losses: Stream.Stream<Loss>
}>()("effect-dlock/LockStore") {}

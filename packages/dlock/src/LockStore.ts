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
import * as Capacity from "./internal/capacity.ts"
import * as Owner from "./internal/options/owner.ts"
import * as Timing from "./internal/timing.ts"
import { LockBackendError, type LockKind, type LossReason } from "./LockError.ts"
import type { StoreTelemetry } from "./StoreTelemetry.ts"

/**
 * The capacity of every read-write lock: 2,147,483,647.
 *
 * @category models
 * @since 0.1.0
 */
export const readWriteCapacity: number = Capacity.readWriteCapacity

/**
 * A request for a lock: `permits` out of `capacity` on a key.
 *
 * **Details**
 *
 * The store grants a claim when the claims that came before it, held and waiting, leave enough permits. If the claims
 * of a semaphore disagree about its capacity, the smallest among the claims that are held and the claim itself counts.
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
  /**
   * The kind of lock. A claim of another kind than those on the key is a `CapacityMismatch`.
   *
   * - `mutex`: 1 permit of 1. Only a mutex excludes the clients of other libraries.
   * - `semaphore`: any number of permits out of a capacity. With a capacity of 1 it is still no mutex, so that its
   *   capacity can grow while a fleet is restarted.
   * - `readWrite`: 1 permit for a reader, all permits for a writer, out of `readWriteCapacity`.
   */
  readonly kind: LockKind
  /** How many permits the claim needs: an integer from 1 to `capacity`. */
  readonly permits: number
  /** How many permits the key has, as this claim knows it: an integer from 1 to 2,147,483,647. */
  readonly capacity: number
  /**
   * What to do when claims with another capacity are on the key. `fail`: answer `CapacityMismatch`. Absent: the smallest
   * capacity rules.
   */
  readonly onCapacityChange?: "fail"
  /** How long a confirmation is valid, counted from when it was requested. */
  readonly ttl: Duration.Duration
  /** How long the backend keeps the claim after the holder's deadline. */
  readonly guardGap: Duration.Duration
  /**
   * The name of the holder, its metadata as JSON if it gave any (see `lease.holder`), the span of the request if it is
   * sampled, and the names of locks that its caller already held when it asked. The store keeps this text with the claim.
   */
  readonly holder: string
  /**
   * The ids of the claims that enclosing sections of the caller hold through other stores. Those stores may be other
   * clients of the same backend. Absent if there are none.
   *
   * If one of these claims holds this key, the store answers `AlreadyHeld`, because the caller would wait for itself.
   */
  readonly inside?: ReadonlyArray<string>
  /**
   * How many other claims may wait on the key when this one comes. If more wait and there is no room, the store answers
   * `Full`, or lets the claim wait: then the core withdraws it, by its `place`. A claim that waits already stays.
   *
   * A store that can count before it lets the claim in should, because a refused claim then costs only one call. Absent:
   * any number.
   */
  readonly maxQueue?: number
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
  /** The smallest capacity of the other claims that are held, if it is not the claim's own. Only for a warning. */
  readonly capacityInUse?: number
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
  /** The smallest capacity of the claims that are held, if it is not the claim's own. Only for a warning. */
  readonly capacityInUse?: number
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
 * As many other claims wait as the claim allows (see `Claim.maxQueue`). The store keeps nothing of the claim.
 *
 * @category models
 * @since 0.1.0
 */
export interface Full {
  readonly _tag: "Full"
  /** How many claims wait on the key. */
  readonly waiting: number
  /** The `Claim.holder` of the present holder. Absent if the store cannot know it. */
  readonly holder?: string | undefined
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
 * The key is in use by another kind of lock, or with another capacity if the claim asked to fail then. The store keeps
 * nothing of the claim.
 *
 * @category models
 * @since 0.1.0
 */
export interface Mismatched {
  readonly _tag: "CapacityMismatch"
  /** The kind of the claims on the key. A client of another library counts as a mutex. */
  readonly kind: LockKind
  /** Their capacity: the smallest, if they disagree. */
  readonly inUse: number
}

/**
 * The answers of `LockStore.request`.
 *
 * @category models
 * @since 0.1.0
 */
export type Answer = Granted | Queued | Busy | Full | AlreadyHeld | Gone | Mismatched

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
 *   `Clock.monotonicTimeNanos`. With `revocation`, its holder was asked to leave, and has the rest of the grace.
 * - `Gone`: the backend no longer has the claim.
 * - `Replaced`: another claim holds the key.
 * - `Revoked`: the claim is never extended again, because its holder was asked to leave and its grace is over. It may still
 *   be there for as long as its latest confirmation is valid. With `revocation`, by whom and why.
 * - `Unknown`: the store does not know. The core tries again until the deadline.
 *
 * @category models
 * @since 0.1.0
 */
export type Renewal =
  | { readonly _tag: "Confirmed"; readonly confirmedAt: bigint; readonly revocation?: Revocation }
  | Gone
  | { readonly _tag: "Replaced" }
  | { readonly _tag: "Revoked"; readonly revocation?: Revocation }
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
 * That the holder of a lock is asked to leave (see `LockAdmin.revoke`), as the holder is told.
 *
 * @category models
 * @since 0.1.0
 */
export interface Revocation {
  /** The name of who revokes the lock. */
  readonly by: string
  /** Why, in words for people. Absent if nobody said. */
  readonly why?: string
  /** How long the holder may still stay, counted from when it is told. */
  readonly grace: Duration.Duration
}

/**
 * A hint that the holder of a claim was asked to leave (see `LockAdmin.revoke`).
 *
 * @category models
 * @since 0.1.0
 */
export interface RevocationNotice {
  /** The id of the claim. */
  readonly id: string
  readonly revocation: Revocation
}

/**
 * When a run is due: a job runs at most once within an interval, or at most once in each slot.
 *
 * @category models
 * @since 0.1.0
 */
export type Period =
  | { readonly _tag: "Interval"; readonly interval: Duration.Duration }
  /** Slots only rise: a slot is due while no run counts for it or for a later one. */
  | { readonly _tag: "Slot"; readonly slot: bigint }

/**
 * How a run ended. Only a run that succeeded may count from its success.
 *
 * @category models
 * @since 0.1.0
 */
export type RunOutcome = "succeeded" | "failed" | "interrupted"

/**
 * The last run of a job. The times are in milliseconds since 1970, by the clock of the backend, or of the process that ran if
 * the backend tells no time.
 *
 * @category models
 * @since 0.1.0
 */
export interface RunRecord {
  /** The latest slot for which a run counts. `undefined` if there is none. */
  readonly slot: bigint | undefined
  readonly startedAt: number
  /** `undefined` while it runs, and for ever if its process died. */
  readonly endedAt: number | undefined
  /** `undefined` while it runs, and for ever if its process died. */
  readonly outcome: RunOutcome | undefined
  /** The `Claim.holder` of the run. */
  readonly holder: string
}

/**
 * What a store knows of the runs of a job.
 *
 * @category models
 * @since 0.1.0
 */
export interface RunState {
  readonly isDue: boolean
  /** The time at the backend, in milliseconds since 1970. `undefined` if the backend tells no time. */
  readonly now: number | undefined
  /** `undefined` if there was no run, or its record has expired. */
  readonly last: RunRecord | undefined
}

/**
 * The part of a store that records runs, so that a job runs once per interval or slot. The record of a key outlives its claims.
 * Slots and intervals of one key count apart. The record of an interval is kept for the interval, and that of a slot for at least 90 days.
 *
 * @category models
 * @since 0.1.0
 */
export interface RunStore {
  /** Reads whether a run is due. It changes nothing. Without a period it only finds the record. */
  readonly find: (claim: Claim, period: Period | undefined) => Effect.Effect<RunState, LockBackendError>
  /**
   * Finds out, for a claim that is held, whether its run is due. If it is and the run counts from its start, the store
   * records it in the same step. A repeat gives the same answer.
   */
  readonly begin: (
    held: Held,
    period: Period,
    counts: "start" | "success"
  ) => Effect.Effect<"due" | "done" | "notHeld", LockBackendError>
  /**
   * Records how a run of a claim that is held ended. A success counts if the run counts from its success. A claim that is no
   * longer held changes nothing, and a repeat neither.
   */
  readonly end: (
    held: Held,
    period: Period,
    run: {
      readonly counts: "start" | "success"
      readonly outcome: RunOutcome
      /** How many milliseconds it took. */
      readonly elapsed: number
    }
  ) => Effect.Effect<"recorded" | "notHeld", LockBackendError>
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
 * The error for a claim that can never be granted: it needs no permit, more permits than the capacity, or permits that
 * its kind does not have. `undefined` for every other claim.
 *
 * **When to use**
 *
 * Use in `request`, before the store writes anything.
 *
 * @category validation
 * @since 0.1.0
 */
export const refusalOf = ({ capacity, kind, permits }: Claim): LockBackendError | undefined => {
  const isPossible = Number.isInteger(permits) && Number.isInteger(capacity) &&
    permits >= 1 && permits <= capacity && capacity <= readWriteCapacity && rulesOfKind[kind]?.(permits, capacity)
  if (isPossible) return undefined
  const cause = new Error(`${permits} permits of ${capacity} can never be granted to a claim of the kind "${kind}"`)
  return new LockBackendError({ operation: "acquire", retryable: false, cause })
}

const rulesOfKind: { readonly [Kind in LockKind]: (permits: number, capacity: number) => boolean } = {
  mutex: (_, capacity) => capacity === 1,
  semaphore: () => true,
  readWrite: (permits, capacity) => capacity === readWriteCapacity && (permits === 1 || permits === capacity)
}

/**
 * The name and the metadata of a `Claim.holder`, without the span of its request and the locks that its caller already held.
 *
 * **When to use**
 *
 * Use where a store groups claims by their holder. What the callers of one process hold differs, and serves only to tell
 * of a deadlock; and so does the span, which serves only to find the trace of the holder.
 *
 * @category getters
 * @since 0.1.0
 */
export const withoutHeld = (holder: string): string => Owner.withoutHeld(holder)

/**
 * Whether a claim shares its key with no other claim: a mutex, or the writer of a read-write lock.
 *
 * **When to use**
 *
 * Use in `renew`. A claim that is gone was `Replaced` if another claim holds the key and one of the two is exclusive.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isExclusive = ({ capacity, kind, permits }: Pick<Claim, "capacity" | "kind" | "permits">): boolean =>
  kind !== "semaphore" && permits === capacity

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
  /** The name of the backend in metrics, such as `redis`. Default: `custom`. */
  readonly backend?: string
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
   * Requests several claims at one instant: in each queue they come at the same moment of the order of arrival. So of any
   * two such requests the same one is first in every queue that they share, and they never wait for each other.
   *
   * The claims differ in their ids and their keys, and belong to one group (see `groupOf`). There is one answer for each
   * claim, in order. The mode `try` grants all claims or none.
   *
   * No claim is ever treated apart from the others:
   *
   * - If one of them gets `Busy`, `Full`, `AlreadyHeld` or `CapacityMismatch`, the store keeps nothing of any of them, and the
   *   answers for the others do not count.
   * - A repeated request that finds some of the claims and not all of them answers `Gone`: a missing claim never comes
   *   back at a later place. After a `Gone` the core withdraws all claims.
   * - The store never lets a later claim pass one of them, for example because a process seems to be deaf.
   *
   * Without this function the core requests the claims one after the other, in the order of their keys.
   */
  readonly requestAll?: (
    claims: ReadonlyArray<Claim>,
    mode: "queue" | "try"
  ) => Effect.Effect<ReadonlyArray<Answer>, LockBackendError>
  /**
   * The number of the claim's group. `requestAll` takes the claims of one group. The core requests the groups one after
   * the other, in the order of their numbers, which must be the same for all clients of the backend.
   *
   * Without this function all claims belong to one group.
   */
  readonly groupOf?: (claim: Claim) => number
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
   * Withdraws several claims of one group (see `groupOf`) in as few calls to the backend as it can. There is one answer for
   * each claim, in order, or the error that `withdraw` would fail with: the core withdraws such a claim again.
   *
   * Without this function the core withdraws the claims one by one, all at the same time.
   */
  readonly withdrawAll?: (claims: ReadonlyArray<Claim>) => Effect.Effect<ReadonlyArray<Withdrawn | LockBackendError>>
  /**
   * Gives back some of the permits of a claim that is held and extends it, as a renewal does. The claim keeps its place
   * and its token, and later calls about it may carry the old number of permits or the new one. `permits` is the number
   * that the claim keeps, so a repeat changes nothing. It never adds permits: waiting claims count on that.
   *
   * Without this function a write lock has no `downgrade`.
   */
  readonly shrink?: (held: Held, permits: number) => Effect.Effect<Renewal>
  /**
   * Records runs, for `Once`.
   *
   * Without it `Once` fails with an error that says so.
   */
  readonly runs?: RunStore
  /**
   * How many permits are held on the key of this claim: a snapshot, for people and gauges. It counts nothing for the
   * claim itself, and leaves nothing behind.
   */
  readonly used?: (claim: Claim) => Effect.Effect<number, LockBackendError>
  /**
   * Waits until somebody waits behind a claim that is held: until a claim is in the queue of its key which would be
   * served sooner if this one were released. A `try` is no such claim, nor is one that gets its permits at once or has
   * left the queue before.
   *
   * It ends within 50 milliseconds after that claim has its place, as long as no message is lost, and otherwise not much
   * later than the next renewal. The core interrupts it at the end of the lease.
   *
   * The core calls it at the first use of `lease.contended`. Watch and send nothing for claims of which nobody asks this.
   * Without this function `lease.contended` never completes.
   */
  readonly contended?: (held: Held) => Effect.Effect<void>
  /**
   * The claims that wait on a key, from the head of the queue, at most `most` of them. It reads the queue once and
   * changes nothing. Claims that are held are not among them.
   *
   * A caller that timed out, while it held other locks of this store, asks so for the claims that wait for those, to
   * find a deadlock. It has no time to wait for a slow answer. Without this function `LockTimeout` has no `deadlock`.
   */
  readonly waiting?: (
    on: Pick<Claim, "key" | "prefix">,
    most: number
  ) => Effect.Effect<ReadonlyArray<Pick<Claim, "kind" | "holder">>, LockBackendError>
  /**
   * Whether `request`, `withdraw` and `withdrawAll` always end by themselves within a third of the claim's `ttl`. If not,
   * the core limits each call itself, which costs one fiber for each call.
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
  /**
   * Hints of lost claims, and of claims whose holder was asked to leave. Correctness never needs them, because a renewal or
   * the deadline finds each of them too.
   */
  readonly losses: Stream.Stream<Loss | RevocationNotice>
}>()("effect-dlock/LockStore") {}

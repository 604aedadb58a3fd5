/**
 * The second contract between the locks and a backend: who holds a lock, who waits for it, and how to take it away.
 *
 * **When to use**
 *
 * Use to give a store of your own `Locker.inspect`, `Locker.list`, `Locker.watchKey`, `Locker.revoke` and
 * `Locker.breakLock`. A layer that provides a `LockStore` provides a `LockAdmin` beside it. It is optional: without it
 * those calls fail and say so, and everything else works.
 *
 * **Details**
 *
 * Nothing here is used to acquire, renew or release a lock. The id of a claim never leaves the store, because it is what a
 * release is authorized by: a hold is named by its token.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Stream from "effect/Stream"
import type { LockBackendError, LockKind } from "./LockError.ts"
import type { Claim } from "./LockStore.ts"

/**
 * The name of a lock at the backend, as a claim has it.
 *
 * @category models
 * @since 0.1.0
 */
export type LockName = Pick<Claim, "key" | "prefix">

/**
 * A claim that is held.
 *
 * @category models
 * @since 0.1.0
 */
export interface HolderState {
  /** The `Claim.holder`. Of a client of another library, what its value tells, which may be nothing. */
  readonly holder: string
  /**
   * The token of the grant: for the client of another library a number that stays the same while it holds the lock, and
   * that no other hold of the key has, as far as the backend can tell two of its holds apart.
   */
  readonly token: bigint
  /** How many permits it holds. */
  readonly permits: number
  /** When it was granted, in milliseconds since 1970 by the backend's clock. `undefined` if the backend does not know. */
  readonly since: number | undefined
  /**
   * How many milliseconds the backend keeps it if nobody renews it. `Infinity` if it never expires. `undefined` if the
   * backend does not know.
   */
  readonly expiresIn: number | undefined
  /** Whether it belongs to a client of another library. */
  readonly isForeign: boolean
  /** Whether it was asked to leave (see `LockAdmin.revoke`). */
  readonly isRevoked: boolean
}

/**
 * A claim that waits.
 *
 * @category models
 * @since 0.1.0
 */
export interface WaiterState {
  /** The `Claim.holder`. */
  readonly holder: string
  /** How many permits it needs. */
  readonly permits: number
}

/**
 * What a store knows of one lock. A free lock for which nobody waits has no kind, no holder and no waiter.
 *
 * @category models
 * @since 0.1.0
 */
export interface LockState {
  /** The name of the lock at the backend, with its prefix. */
  readonly key: string
  /** `undefined` if nobody holds the lock or waits for it. */
  readonly kind: LockKind | undefined
  /** The capacity: the smallest among those held, or of the head of the queue. `undefined` if there is no kind. */
  readonly capacity: number | undefined
  /** The first 100 holders, in the order in which they were granted or in which they expire. */
  readonly holders: ReadonlyArray<HolderState>
  /** How many claims are held. */
  readonly holderCount: number
  /** How many permits are held. */
  readonly permitsHeld: number
  /** The first 100 claims that wait, in their order. */
  readonly waiting: ReadonlyArray<WaiterState>
  /** How many claims wait. */
  readonly queueLength: number
  /** The largest token that was granted, as far as the backend remembers it. */
  readonly lastToken: bigint | undefined
}

/**
 * Who asks a holder to leave, and until when it may stay.
 *
 * @category models
 * @since 0.1.0
 */
export interface RevocationRequest {
  /** The token of the hold that is revoked. */
  readonly token: bigint
  /** How many milliseconds the holder has. From then on its claim is never extended again. */
  readonly grace: number
  /** The name of who revokes it. */
  readonly by: string
  /** Why, in words for people. */
  readonly why?: string
}

/**
 * The service for inspecting and revoking locks that a backend may implement.
 *
 * @category services
 * @since 0.1.0
 */
export class LockAdmin extends Context.Service<LockAdmin, {
  /** Reads one lock in bounded steps, whatever it holds, and changes nothing. */
  readonly inspect: (on: LockName) => Effect.Effect<LockState, LockBackendError>
  /**
   * Reads all locks that are held or waited for and whose names begin with `within.key`, in any order. A lock that is held
   * throughout is among them, at least once. No single call keeps the server busy for longer than a few milliseconds, and
   * the memory does not grow with the number of locks.
   *
   * `within.prefix` is the prefix of the locker, with which `within.key` begins.
   */
  readonly list: (within: LockName) => Stream.Stream<LockState, LockBackendError>
  /**
   * Emits each time the lock may have changed: a hold began or ended, or the queue changed. They are hints, of which
   * several may be one, and one may be lost, for example when a claim expires or a connection breaks. After an interruption
   * it goes on by itself. The first may come for no change, when the store has begun to listen.
   *
   * Without this function the core asks `inspect` again and again.
   */
  readonly changes?: (on: LockName) => Stream.Stream<void>
  /**
   * Asks the holder to leave, and forbids every extension of its claim once `grace` is over. It lets nobody in: the claim
   * ends when its holder releases it, or like that of a holder that died.
   *
   * The store tells the holder at once, by `LockStore.losses`, and again with the answers to its renewals. After the grace it
   * answers renewals of the claim, its repeated requests included, with `Revoked`.
   *
   * - `asked`: the claim is marked. A repeat with a shorter grace shortens it, and never lengthens it.
   * - `notHeld`: no claim with this token is held now. Nothing was changed.
   * - `foreign`: a client of another library holds it, which can be asked nothing. Nothing was changed.
   */
  readonly revoke: (
    on: LockName,
    request: RevocationRequest
  ) => Effect.Effect<"asked" | "notHeld" | "foreign", LockBackendError>
  /**
   * Deletes the claim with this token and lets the next one in at once, although the holder may still be at work. Returns
   * false if no claim with this token is held now.
   */
  readonly breakLock: (on: LockName, token: bigint) => Effect.Effect<boolean, LockBackendError>
}>()("effect-dlock/LockAdmin") {}

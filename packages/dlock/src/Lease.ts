/**
 * The lease: what a program holds while it holds a lock.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type { LockNotHeld, OwnershipLost } from "./LockError.ts"
import type { Revocation } from "./LockStore.ts"

/**
 * A lock that is held. `Locker.scoped` returns it, and `withLock` passes it to its program.
 *
 * **When to use**
 *
 * Use `fencingToken` in each write to the resource that the lock protects. Use `ensureHeld` right before a step that
 * must not happen after the lock was lost.
 *
 * **Gotchas**
 *
 * A process that was paused does not notice by itself that its lock is lost. `ensureHeld` and the fencing token do.
 *
 * @see {@link Lease} for reading the lease inside `withLock` as a service
 *
 * @category models
 * @since 0.1.0
 */
export interface Lease {
  /** The key as the caller gave it, without the prefix. */
  readonly key: string
  /**
   * The fencing token: larger than every token granted on this key before. Send it as a string or a 64-bit integer,
   * because a floating-point number rounds it.
   */
  readonly fencingToken: bigint
  /**
   * The name of this holder as other processes see it: the locker's `holder` option, by default the host name and the
   * process id.
   */
  readonly holder: string
  /**
   * How long one confirmation by the backend is valid. It is at least the requested `ttl`; a backend may grant more.
   */
  readonly ttl: Duration.Duration
  /**
   * `lost` as a fiber. It fails with `OwnershipLost` when the lock is lost, and it is interrupted when the lock is
   * released.
   */
  readonly renewal: Fiber.Fiber<never, OwnershipLost>
  /** Fails when the lock is lost. It never succeeds, and after a release it never ends. */
  readonly lost: Effect.Effect<never, OwnershipLost>
  /**
   * Completes when somebody waits for the lock. From then on it completes at once, whether they still wait or not.
   *
   * **When to use**
   *
   * Use in a batch job that makes room for others: `Effect.raceFirst(nextChunk, lease.contended)`, or between two chunks.
   *
   * **Details**
   *
   * The backend tells within 50 milliseconds, and after a lost message at the next renewal, about a third of the `ttl`
   * later. A call that does not wait (`…IfAvailable`) is nobody who waits. Nothing is watched before the first use.
   *
   * It never fails. After a loss or a release it completes only if it had completed before.
   */
  readonly contended: Effect.Effect<void>
  /**
   * Completes when the holder is asked to leave, with `Locker.revoke`: by whom, why, and how long it may stay. From then on
   * it completes at once.
   *
   * **When to use**
   *
   * Use to bring the work to a good end before the program is interrupted.
   *
   * **Details**
   *
   * The backend tells within 100 milliseconds, and after a lost message at the next renewal, about a third of the `ttl`
   * later. It never fails. After a loss or a release it completes only if it had completed before.
   */
  readonly revocation: Effect.Effect<Revocation>
  /** How long until the deadline, if the backend confirms nothing more. Zero after the lock was lost or released. */
  readonly remaining: Effect.Effect<Duration.Duration>
  /**
   * Fails unless the lock is held now. It only reads the clock and sends nothing, so you can run it before every write.
   */
  readonly ensureHeld: Effect.Effect<void, OwnershipLost | LockNotHeld>
  /**
   * Runs an effect and interrupts it when the lock is lost or released. It fails with `OwnershipLost` or `LockNotHeld`
   * if the lock is not held when the effect ends.
   *
   * **When to use**
   *
   * Use with a lease from `Locker.scoped`. Inside `withLock` you do not need it: losing the lock interrupts the whole
   * program.
   */
  readonly whileHeld: <A, E, R>(
    effect: Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E | OwnershipLost | LockNotHeld, R>
  /** Releases the lock now instead of when the scope closes. It never fails, and a second release does nothing. */
  readonly release: Effect.Effect<void>
}

/**
 * The lease as a service. `withLock` provides it to its program.
 *
 * **When to use**
 *
 * Use in code that must only run under a lock. Code that requires `Lease` does not compile outside a lock.
 *
 * **Example** (Read the lease from the context)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Lease, Locker, withLock } from "effect-dlock"
 *
 * const write = Effect.gen(function*() {
 *   const lease = yield* Lease
 *   yield* lease.ensureHeld
 *   return `UPDATE stock SET left = left - 1, fence = ${lease.fencingToken} WHERE fence <= ${lease.fencingToken}`
 * })
 *
 * const program = write.pipe(withLock("inventory:42"), Effect.provide(Locker.layerMemory))
 * ```
 *
 * @category services
 * @since 0.1.0
 */
export const Lease: Context.Service<Lease, Lease> = Context.Service<Lease>("effect-dlock/Lease")

/**
 * The shared lease: what a program holds while it holds permits of a semaphore or a read lock.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type { LockNotHeld, OwnershipLost } from "./LockError.ts"
import type { Revocation } from "./LockStore.ts"

/**
 * Permits of a semaphore or a read lock that are held. Others may hold the same key at the same time.
 *
 * **When to use**
 *
 * Use `ensureHeld` right before a step that must not happen after the lease was lost.
 *
 * **Details**
 *
 * It is no `Lease` and has no `fencingToken`: several holders work at the same time, so a resource cannot tell a late
 * one by comparing numbers. Code that asks for a `Lease` does not compile under permits or a read lock.
 *
 * @see {@link SharedLease} for reading the lease inside a section as a service
 *
 * @category models
 * @since 0.1.0
 */
export interface SharedLease {
  /** The key as the caller gave it, without the prefix. */
  readonly key: string
  /** How many permits are held. A read lock has 1. */
  readonly permits: number
  /** The number of the grant: larger than that of every grant on this key before. It orders grants and is no fence. */
  readonly grant: bigint
  /**
   * The name of this holder as other processes see it: the locker's `holder` option, by default the host name and the
   * process id.
   */
  readonly holder: string
  /**
   * How long one confirmation by the backend is valid. It is at least the requested `ttl`; a backend may grant more.
   */
  readonly ttl: Duration.Duration
  /** Fails when the lease is lost. It never succeeds, and after a release it never ends. */
  readonly lost: Effect.Effect<never, OwnershipLost>
  /**
   * Completes when somebody waits for the lock and would be served sooner without this lease. From then on it completes at once, whether they still wait or not.
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
  /** How long until the deadline, if the backend confirms nothing more. Zero after the lease was lost or released. */
  readonly remaining: Effect.Effect<Duration.Duration>
  /**
   * Fails unless the lease is held now. It only reads the clock and sends nothing, so you can run it before every step.
   */
  readonly ensureHeld: Effect.Effect<void, OwnershipLost | LockNotHeld>
  /**
   * Runs an effect and interrupts it when the lease is lost or released. It fails with `OwnershipLost` or `LockNotHeld`
   * if the lease is not held when the effect ends.
   *
   * **When to use**
   *
   * Use with a lease from `takeScoped` or `readLock`. Inside `withPermits` and `withReadLock` you do not need it: losing
   * the lease interrupts the whole program.
   */
  readonly whileHeld: <A, E, R>(
    effect: Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E | OwnershipLost | LockNotHeld, R>
  /** Releases the lease now instead of when the scope closes. It never fails, and a second release does nothing. */
  readonly release: Effect.Effect<void>
}

/**
 * The shared lease as a service. `withPermits` and `withReadLock` provide it to their programs.
 *
 * **When to use**
 *
 * Use in code that must only run under permits or a read lock. Code that requires `SharedLease` does not compile
 * elsewhere.
 *
 * **Example** (Read the lease from the context)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { DistributedSemaphore, Locker, SharedLease } from "effect-dlock"
 *
 * const call = Effect.gen(function*() {
 *   const lease = yield* SharedLease
 *   yield* lease.ensureHeld
 *   return `calling with ${lease.permits} permits`
 * })
 *
 * const program = Effect.gen(function*() {
 *   const api = yield* DistributedSemaphore.make("api", { permits: 25 })
 *   return yield* call.pipe(api.withPermits(2))
 * }).pipe(Effect.provide(Locker.layerMemory))
 * ```
 *
 * @category services
 * @since 0.1.0
 */
export const SharedLease: Context.Service<SharedLease, SharedLease> = Context.Service<SharedLease>(
  "effect-dlock/SharedLease"
)

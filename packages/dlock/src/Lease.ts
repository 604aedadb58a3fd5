/**
 * What the holder of a lock holds.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type { LockNotHeld, OwnershipLost } from "./LockError.ts"

/**
 * A lock that is held: what `Locker.scoped` returns, and what `withLock` gives to its program.
 *
 * Send `fencingToken` along with each write to what the lock protects, and run `ensureHeld` right before a step that must
 * not happen late.
 *
 * @category models
 * @since 0.1.0
 */
export interface Lease {
  /** The key as it was asked for, without the prefix. */
  readonly key: string
  /** Strictly larger than every token granted on this key before. Never send it as a floating-point number. */
  readonly fencingToken: bigint
  /** The holder's name as others see it: the locker's `holder`, which is host and process id unless given. */
  readonly holder: string
  /** For how long one confirmation holds, as the backend granted it: at least the `ttl` that was asked for. */
  readonly ttl: Duration.Duration
  /** `lost` as a fiber: it fails with `OwnershipLost` when the lock is lost, and is interrupted when it is released. */
  readonly renewal: Fiber.Fiber<never, OwnershipLost>
  /** Fails when the lock is lost. Never succeeds; after a release it just waits. */
  readonly lost: Effect.Effect<never, OwnershipLost>
  /** How long the lease still stands if nothing more is heard of the backend; zero once it is over. */
  readonly remaining: Effect.Effect<Duration.Duration>
  /** Fails unless the lock is held now. Reads a clock and sends nothing: cheap enough before every write. */
  readonly ensureHeld: Effect.Effect<void, OwnershipLost | LockNotHeld>
  /**
   * Runs an effect that is interrupted when the lock is lost or released, and fails if it is not held at the end.
   * For a lease of `Locker.scoped`; inside `withLock` the whole program already runs like this.
   */
  readonly whileHeld: <A, E, R>(
    effect: Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E | OwnershipLost | LockNotHeld, R>
  /** Releases now rather than when the scope closes. Never fails; a second time does nothing. */
  readonly release: Effect.Effect<void>
}

/**
 * The lease as a service. `withLock` provides it to its program, so code that asks for a `Lease` in its requirements
 * cannot run without a lock.
 *
 * **Example**
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

/**
 * The two ways to run a program under a lock.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import type { Outside } from "./internal/lease/section.ts"
import type { Program } from "./internal/mutex.ts"
import { Locker, type LockOptions, type TryLockOptions } from "./Locker.ts"
import type { AcquireError, LockTimeout, OwnershipLost } from "./LockError.ts"

/** What the section needs: a locker, and what its program needs beyond the lease and the scope that come with it. */
type Needs<R> = Locker | Outside<R>

/**
 * Runs a program under a lock: waits for it, runs the program, interrupts it when the lock is lost, and releases
 * whatever the exit. The program is an effect or a function of the lease, and may ask for the `Lease` as a service.
 *
 * **Details**
 *
 * The program runs in a scope of its own *inside* the lock: what it opens is closed before the lock is released, so
 * nothing is committed after the unlock. A success that was reached after the lease had ended is `OwnershipLost`; a
 * failure of the program's own is kept, and the loss joins it in the cause.
 *
 * A program that cannot be interrupted delays the report of the loss, not the loss: others may be in by then. Let the
 * protected resource compare `lease.fencingToken`.
 *
 * **Errors**: the program's own, `AcquireError`, and `OwnershipLost`.
 *
 * **Example**
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Locker, withLock } from "effect-dlock"
 *
 * declare const deductStock: Effect.Effect<number>
 *
 * const program = withLock("inventory:42", deductStock, { ttl: "5 seconds" }).pipe(
 *   Effect.catchTag("OwnershipLost", (lost) => Effect.logWarning(`stopped: ${lost.reason}`)),
 *   Effect.catchTag("LockTimeout", (timeout) => Effect.logWarning(`held by ${timeout.holder}`))
 * )
 *
 * const piped = deductStock.pipe(withLock("inventory:42"), Effect.provide(Locker.layerMemory))
 * ```
 *
 * @category combinators
 * @since 0.1.0
 */
export const withLock: {
  /** Runs the program that is piped in under a lock. */
  (key: string, options?: LockOptions): <A, E, R>(
    program: Program<A, E, R>
  ) => Effect.Effect<A, E | AcquireError | OwnershipLost, Needs<R>>
  /** Runs a program under a lock. */
  <A, E, R>(
    key: string,
    program: Program<A, E, R>,
    options?: LockOptions
  ): Effect.Effect<A, E | AcquireError | OwnershipLost, Needs<R>>
} = eitherWay((key, program, options) => Locker.use((locker) => locker.withLock(key, program, options)))

/**
 * Runs a program under a lock if the lock is free, and is `Option.none` at once if it is not. Everything else is as
 * with `withLock`; it never fails with `LockTimeout`.
 *
 * **When to use** it: for work that is done once by whoever comes first, such as a task that every instance schedules.
 *
 * **Example**
 *
 * ```ts
 * import { Effect, Option } from "effect"
 * import { withLockIfAvailable } from "effect-dlock"
 *
 * declare const cleanUp: Effect.Effect<number>
 *
 * const program = withLockIfAvailable("jobs/clean-up", cleanUp).pipe(
 *   Effect.flatMap(Option.match({
 *     onNone: () => Effect.log("another instance is at it"),
 *     onSome: (count) => Effect.log(`removed ${count}`)
 *   }))
 * )
 * ```
 *
 * @category combinators
 * @since 0.1.0
 */
export const withLockIfAvailable: {
  /** Runs the program that is piped in, if the lock is free. */
  (key: string, options?: TryLockOptions): <A, E, R>(
    program: Program<A, E, R>
  ) => Effect.Effect<Option.Option<A>, E | Exclude<AcquireError, LockTimeout> | OwnershipLost, Needs<R>>
  /** Runs a program, if the lock is free. */
  <A, E, R>(
    key: string,
    program: Program<A, E, R>,
    options?: TryLockOptions
  ): Effect.Effect<Option.Option<A>, E | Exclude<AcquireError, LockTimeout> | OwnershipLost, Needs<R>>
} = eitherWay((key, program, options) => Locker.use((locker) => locker.withLockIfAvailable(key, program, options)))

/** What comes second tells the two call forms apart: a program is an effect or a function, and options are neither. */
function eitherWay(
  run: (key: string, program: Program<any, any, any>, options: any) => Effect.Effect<any, any, any>
): any {
  return (key: string, second: unknown, third: unknown) =>
    Effect.isEffect(second) || typeof second === "function"
      ? run(key, second as Program<any, any, any>, third)
      : (program: Program<any, any, any>) => run(key, program, second)
}

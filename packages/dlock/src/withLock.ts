/**
 * Runs a program under a lock.
 *
 * @since 0.1.0
 */
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import { callForms } from "./internal/callForms.ts"
import type { Outside } from "./internal/lease/section.ts"
import type { Program } from "./internal/mutex.ts"
import { Locker, type LockOptions, type TryLockOptions } from "./Locker.ts"
import type { AcquireError, OwnershipLost, TryError } from "./LockError.ts"

/** What the caller must provide: a locker, and what the program needs besides the lease and its scope. */
type Needs<R> = Locker | Outside<R>

/**
 * Runs a program under a lock: waits for the lock, runs the program, interrupts it when the lock is lost, and releases
 * the lock however the program ends.
 *
 * **When to use**
 *
 * Use for work that only one process may do at a time. It is the right choice for most programs.
 *
 * **Details**
 *
 * The program is an effect, or a function that takes the lease and returns an effect. It can also read the `Lease` as a
 * service.
 *
 * The program runs in its own scope *inside* the lock. That scope closes before the lock is released, so nothing that
 * the program opened is committed after the release.
 *
 * If the program succeeds after its lease has ended, the call fails with `OwnershipLost`. If the program fails by
 * itself, its failure is kept and the loss is added to the cause.
 *
 * The call fails with the program's own errors, with `AcquireError`, or with `OwnershipLost`.
 *
 * **Gotchas**
 *
 * A program that is uninterruptible keeps running after the lock was lost, and another process may hold the lock by
 * then. Let the protected resource compare `lease.fencingToken`.
 *
 * **Example** (Run a program under a lock)
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
  /** Runs the piped program under a lock. */
  (key: string, options?: LockOptions): <A, E, R>(
    program: Program<A, E, R>
  ) => Effect.Effect<A, E | AcquireError | OwnershipLost, Needs<R>>
  /** Runs a program under a lock. */
  <A, E, R>(
    key: string,
    program: Program<A, E, R>,
    options?: LockOptions
  ): Effect.Effect<A, E | AcquireError | OwnershipLost, Needs<R>>
} = callForms(1, (key, program, options) => Locker.use((locker) => locker.withLock(key, program, options)))

/**
 * Runs a program under a lock if the lock is free. Otherwise it returns `Option.none` at once.
 *
 * **When to use**
 *
 * Use for work that one process does while the others skip it.
 *
 * **Details**
 *
 * It never fails with `LockTimeout`. Everything else is as in `withLock`.
 *
 * **Gotchas**
 *
 * It does not tell whether the work has been done: a process that comes when the first one has finished finds the lock
 * free, and does the work again. Use `Once` for a task that every instance schedules and that must run once.
 *
 * **Example** (Skip a task that another process runs)
 *
 * ```ts
 * import { Effect, Option } from "effect"
 * import { withLockIfAvailable } from "effect-dlock"
 *
 * declare const cleanUp: Effect.Effect<number>
 *
 * const program = withLockIfAvailable("jobs/clean-up", cleanUp).pipe(
 *   Effect.flatMap(Option.match({
 *     onNone: () => Effect.log("another instance runs the clean-up"),
 *     onSome: (count) => Effect.log(`removed ${count}`)
 *   }))
 * )
 * ```
 *
 * @category combinators
 * @since 0.1.0
 */
export const withLockIfAvailable: {
  /** Runs the piped program under a lock if the lock is free. */
  (key: string, options?: TryLockOptions): <A, E, R>(
    program: Program<A, E, R>
  ) => Effect.Effect<Option.Option<A>, E | TryError | OwnershipLost, Needs<R>>
  /** Runs a program under a lock if the lock is free. */
  <A, E, R>(
    key: string,
    program: Program<A, E, R>,
    options?: TryLockOptions
  ): Effect.Effect<Option.Option<A>, E | TryError | OwnershipLost, Needs<R>>
} = callForms(1, (key, program, options) => Locker.use((locker) => locker.withLockIfAvailable(key, program, options)))

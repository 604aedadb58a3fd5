/**
 * Runs a program under several locks.
 *
 * @since 0.1.0
 */
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import { callForms } from "./internal/callForms.ts"
import type { Outside } from "./internal/lease/section.ts"
import type { ProgramOfAll as Program } from "./internal/mutex.ts"
import type { Want } from "./internal/options/wants.ts"
import type { Leases } from "./Leases.ts"
import { Locker, type LockOptions, type TryLockOptions } from "./Locker.ts"
import type { AcquireError, OwnershipLost, TryError } from "./LockError.ts"

/** What the caller must provide: a locker, and what the program needs besides the leases and its scope. */
type Needs<R> = Locker | Outside<R, Leases>

/**
 * Runs a program under several locks: waits for all of them, runs the program, interrupts it when one of them is lost,
 * and releases them however the program ends.
 *
 * **When to use**
 *
 * Use for work that touches several things at once, such as a transfer between two accounts, instead of one `withLock`
 * inside another: two callers that nest their locks in different orders wait for each other for ever.
 *
 * **Details**
 *
 * A want is the key of a mutex, or permits, a read lock or a write lock made with `Want`. At most 64 of them.
 *
 * All locks are asked for at one instant, so of two callers that share several locks, the same one is first in each
 * queue. Nobody waits in a circle, and each lock is as fair as it is alone. While a caller waits for one lock, it
 * already keeps others out of those that it has.
 *
 * Either all locks are held or none. `timeout` limits the wait for all of them; the `LockTimeout` names the first lock
 * that was still missing, its holder, and how many locks were there. If a lock is lost during the wait, nothing has
 * run, so all are asked for anew within the same timeout.
 *
 * The program is an effect, or a function that takes the leases and returns an effect. It can also read the `Leases` as
 * a service. Everything else is as in `withLock`.
 *
 * **Gotchas**
 *
 * On a Redis Cluster only keys of the same hash slot can be asked for at one instant. The slots are asked for one after
 * the other, in their order. Give keys that belong together a common hash tag, such as `{shop}:stock`.
 *
 * **Example** (Transfer between two accounts)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Locker, withLocks } from "effect-dlock"
 *
 * declare const transfer: (from: string, to: string) => Effect.Effect<void>
 *
 * const program = transfer("1", "2").pipe(
 *   withLocks(["account:1", "account:2"], { timeout: "5 seconds" }),
 *   Effect.catchTag("LockTimeout", (timeout) =>
 *     Effect.logWarning(`${timeout.acquired} of ${timeout.wanted}, and ${timeout.key} is held by ${timeout.holder}`))
 * )
 *
 * const withTokens = withLocks(["account:1", "account:2"], (leases) => Effect.log(leases.tokenOf("account:1")))
 *
 * Effect.runFork(program.pipe(Effect.andThen(withTokens), Effect.provide(Locker.layerMemory)))
 * ```
 *
 * @category combinators
 * @since 0.1.0
 */
export const withLocks: {
  /** Runs the piped program under several locks. */
  (wants: ReadonlyArray<string | Want>, options?: LockOptions): <A, E, R>(
    program: Program<A, E, R>
  ) => Effect.Effect<A, E | AcquireError | OwnershipLost, Needs<R>>
  /** Runs a program under several locks. */
  <A, E, R>(
    wants: ReadonlyArray<string | Want>,
    program: Program<A, E, R>,
    options?: LockOptions
  ): Effect.Effect<A, E | AcquireError | OwnershipLost, Needs<R>>
} = callForms(1, (wants, program, options) => Locker.use((locker) => locker.withLocks(wants, program, options)))

/**
 * Runs a program under several locks if all are available. Otherwise it returns `Option.none` at once, and holds none.
 *
 * **Details**
 *
 * It never fails with `LockTimeout`. Everything else is as in `withLocks`. It does not tell whether the work has been
 * done before: see `Once`.
 *
 * **Example** (Skip work on things that are in use)
 *
 * ```ts
 * import { Effect, Option } from "effect"
 * import { withLocksIfAvailable } from "effect-dlock"
 *
 * declare const merge: Effect.Effect<void>
 *
 * const program = withLocksIfAvailable(["shard:1", "shard:2"], merge).pipe(
 *   Effect.tap((merged) => Option.isNone(merged) ? Effect.log("a shard is in use") : Effect.void)
 * )
 * ```
 *
 * @category combinators
 * @since 0.1.0
 */
export const withLocksIfAvailable: {
  /** Runs the piped program under several locks if all are available. */
  (wants: ReadonlyArray<string | Want>, options?: TryLockOptions): <A, E, R>(
    program: Program<A, E, R>
  ) => Effect.Effect<Option.Option<A>, E | TryError | OwnershipLost, Needs<R>>
  /** Runs a program under several locks if all are available. */
  <A, E, R>(
    wants: ReadonlyArray<string | Want>,
    program: Program<A, E, R>,
    options?: TryLockOptions
  ): Effect.Effect<Option.Option<A>, E | TryError | OwnershipLost, Needs<R>>
} = callForms(
  1,
  (wants, program, options) => Locker.use((locker) => locker.withLocksIfAvailable(wants, program, options))
)

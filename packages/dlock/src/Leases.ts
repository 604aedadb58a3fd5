/**
 * The leases: what a program holds while it holds several locks.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type { LockNotHeld, OwnershipLost } from "./LockError.ts"
import type { Revocation } from "./LockStore.ts"

/**
 * Several locks that are held together. `Locker.scopedAll` returns them, and `withLocks` passes them to its program.
 *
 * **When to use**
 *
 * Use `tokenOf` in each write to a resource that one of the locks protects. Use `ensureHeld` right before a step that
 * must not happen after one of the locks was lost.
 *
 * **Details**
 *
 * They end as one: as soon as one lock is lost, the leases are lost. The other locks are kept until the program has
 * ended.
 *
 * @see {@link Leases} for reading the leases inside `withLocks` as a service
 *
 * @category models
 * @since 0.1.0
 */
export interface Leases {
  /** The keys as the caller gave them, each once, in the order in which it named them first. */
  readonly keys: ReadonlyArray<string>
  /**
   * The fencing token of a mutex or a write lock: larger than every token granted on this key before. On etcd it is the
   * same for all keys that were acquired together.
   *
   * It throws for a key that is not among `keys`, and for permits and read locks, which have no fencing token.
   */
  readonly tokenOf: (key: string) => bigint
  /**
   * The name of this holder as other processes see it: the locker's `holder` option, by default the host name and the
   * process id.
   */
  readonly holder: string
  /** Fails when one of the locks is lost. It never succeeds, and after a release it never ends. */
  readonly lost: Effect.Effect<never, OwnershipLost>
  /** Completes when somebody waits for one of the locks, see `Lease.contended`. */
  readonly contended: Effect.Effect<void>
  /** Completes when the holder is asked to give back one of the locks, see `Lease.revocation`. */
  readonly revocation: Effect.Effect<Revocation>
  /** How long until the first deadline, if the backend confirms nothing more. Zero after a loss or the release. */
  readonly remaining: Effect.Effect<Duration.Duration>
  /**
   * Fails unless all locks are held now. It only reads the clock and sends nothing, so you can run it before every write.
   */
  readonly ensureHeld: Effect.Effect<void, OwnershipLost | LockNotHeld>
  /**
   * Runs an effect and interrupts it when one of the locks is lost, or all are released. It fails with `OwnershipLost` or
   * `LockNotHeld` if not all are held when the effect ends.
   *
   * **When to use**
   *
   * Use with leases from `Locker.scopedAll`. Inside `withLocks` you do not need it: a loss interrupts the whole program.
   */
  readonly whileHeld: <A, E, R>(
    effect: Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E | OwnershipLost | LockNotHeld, R>
  /** Releases all locks now instead of when the scope closes. It never fails, and a second release does nothing. */
  readonly release: Effect.Effect<void>
}

/**
 * The leases as a service. `withLocks` provides them to its program.
 *
 * **When to use**
 *
 * Use in code that must only run under several locks. Code that requires `Leases` does not compile outside of them.
 *
 * **Example** (Read the leases from the context)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Leases, Locker, withLocks } from "effect-dlock"
 *
 * const book = Effect.gen(function*() {
 *   const leases = yield* Leases
 *   yield* leases.ensureHeld
 *   return leases.keys.map((key) => `UPDATE accounts SET fence = ${leases.tokenOf(key)} WHERE id = '${key}'`)
 * })
 *
 * const program = book.pipe(withLocks(["account:1", "account:2"]), Effect.provide(Locker.layerMemory))
 * ```
 *
 * @category services
 * @since 0.1.0
 */
export const Leases: Context.Service<Leases, Leases> = Context.Service<Leases>("effect-dlock/Leases")

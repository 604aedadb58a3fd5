/**
 * What a caller of `withLocks` wants of each lock.
 *
 * @since 0.1.0
 */
import type { DistributedSemaphore } from "./DistributedSemaphore.ts"
import { readWriteCapacity } from "./internal/capacity.ts"
import { type Want as Opaque, Wanting } from "./internal/options/wants.ts"
import type { ReadWriteLock } from "./ReadWriteLock.ts"

/**
 * What a caller wants of one lock. Make it with the functions of the constant `Want`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Want extends Opaque {}

/**
 * Makes wants for `withLocks` and `Locker.scopedAll`.
 *
 * **Details**
 *
 * A semaphore and a read-write lock must be made with the same locker as the call.
 *
 * **Example** (One tenant at a time, within a cap for all tenants)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { DistributedSemaphore, Locker, ReadWriteLock, Want, withLocks } from "effect-dlock"
 *
 * declare const call: Effect.Effect<string>
 *
 * const program = Effect.gen(function*() {
 *   const api = yield* DistributedSemaphore.make("api", { permits: 25 })
 *   const catalogue = yield* ReadWriteLock.make("catalogue")
 *   return yield* call.pipe(withLocks(["tenant:7", Want.permits(api, 2), Want.read(catalogue)]))
 * }).pipe(Effect.provide(Locker.layerMemory))
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const Want = {
  /** The mutex of a key. A plain string means the same. */
  lock: (key: string): Want => new Wanting(key, 1, "mutex"),
  /** Permits of a semaphore. Default: 1. */
  permits: (semaphore: DistributedSemaphore, permits = 1): Want => new Wanting(semaphore, permits, "semaphore"),
  /** A read lock. */
  read: (lock: ReadWriteLock): Want => new Wanting(lock, 1, "readWrite"),
  /** A write lock. */
  write: (lock: ReadWriteLock): Want => new Wanting(lock, readWriteCapacity, "readWrite")
}

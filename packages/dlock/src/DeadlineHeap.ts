/**
 * Runs a callback when the first of many items is due, with one timer for all items.
 *
 * **When to use**
 *
 * Use in a store that must act on many things at their own times, such as refreshing places in queues or renewing
 * leases, without a timer or a fiber for each of them.
 *
 * **Details**
 *
 * The heap reads Effect's `Clock`, so a test controls its time with `TestClock`.
 *
 * **Example** (Refresh places in a queue)
 *
 * ```ts
 * import { Effect } from "effect"
 * import * as DeadlineHeap from "effect-dlock/DeadlineHeap"
 *
 * interface Place extends DeadlineHeap.Item {
 *   readonly key: string
 * }
 *
 * declare const refresh: (place: Place) => void
 *
 * const program = Effect.scoped(Effect.gen(function*() {
 *   const heap = yield* DeadlineHeap.make<Place>((now) => {
 *     for (let next = heap.peek(); next !== undefined && next.dueAt <= now; next = heap.peek()) {
 *       refresh(next)
 *       heap.schedule(next, now + 1_000)
 *     }
 *   })
 *   heap.schedule({ key: "inventory:42", dueAt: 0, index: -1 }, heap.now() + 1_000)
 *   yield* Effect.never
 * }))
 * ```
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import type * as Scope from "effect/Scope"
import { DeadlineHeap, type Item } from "./internal/scheduling/deadlineHeap.ts"
import * as Time from "./internal/scheduling/time.ts"
import * as Log from "./internal/telemetry/log.ts"

export {
  /**
   * A heap of items, ordered by the time at which each is due.
   *
   * **Details**
   *
   * `schedule` adds an item, or moves it to another time. `remove` takes it out. `peek` returns the item that is due
   * first.
   *
   * @category models
   * @since 0.1.0
   */
  type DeadlineHeap,
  /**
   * An item of a `DeadlineHeap`.
   *
   * **Gotchas**
   *
   * The heap writes both fields. Create an item with `index: -1`, and then change it only with `schedule` and `remove`.
   *
   * @category models
   * @since 0.1.0
   */
  type Item
}

/**
 * Makes a heap. Closing the scope stops its timer.
 *
 * **Details**
 *
 * The heap calls `onDue` with the current time when the first item is due. `onDue` must take every due item out with
 * `remove`, or move it to a later time with `schedule`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <A extends Item>(
  onDue: (now: number) => void
): Effect.Effect<DeadlineHeap<A>, never, Scope.Scope> =>
  Effect.gen(function*() {
    const time = yield* Time.make
    const fork = yield* FiberSet.makeRuntime<never>()
    return new DeadlineHeap<A>(time, fork, yield* Log.make, onDue)
  })

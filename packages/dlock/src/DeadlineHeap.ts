/**
 * What has a next time, behind one timer: for a store that looks after much (places in queues, leases) without a timer or
 * a fiber for each. It keeps time by Effect's `Clock`, so that a test owns it.
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
   * Items by their next time: `schedule` adds or moves one, `remove` takes it out.
   *
   * @category models
   * @since 0.1.0
   */
  type DeadlineHeap,
  /**
   * Something with a next time, in milliseconds of monotonic time. Both fields are the heap's to write; an item that is
   * in none begins with `index: -1`.
   *
   * @category models
   * @since 0.1.0
   */
  type Item
}

/**
 * A heap that ends with its scope. `onDue` is called with the time when the first item is due; it takes what is due by
 * `peek` and `remove`, or `schedule`.
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

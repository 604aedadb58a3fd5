import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import { timerBroke } from "../telemetry/events.ts"
import type { Log } from "../telemetry/log.ts"
import type { Time } from "./time.ts"

/** An item of a `DeadlineHeap`. The heap writes both fields. */
export interface Item {
  /** When the item is due, in milliseconds of monotonic time. */
  dueAt: number
  /** The item's index in the heap, or -1 if it is not in a heap. */
  index: number
}

/**
 * A binary heap of items, ordered by the time at which each is due, with one timer. Each item knows its index, so that
 * moving or removing one is as cheap as adding it.
 *
 * The timer is re-armed as rarely as possible. Scheduling a later item leaves it alone. Removing the last item keeps it
 * for up to `linger` milliseconds, so that a tight loop of acquire and release arms it 10 times a second instead of
 * every time. An empty heap has no timer.
 */
export class DeadlineHeap<A extends Item> {
  private readonly heap: Array<A> = []
  private timer: Fiber.Fiber<void> | undefined
  private timerAt = Infinity
  private firing = false
  private lingers = true

  private readonly time: Time
  private readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  private readonly log: Log
  private readonly onDue: (now: number) => void

  constructor(
    time: Time,
    fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>,
    log: Log,
    /**
     * Called when the first item is due. It must take every due item out with `remove`, or move it to a later time with
     * `schedule`.
     */
    onDue: (now: number) => void
  ) {
    this.time = time
    this.fork = fork
    this.log = log
    this.onDue = onDue
  }

  /** The current time, in milliseconds of monotonic time. */
  now(): number {
    return this.time.now()
  }

  /** How many items are in the heap. */
  get size(): number {
    return this.heap.length
  }

  /** The item that is due first. `undefined` if the heap is empty. */
  peek(): A | undefined {
    return this.heap[0]
  }

  /** All items, in no particular order. Later changes of the heap change this array. */
  items(): ReadonlyArray<A> {
    return this.heap
  }

  /** Adds an item, or moves it to another time. The time is in milliseconds of monotonic time. */
  schedule(item: A, at: number): void {
    const earlier = at < item.dueAt
    item.dueAt = at
    if (item.index === -1) {
      item.index = this.heap.length
      this.heap.push(item)
      this.up(item)
    } else if (earlier) this.up(item)
    else this.down(item)
    const first = this.heap[0]!.dueAt
    if (this.firing || first >= this.timerAt) return
    // A single item may be removed soon, so the timer first fires after `linger`, and only then at the item's time.
    this.arm(this.lingers && this.heap.length === 1 ? Math.min(first, this.time.now() + linger) : first)
  }

  /** Takes an item out. Does nothing if it is not in the heap. */
  remove(item: A): void {
    if (item.index === -1) return
    const last = this.heap.pop()!
    if (last !== item) {
      last.index = item.index
      this.heap[item.index] = last
      this.up(last)
      this.down(last)
    }
    item.index = -1
    if (this.heap.length === 0 && (!this.lingers || this.timerAt > this.time.now() + linger)) this.disarm()
  }

  /**
   * Stops the timer of an empty heap from now on at once instead of after `linger`, because no short-lived items will
   * follow.
   */
  settle(): void {
    this.lingers = false
    if (this.heap.length === 0) this.disarm()
  }

  private arm(at: number): void {
    this.disarm()
    this.timerAt = at
    const wait = Math.max(1, at - this.time.now())
    this.timer = this.fork(Effect.andThen(this.time.sleep(wait), Effect.sync(() => this.fire())))
  }

  private disarm(): void {
    const timer = this.timer
    this.timer = undefined
    this.timerAt = Infinity
    timer?.interruptUnsafe()
  }

  private fire(): void {
    this.timer = undefined
    this.timerAt = Infinity
    const now = this.time.now()
    this.firing = true
    try {
      if (this.heap.length > 0 && this.heap[0]!.dueAt <= now) this.onDue(now)
    } catch (defect) {
      timerBroke(this.log, defect)
    }
    this.firing = false
    if (this.heap.length > 0) this.arm(this.heap[0]!.dueAt)
  }

  private up(item: A): void {
    let index = item.index
    while (index > 0) {
      const parent = this.heap[(index - 1) >> 1]!
      if (parent.dueAt <= item.dueAt) break
      parent.index = index
      this.heap[index] = parent
      index = (index - 1) >> 1
    }
    item.index = index
    this.heap[index] = item
  }

  private down(item: A): void {
    const length = this.heap.length
    let index = item.index
    while (true) {
      const left = 2 * index + 1
      if (left >= length) break
      const right = left + 1
      const child = right < length && this.heap[right]!.dueAt < this.heap[left]!.dueAt ? right : left
      const least = this.heap[child]!
      if (item.dueAt <= least.dueAt) break
      least.index = index
      this.heap[index] = least
      index = child
    }
    item.index = index
    this.heap[index] = item
  }
}

const linger = 100

import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import { timerBroke } from "../telemetry/events.ts"
import type { Log } from "../telemetry/log.ts"
import type { Time } from "./time.ts"

/** Something with a next time, kept in a heap. Both fields are the heap's to write. */
export interface Item {
  dueAt: number
  /** Its index in the heap, -1 while it is in none. */
  index: number
}

/**
 * Items by their next time, behind one timer: a binary heap in which each item knows its place, so that one can be
 * moved or removed as cheaply as it was added.
 *
 * The timer is lazy both ways. An item that is due later than the timer fires never touches it, and a short-lived item
 * that goes leaves it standing for `linger` at most, so a tight loop of acquire and release arms it ten times a second
 * rather than at every turn, and an idle locker has none.
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
    /** Called when the first item is due; it takes what is due, with `peek` and `remove` or `schedule`. */
    onDue: (now: number) => void
  ) {
    this.time = time
    this.fork = fork
    this.log = log
    this.onDue = onDue
  }

  /** The time that items are scheduled by. */
  now(): number {
    return this.time.now()
  }

  get size(): number {
    return this.heap.length
  }

  peek(): A | undefined {
    return this.heap[0]
  }

  items(): ReadonlyArray<A> {
    return this.heap
  }

  /** Adds the item, or moves it. */
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
    // A lone item may be gone in a moment: the timer looks again after `linger` before it settles for its time.
    this.arm(this.lingers && this.heap.length === 1 ? Math.min(first, this.time.now() + linger) : first)
  }

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

  /** Leaves no timer standing from now on where nothing is due: the short-lived are over. */
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

import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import { callBack } from "../telemetry/callBack.ts"
import { observerThrew } from "../telemetry/events.ts"
import type { Log } from "../telemetry/log.ts"
import { DeadlineHeap, type Item } from "./deadlineHeap.ts"
import type { Time } from "./time.ts"

/** What `Effect.uninterruptibleMask` hands out. */
export type Restore = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>

class Limit implements Item {
  index = -1
  dueAt = 0
  /** This process stood still when it was due. */
  wasStalled = false
  readonly onDue: () => void
  constructor(onDue: () => void) {
    this.onDue = onDue
  }
}

/**
 * The timeouts of a locker's calls, behind one timer. `Effect.timeout` races two fibers, which on the uncontended path is most
 * of what a lock costs.
 */
export class CallTimeouts {
  private readonly heap: DeadlineHeap<Limit>
  private readonly time: Time
  private readonly log: Log
  readonly bounded: boolean
  /** When it was last checked which calls have timed out: what came in until then has been read. */
  lookedAt = -Infinity

  constructor(
    time: Time,
    /** Whether the calls end by themselves, whatever the backend does. */
    bounded: boolean,
    /** Outlives the locker: what is released after the locker has gone is limited too. */
    fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>,
    log: Log
  ) {
    this.time = time
    this.bounded = bounded
    this.log = log
    this.heap = new DeadlineHeap<Limit>(time, fork, log, (now) => {
      this.lookedAt = now
      for (let next = this.heap.peek(); next !== undefined && next.dueAt <= now; next = this.heap.peek()) {
        const late = now - next.dueAt
        this.heap.remove(next)
        if (late < stall || next.wasStalled) next.onDue()
        else {
          next.wasStalled = true
          this.heap.schedule(next, now + Math.min(late, mostGrace))
        }
      }
    })
  }

  /**
   * The effect, or the other one where it takes longer; it is interrupted then, and not waited for. Where its caller is
   * in an uninterruptible region, the effect still is not; the caller leaves it alone, unless there is a `restore`.
   */
  readonly limit = <A, E>(
    effect: Effect.Effect<A, E>,
    millis: number,
    otherwise: Effect.Effect<A, E>,
    restore?: Restore
  ): Effect.Effect<A, E> =>
    Effect.flatMap(
      Effect.forkDetach(effect, { startImmediately: true }),
      (fiber) => {
        const exit = fiber.pollUnsafe()
        if (exit !== undefined) return exit
        if (millis <= 0) {
          fiber.interruptUnsafe()
          return otherwise
        }
        const ended = this.end(fiber, millis, otherwise)
        return restore === undefined
          ? ended
          : Effect.onInterrupt(restore(ended), () => Effect.sync(() => fiber.interruptUnsafe()))
      }
    )

  /** The same for a call that has its own limit where the store is `bounded`: there it is the net that costs. */
  readonly limitUnlessBounded = <A, E>(
    call: Effect.Effect<A, E>,
    millis: number,
    otherwise: Effect.Effect<A, E>,
    restore?: Restore
  ): Effect.Effect<A, E> => {
    if (!this.bounded) return this.limit(call, millis, otherwise, restore)
    return restore === undefined ? call : restore(call)
  }

  private end<A, E>(
    fiber: Fiber.Fiber<A, E>,
    millis: number,
    otherwise: Effect.Effect<A, E>
  ): Effect.Effect<A, E> {
    return Effect.callback((resume) => {
      let isOver = false
      const limit = new Limit(() => {
        isOver = true
        // The store hears of it before whatever is asked of it next.
        fiber.interruptUnsafe()
        callBack(this, () => resume(otherwise))
      })
      this.heap.schedule(limit, this.time.now() + millis)
      fiber.addObserver((exit) => {
        if (isOver) return
        this.heap.remove(limit)
        // Who waits runs on within this, and may come to its end: an observer of it must not reach the store's thread.
        callBack(this, () => resume(exit))
      })
      return Effect.sync(() => {
        this.heap.remove(limit)
        fiber.interruptUnsafe()
      })
    })
  }

  observerThrew(error: unknown): void {
    observerThrew(this.log, error)
  }

  /** Leaves no timer behind where nothing is limited any more. */
  close(): void {
    this.heap.settle()
  }
}

/**
 * Milliseconds by which a timer is late where this process stood still, or its thread was busy. What came meanwhile has not
 * been read then, nor has an answer to it been sent: there is as much time again for that, within a limit.
 */
const stall = 2
const mostGrace = 50

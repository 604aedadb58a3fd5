import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import { callBack } from "../telemetry/callBack.ts"
import { observerThrew } from "../telemetry/events.ts"
import type { Log } from "../telemetry/log.ts"
import { DeadlineHeap, type Item } from "./deadlineHeap.ts"
import type { Time } from "./time.ts"

/** The function that `Effect.uninterruptibleMask` passes to its callback. */
export type Restore = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>

class Limit implements Item {
  index = -1
  dueAt = 0
  /** Whether this process was paused when the limit was due. */
  wasStalled = false
  readonly onDue: () => void
  constructor(onDue: () => void) {
    this.onDue = onDue
  }
}

/**
 * The timeouts of a locker's calls, behind one timer. `Effect.timeout` races two fibers, which without contention is
 * most of the cost of a lock.
 */
export class CallTimeouts {
  private readonly heap: DeadlineHeap<Limit>
  private readonly time: Time
  private readonly log: Log
  readonly bounded: boolean
  /** When it last checked which calls have timed out. Everything that arrived before has been read. */
  lookedAt = -Infinity

  constructor(
    time: Time,
    /** Whether every call ends by itself, whatever the backend does. */
    bounded: boolean,
    /** These fibers outlive the locker, because releases after its end have timeouts too. */
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
   * Returns the effect's result, or interrupts the effect after `millis` and returns `otherwise` without waiting for
   * the interruption.
   *
   * In an uninterruptible region the effect is interruptible all the same, because it runs in its own fiber. The caller
   * can be interrupted only if it passes the region's `restore`.
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

  /**
   * Like `limit`, but it adds no timer for a `bounded` store, whose calls already have a limit. There the timer would
   * be most of the cost.
   */
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
        // The store must see the interruption before it gets the next call.
        fiber.interruptUnsafe()
        callBack(this, () => resume(otherwise))
      })
      this.heap.schedule(limit, this.time.now() + millis)
      fiber.addObserver((exit) => {
        if (isOver) return
        this.heap.remove(limit)
        // The waiting fiber continues within this callback, and an observer of its end may throw. That must not reach
        // the store.
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

  /** Stops the timer as soon as no call has a timeout. */
  close(): void {
    this.heap.settle()
  }
}

/**
 * Milliseconds. A timer that is later than `stall` shows that this process was paused or its thread was busy. The
 * messages of that time have not been read, and the answers to them have not been sent. The calls get as much time
 * again, at most `mostGrace`.
 */
const stall = 2
const mostGrace = 50

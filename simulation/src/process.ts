import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Metric from "effect/Metric"
import * as References from "effect/References"
import * as Scheduler from "effect/Scheduler"
import { Random } from "./random.ts"
import { millis, type Timeline } from "./timeline.ts"

/** Microseconds. */
const mostGrace = millis(50)

/** What an observer of a fiber throws. It comes out of the call that resumed the fiber. */
export class Thrown extends Error {}

/** An observer may throw: that is its program's business. What the library leaves undone because of it is not. */
export const guarded = (callback: () => void): void => {
  try {
    callback()
  } catch (error) {
    if (!(error instanceof Thrown)) throw error
  }
}

/**
 * A process of the world: its own clock, its own event loop, and the fibers that run on it. It does not use
 * `TestClock`, for three reasons. Each process has its own clock, with an offset and a rate. A process can be paused
 * while its clock goes on, and then all that was due happens at once. And fibers run on a loop that the world drives,
 * without promises or real timers: thousands of seeds a minute, each the same every time.
 */
export class Process {
  readonly index: number
  readonly clock: Clock.Clock
  /** Fibers that have begun and not ended. */
  fibers = 0
  /** Timers that have been set and have not fired. */
  timers = 0
  dead = false
  paused = false
  /**
   * How often it has been paused, how many microseconds that has cost, and the end of the last pause. After a pause its
   * timers wait until it has handled what came meanwhile, so the same time counts again, up to a limit.
   */
  pauses = 0
  pausedFor = 0
  resumedAt = -1
  /** Its wall clock has been set forward. */
  wallJumped = false
  readonly defects: Array<string> = []

  private readonly timeline: Timeline
  private readonly random: Random
  private readonly offset: number
  private readonly rate: number
  private wallOffset: number
  private pausedAt = 0
  private wakes = false
  private readonly lateTimers: Array<() => void> = []
  private readonly lateMessages: Array<() => void> = []
  private tasks: Array<{ readonly priority: number; readonly run: () => void }> = []
  private readonly context: Context.Context<never>

  constructor(timeline: Timeline, seed: number, index: number, drifts: boolean) {
    this.timeline = timeline
    this.index = index
    this.random = Random.of(seed, 1, index)
    this.offset = this.random.between(0, 1_000_000_000)
    this.rate = drifts ? 1 + (this.random.next() - 0.5) / 50 : 1
    this.wallOffset = this.random.between(0, 1_000_000)
    this.clock = new ProcessClock(this)
    const scheduler: Scheduler.Scheduler = {
      executionMode: "async",
      shouldYield: (fiber) => fiber.currentOpCount >= 2_048,
      makeDispatcher: () => ({
        scheduleTask: (run, priority) => void this.tasks.push({ priority, run }),
        flush: () => this.drain()
      })
    }
    this.context = Context.empty().pipe(
      Context.add(Clock.Clock, this.clock),
      Context.add(Scheduler.Scheduler, scheduler),
      Context.add(References.MinimumLogLevel, "None"),
      Context.add(Metric.FiberRuntimeMetrics, {
        recordFiberStart: () => void this.fibers++,
        recordFiberEnd: (_, exit) => {
          this.fibers--
          if (Exit.isFailure(exit)) this.lookForDefects(exit)
        }
      })
    ) as Context.Context<never>
  }

  private lookForDefects(exit: Exit.Failure<unknown, unknown>): void {
    for (const reason of exit.cause.reasons) {
      if (reason._tag !== "Die") continue
      const { defect } = reason
      this.defects.push(defect instanceof Error ? defect.stack ?? defect.message : String(defect))
    }
  }

  /** Its monotonic clock, in microseconds. */
  monotonic(): number {
    return Math.floor(this.offset + this.timeline.now * this.rate)
  }

  /** Its wall clock, in milliseconds. */
  wall(): number {
    return 1_800_000_000_000 + this.wallOffset + Math.floor(this.monotonic() / 1_000)
  }

  jump(ms: number): void {
    this.wallOffset += ms
    if (ms > 0) this.wallJumped = true
  }

  /** A timer like Node's: whole milliseconds, at least one, and a little early or late against the clock. */
  timer(ms: number, callback: () => void): () => void {
    this.timers++
    let waits = true
    const over = () => {
      if (!waits) return
      waits = false
      this.timers--
    }
    const jitter = this.random.between(-900, 1_000)
    const micros = Math.max(100, millis(Math.max(1, Math.floor(ms))) / this.rate + jitter)
    const fire = () => {
      if (!waits) return
      over()
      callback()
    }
    const event = this.timeline.in(micros, () => {
      if (this.dead || !waits) return
      if (this.paused) this.lateTimers.push(fire)
      else this.turn(fire)
    })
    return () => {
      over()
      this.timeline.cancel(event)
    }
  }

  /**
   * Calls back when it has handled all that has arrived by now. It is not a timer, so it does not keep the process
   * alive.
   */
  afterReading(callback: () => void): () => void {
    let wanted = true
    this.timeline.in(0, () =>
      this.deliver(() => {
        if (wanted) callback()
      }))
    return () => {
      wanted = false
    }
  }

  /** Delivers a message from outside. */
  deliver(message: () => void): void {
    if (this.dead) return
    if (this.paused) this.lateMessages.push(message)
    else this.turn(message)
  }

  /** Runs an effect on this process. */
  run<A, E>(effect: Effect.Effect<A, E>): Fiber.Fiber<A, E> {
    const fiber = Effect.runForkWith(this.context)(effect)
    this.drain()
    return fiber
  }

  /** Pauses for so many microseconds. */
  pause(duration: number): void {
    if (this.paused || this.dead) return
    this.paused = true
    this.pauses++
    this.pausedAt = this.timeline.now
    this.timeline.in(duration, () => this.resume())
  }

  /** All that was due meanwhile happens at once. The seed decides whether timers or messages come first. */
  private resume(): void {
    if (!this.paused || this.dead) return
    this.paused = false
    const stoodStill = this.timeline.now - this.pausedAt
    this.pausedFor += stoodStill + Math.min(stoodStill, mostGrace)
    this.resumedAt = this.timeline.now
    const timers = this.lateTimers.splice(0)
    const messages = this.lateMessages.splice(0)
    const due = this.random.chance(0.5) ? [...timers, ...messages] : [...messages, ...timers]
    this.wakes = true
    for (const callback of due) guarded(callback)
    this.wakes = false
    this.drain()
  }

  /** Ends it without any clean-up. */
  crash(): void {
    this.dead = true
    this.tasks = []
  }

  private turn(callback: () => void): void {
    guarded(callback)
    // At the end of a pause, tasks of fibers run only after all that was due has been handled.
    if (!this.wakes) this.drain()
  }

  /** Runs the tasks of fibers by priority until none is left: one turn of the loop. */
  private drain(): void {
    let count = 0
    while (this.tasks.length > 0 && !this.dead) {
      const batch = this.tasks
      this.tasks = []
      if (batch.length > 1) batch.sort((a, b) => a.priority - b.priority)
      for (const { run } of batch) guarded(run)
      if ((count += batch.length) > 100_000) throw new Error(`process ${this.index} does not come to rest`)
    }
  }
}

class ProcessClock implements Clock.Clock {
  private readonly process: Process

  constructor(process: Process) {
    this.process = process
  }

  currentTimeMillisUnsafe(): number {
    return this.process.wall()
  }
  currentTimeNanosUnsafe(): bigint {
    return BigInt(this.process.wall()) * 1_000_000n
  }
  monotonicTimeNanosUnsafe(): bigint {
    return BigInt(this.process.monotonic()) * 1_000n
  }
  readonly currentTimeMillis = Effect.sync(() => this.currentTimeMillisUnsafe())
  readonly currentTimeNanos = Effect.sync(() => this.currentTimeNanosUnsafe())
  readonly monotonicTimeNanos = Effect.sync(() => this.monotonicTimeNanosUnsafe())

  sleep(duration: Duration.Duration): Effect.Effect<void> {
    const ms = Duration.toMillis(duration)
    if (ms <= 0) return Effect.yieldNow
    if (!Number.isFinite(ms)) return Effect.never
    return Effect.callback((resume) => {
      const cancel = this.process.timer(ms, () => resume(Effect.void))
      return Effect.sync(cancel)
    })
  }
}

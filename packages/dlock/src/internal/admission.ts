import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import { LockBackendError } from "../LockError.ts"
import { about } from "./options/request.ts"
import type { Time } from "./scheduling/time.ts"
import { callBack } from "./telemetry/callBack.ts"
import type { Events } from "./telemetry/events.ts"

/**
 * A call that waits to be admitted. There may be very many, so each is small. It is gone after it was resumed, or after
 * its fiber has ended.
 */
interface Waiting {
  readonly key: string
  readonly fiber: Fiber.Fiber<unknown, unknown>
  readonly inside: Effect.Effect<any, any, any>
  resume: ((next: Effect.Effect<any, any, any>) => void) | undefined
  /**
   * When a hasty call came: a call that must fail within 1 second if the backend answers nobody. Absent for other
   * calls.
   */
  readonly since: number | undefined
}

/**
 * Limits how many acquires of a locker ask the store at a time. The others wait here in their order, and each costs
 * little more than its fiber. Each answer admits another. So 100,000 acquires at once neither fill the memory nor keep
 * the thread from renewing the held locks. While a renewal is overdue, no acquire is admitted.
 */
export class Admission {
  private readonly time: Time
  private readonly events: Events
  private readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  /**
   * How many acquires were admitted since the last check, and between the last two checks. An acquire that was admitted
   * earlier no longer counts.
   */
  private fresh = 0
  private stale = 0
  private looks = 0
  private isAdmitting = false
  /** Whether `admit` will run again in the next turn of the thread. */
  private isToAdmit = false
  private outside: Array<Waiting> = []
  private first = 0
  private answeredAt = 0
  private hasHasty = false
  private isWatched = false
  private isClosed: (now: number) => boolean = () => false

  constructor(time: Time, events: Events, fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>) {
    this.time = time
    this.events = events
    this.fork = fork
  }

  /**
   * Whether a call with this many milliseconds may go in at once. A later call never overtakes the waiting calls,
   * except a call with almost no time, while there is room.
   */
  isOpen(now: number, time: number): boolean {
    if (!this.hasRoom) return false
    return time < shortest || (this.waiting === 0 && !this.isClosed(now))
  }

  private get hasRoom(): boolean {
    return this.fresh + this.stale < most
  }

  /** How many calls wait, including those that are gone but have not been removed from the array. */
  get waiting(): number {
    return this.outside.length - this.first
  }

  /** For how many milliseconds no admitted call was answered. It is only measured while calls wait. */
  silence(now: number): number {
    return this.waiting === 0 ? 0 : now - this.answeredAt
  }

  /** Sets the condition while which no call is admitted. Call `admit` when the condition ends. */
  closeWhile(isClosed: (now: number) => boolean): void {
    this.isClosed = isClosed
  }

  /** Admits a call. The caller passes the returned number to `leave`. */
  enter(): number {
    this.fresh++
    return this.looks
  }

  /** Waits for a turn, and then runs `inside`. Fails if the backend has not answered any admitted call for long. */
  wait<A, E, R>(
    key: string,
    isHasty: boolean,
    inside: Effect.Effect<A, E, R>
  ): Effect.Effect<A, E | LockBackendError, R> {
    return Effect.withFiber((fiber) =>
      Effect.callback<A, E | LockBackendError, R>((resume) => {
        this.outside.push({ key, fiber, inside, resume, since: isHasty ? this.time.now() : undefined })
        if (isHasty) this.hasHasty = true
        if (this.isWatched) return
        this.isWatched = true
        this.answeredAt = this.time.now()
        this.fork(this.watch)
      })
    )
  }

  /** Ends the admission of a call that `enter` admitted with this number. */
  leave(look: number, isAnswered: boolean): void {
    if (look === this.looks) this.fresh--
    else if (look === this.looks - 1) this.stale--
    if (this.waiting === 0) return
    if (isAnswered) this.answeredAt = this.time.now()
    this.admit()
  }

  /**
   * Admits waiting calls while there is room.
   *
   * An admitted call runs at once, within this method, and may leave and come back. The outermost `admit` then
   * continues, so that calls do not nest, and it stops after a limited number, so that it does not keep the thread for
   * ever. A call that has given up takes no room.
   */
  admit(): void {
    if (this.isAdmitting || this.waiting === 0) return
    this.isAdmitting = true
    let left = most
    while (this.hasRoom && left > 0 && !this.isClosed(this.time.now())) {
      const next = this.next()
      if (next === undefined) break
      left--
      this.goOn(next, next.inside)
    }
    this.isAdmitting = false
    if (left > 0 || this.isToAdmit) return
    this.isToAdmit = true
    this.fork(Effect.andThen(
      Effect.yieldNow,
      Effect.sync(() => {
        this.isToAdmit = false
        this.admit()
      })
    ))
  }

  /** Fails all waiting calls at once. */
  turnAway(error: LockBackendError): void {
    const all = this.outside.slice(this.first)
    this.outside = []
    this.first = 0
    for (const waiting of all) {
      if (!hasGone(waiting)) this.goOn(waiting, Effect.fail(about(waiting.key)(error)))
    }
  }

  private turnAwayHasty(now: number): void {
    this.hasHasty = false
    const end = this.outside.length
    const hasty: Array<Waiting> = []
    for (let index = this.first; index < end; index++) {
      const waiting = this.outside[index]!
      if (hasGone(waiting) || waiting.since === undefined) continue
      if (now - waiting.since < haste) this.hasHasty = true
      else hasty.push(waiting)
    }
    for (const waiting of hasty) this.goOn(waiting, Effect.fail(about(waiting.key)(silent)))
  }

  /** Resumes a waiting call, which runs at once. */
  private goOn(waiting: Waiting, next: Effect.Effect<any, any, any>): void {
    const { key, resume } = waiting
    waiting.resume = undefined
    callBack(this.events, () => resume?.(next), key)
  }

  private next(): Waiting | undefined {
    while (this.waiting > 0) {
      const waiting = this.outside[this.first++]!
      if (this.waiting === 0 || this.first === longestPast) this.forgetPast()
      if (!hasGone(waiting)) return waiting
    }
    return undefined
  }

  private forgetPast(): void {
    this.outside.splice(0, this.first)
    this.first = 0
  }

  private readonly watch: Effect.Effect<void> = Effect.gen({ self: this }, function*() {
    while (this.waiting > 0) {
      const sleptFrom = this.time.now()
      yield* this.time.sleep(glance)
      // The thread was busy during this time, so it could not receive an answer.
      this.answeredAt += this.time.now() - sleptFrom - glance
      // Calls that stay inside for long may wait for one server of several, which says nothing about what the waiting
      // calls need. So they no longer count.
      this.looks++
      this.stale = this.fresh
      this.fresh = 0
      this.admit()
      const now = this.time.now()
      if (this.hasHasty && now - this.answeredAt >= haste) this.turnAwayHasty(now)
      if (now - this.answeredAt < patience) continue
      this.turnAway(silent)
    }
    this.isWatched = false
  })
}

const hasGone = ({ fiber, resume }: Waiting): boolean => resume === undefined || fiber.pollUnsafe() !== undefined

/**
 * How many calls may be inside. This many keep any backend busy, and cost about 0.02 to 0.05 seconds of this thread's
 * time.
 */
const most = 2_000

/**
 * Milliseconds without an answer after which all waiting calls fail. No admitted call is repeated for longer than this.
 */
const patience = 5_000

/**
 * Milliseconds without an answer after which hasty calls fail. Together with `glance`, the time between two checks,
 * that is within 1 second.
 */
const haste = 700
const glance = 250

/** Milliseconds. A busy thread runs its timers with about this delay. */
const shortest = 200

const longestPast = 10_000

const silent = new LockBackendError({
  operation: "acquire",
  retryable: true,
  cause: new Error("the backend answered none of the earlier requests in time")
})

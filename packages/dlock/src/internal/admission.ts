import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import { LockBackendError } from "../LockError.ts"
import { about } from "./options/request.ts"
import type { Time } from "./scheduling/time.ts"
import { callBack } from "./telemetry/callBack.ts"
import type { Events } from "./telemetry/events.ts"

/** One that waits to be admitted: a crowd of these must be cheap. Once resumed, or once its fiber has ended, it has gone. */
interface Waiting {
  readonly key: string
  readonly fiber: Fiber.Fiber<unknown, unknown>
  readonly inside: Effect.Effect<any, any, any>
  resume: ((next: Effect.Effect<any, any, any>) => void) | undefined
  /** When one came that is to be told within a second that nobody is answered; absent for the others. */
  readonly since: number | undefined
}

/**
 * Lets so many acquires at a time ask their backend. A crowd that comes at once waits outside, in its order, each for
 * little more than its fiber: what an answer sets free goes in, so that a hundred thousand neither fill the memory nor
 * keep the thread from the renewals of what is held. While one of those is overdue, nobody goes in.
 */
export class Admission {
  private readonly time: Time
  private readonly events: Events
  private readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  /** Who has gone in since the last look, and between that and the one before; who is inside for longer counts no more. */
  private fresh = 0
  private stale = 0
  private looks = 0
  private isAdmitting = false
  /** Others are let in with the next turn of the thread. */
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
   * Whether one more may go in at once, who has so many milliseconds. Nobody who comes later goes before those who wait,
   * but for those who have next to no time, while there is room.
   */
  isOpen(now: number, time: number): boolean {
    if (!this.hasRoom) return false
    return time < shortest || (this.waiting === 0 && !this.isClosed(now))
  }

  private get hasRoom(): boolean {
    return this.fresh + this.stale < most
  }

  /** How many wait here, those included who have gone and not been passed over yet. */
  get waiting(): number {
    return this.outside.length - this.first
  }

  /** For how many milliseconds nobody inside has been answered, which is counted while somebody waits here. */
  silence(now: number): number {
    return this.waiting === 0 ? 0 : now - this.answeredAt
  }

  /** Nobody goes in while that is so; `admit` is to be called when it is over. */
  closeWhile(isClosed: (now: number) => boolean): void {
    this.isClosed = isClosed
  }

  /** Returns what is to be shown when leaving. */
  enter(): number {
    this.fresh++
    return this.looks
  }

  /** Waits for a turn to go in, and goes on. Fails where the backend has answered nobody inside for long. */
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

  /** One that came in at that look has come out, and whether with an answer. */
  leave(look: number, isAnswered: boolean): void {
    if (look === this.looks) this.fresh--
    else if (look === this.looks - 1) this.stale--
    if (this.waiting === 0) return
    if (isAnswered) this.answeredAt = this.time.now()
    this.admit()
  }

  /**
   * Who is let in runs on at once, and may come out within that, and ask again: then the outermost call goes on, not one in
   * the other, and not for ever in one turn of the thread. Who has given up meanwhile never comes in, and takes no room.
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

  /** Tells all who are outside now, and at once, that they are not let in any more. */
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

  /** It runs on at once. */
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
      // While this thread was busy it could not hear an answer.
      this.answeredAt += this.time.now() - sleptFrom - glance
      // What those wait for who are inside for long, such as one server of several, is not what all outside want.
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

/** Enough to keep any backend busy; a few hundredths of a second of this thread's time. */
const most = 2_000

/** Milliseconds, as long as one inside is asked for at most. */
const patience = 5_000

/** The same for one that is not to wait: with the time between two looks it is told within a second. */
const haste = 700
const glance = 250

/** Milliseconds in which a thread that is busy gets to its timers, about. */
const shortest = 200

const longestPast = 10_000

const silent = new LockBackendError({
  operation: "acquire",
  retryable: true,
  cause: new Error("the backend answered none of the earlier requests in time")
})

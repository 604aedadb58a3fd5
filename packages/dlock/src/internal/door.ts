import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import { LockBackendError } from "../LockError.ts"
import { callBack } from "./log.ts"
import type { Time } from "./time.ts"

/** One that waits at the door; without `admit` it has gone. */
interface Waiting {
  admit: ((outcome: Effect.Effect<void, LockBackendError>) => void) | undefined
  /** When one came that is to be told within a second that nobody is answered; absent for the others. */
  readonly since: number | undefined
}

/**
 * Lets so many acquires at a time ask their backend. A crowd that comes at once waits outside, in its order, each for
 * little more than its fiber: what an answer sets free goes in, so that a hundred thousand neither fill the memory nor
 * keep the thread from the renewals of what is held.
 */
export class Door {
  private readonly time: Time
  private readonly fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  /** Who has gone in since the last look, and between that and the one before; who is inside for longer counts no more. */
  private fresh = 0
  private stale = 0
  private looks = 0
  /** Let in, and on their way. */
  private coming = 0
  private isAdmitting = false
  private outside: Array<Waiting> = []
  private first = 0
  private answeredAt = 0
  private hasHasty = false
  private isWatched = false

  constructor(time: Time, fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>) {
    this.time = time
    this.fork = fork
  }

  /** Whether one more may go in at once. Nobody who comes later goes before those who wait. */
  get isOpen(): boolean {
    return this.fresh + this.stale < most && this.first === this.outside.length
  }

  /** Returns what is to be shown when leaving. */
  enter(): number {
    this.fresh++
    if (this.coming > 0) this.coming--
    return this.looks
  }

  /** Waits for a turn to go in. Fails where the backend has answered nobody inside for long. */
  wait(isHasty: boolean): Effect.Effect<void, LockBackendError> {
    return Effect.callback((resume) => {
      const waiting: Waiting = { admit: resume, since: isHasty ? this.time.now() : undefined }
      this.outside.push(waiting)
      if (isHasty) this.hasHasty = true
      if (!this.isWatched) {
        this.isWatched = true
        this.answeredAt = this.time.now()
        this.fork(this.watch)
      }
      return Effect.sync(() => {
        waiting.admit = undefined
      })
    })
  }

  /** One that came in at that look has come out, and whether with an answer. */
  leave(look: number, isAnswered: boolean): void {
    if (look === this.looks) this.fresh--
    else if (look === this.looks - 1) this.stale--
    if (this.first === this.outside.length) return
    if (isAnswered) this.answeredAt = this.time.now()
    this.admit()
  }

  /** Who is let in runs on at once, and may come out within that: then the outermost call goes on, not one in the other. */
  private admit(): void {
    if (this.isAdmitting) return
    this.isAdmitting = true
    while (this.fresh + this.stale + this.coming < most) {
      const next = this.next()
      if (next === undefined) break
      this.coming++
      callBack(() => next(Effect.void))
    }
    this.isAdmitting = false
  }

  /** Tells all who are outside, and at once, that nobody is let in any more. */
  turnAway(error: LockBackendError): void {
    for (let next = this.next(); next !== undefined; next = this.next()) {
      const tell = next
      callBack(() => tell(Effect.fail(error)))
    }
  }

  private turnAwayHasty(now: number): void {
    this.hasHasty = false
    const end = this.outside.length
    const hasty: Array<NonNullable<Waiting["admit"]>> = []
    for (let index = this.first; index < end; index++) {
      const waiting = this.outside[index]!
      if (waiting.admit === undefined || waiting.since === undefined) continue
      if (now - waiting.since < haste) this.hasHasty = true
      else {
        hasty.push(waiting.admit)
        waiting.admit = undefined
      }
    }
    for (const tell of hasty) callBack(() => tell(Effect.fail(silent)))
  }

  private next(): Waiting["admit"] {
    while (this.first < this.outside.length) {
      const { admit } = this.outside[this.first++]!
      if (this.first === this.outside.length || this.first === longestPast) this.forgetPast()
      if (admit !== undefined) return admit
    }
    return undefined
  }

  private forgetPast(): void {
    this.outside.splice(0, this.first)
    this.first = 0
  }

  private readonly watch: Effect.Effect<void> = Effect.gen({ self: this }, function*() {
    while (this.first < this.outside.length) {
      const sleptFrom = this.time.now()
      yield* this.time.sleep(glance)
      // While this thread was busy it could not hear an answer.
      this.answeredAt += this.time.now() - sleptFrom - glance
      // What those wait for who are inside for long, such as one server of several, is not what all outside want.
      this.looks++
      this.stale = this.fresh
      this.fresh = 0
      // Whose turn it was may have given up in that moment.
      this.coming = 0
      this.admit()
      const now = this.time.now()
      if (this.hasHasty && now - this.answeredAt >= haste) this.turnAwayHasty(now)
      if (now - this.answeredAt < patience) continue
      this.turnAway(silent)
    }
    this.isWatched = false
  })
}

/** Enough to keep any backend busy; a few hundredths of a second of this thread's time. */
const most = 2_000

/** Milliseconds, as long as one inside is asked for at most. */
const patience = 5_000

/** The same for one that is not to wait: with the time between two looks it is told within a second. */
const haste = 700
const glance = 250

const longestPast = 10_000

const silent = new LockBackendError({
  operation: "acquire",
  retryable: true,
  cause: new Error("no answer in time to those who asked before")
})

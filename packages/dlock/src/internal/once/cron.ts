import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Lease } from "../../Lease.ts"
import { type AcquireError, LockTimeout, OwnershipLost, type TryError } from "../../LockError.ts"
import type { TryLockOptions } from "../../LockOptions.ts"
import type { Period, RunState } from "../../LockStore.ts"
import type { Engine } from "../engine.ts"
import type { Outside } from "../lease/section.ts"
import * as Log from "../telemetry/log.ts"
import type { Counts } from "./records.ts"
import { run } from "./run.ts"
import type { Ticks } from "./ticks.ts"

/** A job with a schedule. */
export interface Job<A, E, R> {
  readonly key: string
  readonly ticks: Ticks
  readonly counts: Counts
  /** Whether the last tick that nobody ran, because nobody was there, is run late. */
  readonly catchesUp: boolean
  readonly program: Effect.Effect<A, E, R> | ((lease: Lease, tick: DateTime.Utc) => Effect.Effect<A, E, R>)
  readonly options: TryLockOptions | undefined
}

/** A failure of the job itself, told apart from those of its lock. */
class JobFailed {
  readonly cause: Cause.Cause<unknown>
  constructor(cause: Cause.Cause<unknown>) {
    this.cause = cause
  }
}

/**
 * Runs a job at each tick of its schedule in one of the processes, for ever. What goes wrong in one run is logged, and
 * the next tick comes all the same. It fails only with what no later attempt could mend.
 */
export const loop = Effect.fnUntraced(function*<A, E, R>(
  engine: Engine,
  { catchesUp, counts, key, options, program, ticks }: Job<A, E, R>
): Effect.fn.Return<never, TryError, Outside<R>> {
  const records = yield* engine.records(key, options, "try")
  const log = yield* Log.make
  let isToldOfClock = false
  let isFailing = false
  const tellOfClock = (text: string): void => {
    if (!isToldOfClock) log.warn(`${text} (logged once for each job)`, { key })
    isToldOfClock = true
  }

  const slotOf = (tick: number): Period => ({ _tag: "Slot", slot: BigInt(tick) })

  /**
   * Runs the job for a tick, unless another process does. It tries until the next tick while the cause may go away.
   * Returns whether the next tick is owed, although it has passed: the process that had the lock meanwhile died, so that
   * no run was in the way of it.
   */
  const attempt = (tick: number, next: number): Effect.Effect<boolean, TryError, Outside<R>> => {
    const again = (
      error: AcquireError | OwnershipLost,
      pause = shortPause
    ): Effect.Effect<boolean, TryError, Outside<R>> =>
      Effect.flatMap(Clock.currentTimeMillis, (now) => {
        if (!isFailing) log.warn(`The job did not run, and is tried again: ${error.message}`, { key })
        isFailing = true
        return now + pause >= next ? notOwed : Effect.andThen(Effect.sleep(pause), attempt(tick, next))
      })
    const isLate = lateness(ttlOf(tick, next))
    return Effect.flatMap(records.find(slotOf(tick)), (state) => {
      const early = earlyBy(state, tick, next)
      if (early > 0) {
        tellOfClock("This clock is ahead of the backend's, so the job waits until its time is near")
        return Effect.flatMap(
          Effect.andThen(Effect.sleep(Math.min(longestSleep, early)), Clock.currentTimeMillis),
          // A clock that has been set back may show an earlier tick as the next one.
          (now) => now < tick ? notOwed : attempt(tick, next)
        )
      }
      if (state.isDue) return runAt(tick, next)
      if (state.last?.slot !== undefined && Number(state.last.slot) > next) {
        tellOfClock("The last run of the job was for a time that is still to come by this clock: is a clock wrong?")
      }
      return Effect.map(Clock.currentTimeMillis, (now) => isOwed(state, next, now, isLate))
    }).pipe(
      Effect.tap(() => Effect.sync(() => void (isFailing = false))),
      // An interruption that arrives here is the job's own: one of this loop runs no handler.
      Effect.catchCause((cause): Effect.Effect<boolean, TryError, Outside<R>> => {
        const error = errorOfLock(cause)
        if (error === undefined) {
          return Effect.as(Effect.sync(() => log.error("The job failed", ofJob(cause), { key })), false)
        }
        // The run of another process lasts too long.
        if (error instanceof LockTimeout) return notOwed
        if (error instanceof OwnershipLost) {
          // The run took too long, which is its own failure.
          return error.reason === "MaxHold"
            ? Effect.as(Effect.sync(() => log.error("The job failed", cause, { key })), false)
            : again(error)
        }
        if (error._tag !== "LockBackendError") return Effect.fail(error)
        // An operator may mend what a repeat cannot, such as a password or a full disk. A locker that has closed stays closed.
        return error.retryable
          ? again(error)
          : Effect.andThen(engine.records(key, options, "try"), again(error, longPause))
      })
    )
  }

  /** A process that dies with the lock must not keep the job from more than its own tick. */
  const ttlOf = (tick: number, next: number): Duration.Input =>
    options?.ttl ?? Math.min(Duration.toMillis(engine.settings.ttl), Math.max(leastTtl, (next - tick) / 4))

  const runAt = (
    tick: number,
    next: number
  ): Effect.Effect<boolean, AcquireError | OwnershipLost | JobFailed, Outside<R>> =>
    Effect.gen(function*() {
      const now = yield* Clock.currentTimeMillis
      const ttl = ttlOf(tick, next)
      const isLate = lateness(ttl)
      const terms = { ...options, ttl, timeout: Math.max(next - now, longestDeath(ttl)) }
      let begunAt = 0
      const body = (lease: Lease) =>
        Effect.catchCause(
          Effect.flatMap(Clock.currentTimeMillis, (now) => {
            begunAt = now
            return Effect.isEffect(program) ? program : program(lease, DateTime.makeUnsafe(tick))
          }),
          (cause) =>
            Cause.hasInterruptsOnly(cause)
              ? Effect.failCause(cause as Cause.Cause<never>)
              : Effect.fail(new JobFailed(cause))
        )
      const ran = yield* run(engine, records, {
        key,
        period: slotOf(tick),
        counts,
        program: body,
        options: terms,
        mode: "queue"
      })
      if (Option.isSome(ran)) return isLate(begunAt, next)
      const end = yield* Clock.currentTimeMillis
      if (end < next) return false
      const state = yield* records.find(slotOf(next))
      // A run that has no end although its lock is free has died.
      const hasDied = state.isDue && state.last !== undefined && state.last.outcome === undefined
      return isOwed(state, next, end, isLate) || (hasDied && isLate(end, next))
    })

  const start = yield* Clock.currentTimeMillis
  const last = ticks.atOrBefore(start)
  // The record of an older tick may have expired, so it may have been run.
  let tick = catchesUp && start - last < longestAbsence ? last : ticks.after(start)
  let attempted: number | undefined
  while (true) {
    tick = yield* nextOf(ticks, tick, attempted)
    attempted = tick
    const next = ticks.after(tick)
    const isOwed = yield* attempt(tick, next)
    const now = yield* Clock.currentTimeMillis
    if (isOwed || next > now) tick = next
    else tick = catchesUp ? ticks.atOrBefore(now) : ticks.after(now)
  }
})

const notOwed = Effect.succeed(false)

/** Reads a cause in which nothing but the lock failed. */
const errorOfLock = <E>(cause: Cause.Cause<E | JobFailed>): E | undefined => {
  const errors = cause.reasons.flatMap((reason) => Cause.isFailReason(reason) ? [reason.error] : [])
  const isAll = errors.length > 0 && errors.length === cause.reasons.length
  return isAll && !errors.some((error) => error instanceof JobFailed) ? errors[0] as E : undefined
}

/** What went wrong in the job and its finalizers. */
const ofJob = (cause: Cause.Cause<unknown>): Cause.Cause<unknown> =>
  Cause.fromReasons(cause.reasons.flatMap((reason) => {
    const value = Cause.isFailReason(reason) ? reason.error : Cause.isDieReason(reason) ? reason.defect : undefined
    return value instanceof JobFailed ? value.cause.reasons : [reason]
  }))

type IsLate = (begunAt: number, next: number) => boolean

/**
 * Whether a run began after the next tick, and not later than the death of a holder could make it. What is later than that
 * was late by itself: its machine slept, or its clock was set ahead.
 */
const lateness = (ttl: Duration.Input): IsLate => (begunAt, next) =>
  begunAt >= next && begunAt <= next + longestDeath(ttl)

/**
 * Whether a tick that has passed is still to be run: the last run began only after that tick, so it was no run that was
 * in the way.
 */
const isOwed = ({ last, now: backendsNow }: RunState, tick: number, now: number, isLate: IsLate): boolean => {
  if (now < tick || last?.slot === undefined || last.slot >= BigInt(tick)) return false
  const ahead = backendsNow === undefined ? 0 : now - backendsNow
  return isLate(last.startedAt + ahead, tick)
}

/**
 * How many milliseconds a process that died can keep a lock from those who wait, with the slowness of a backend. Whoever has
 * it for longer is at work.
 */
const longestDeath = (ttl: Duration.Input): number => 2 * Duration.toMillis(ttl) + 2_000

/**
 * How many milliseconds too early a tick is by the backend's clock, if that tells the time. A clock that is far ahead
 * would use up slots whose time has not come, and silence all others until then.
 */
const earlyBy = ({ now }: RunState, tick: number, next: number): number =>
  now === undefined ? 0 : tick - now - Math.min(mostEarly, (next - tick) / 2)

/**
 * Sleeps until the wall clock shows the tick, and returns it. If the clock is set back meanwhile, so that another tick comes
 * before, that one is awaited and returned instead, but not the one that was attempted last.
 */
const nextOf = (ticks: Ticks, tick: number, attempted: number | undefined): Effect.Effect<number> =>
  Effect.flatMap(Clock.currentTimeMillis, (now) => {
    if (now >= tick) return Effect.succeed(tick)
    const first = ticks.after(now)
    const awaited = first < tick && first !== attempted ? first : tick
    return Effect.andThen(Effect.sleep(Math.min(longestSleep, awaited - now)), nextOf(ticks, awaited, attempted))
  })

/** Milliseconds. */
const longestSleep = 60_000
const mostEarly = 60_000
const shortPause = 250
const longPause = 5_000
const leastTtl = 1_000
/** 60 days. Stores keep the record of a slot for at least 90. */
const longestAbsence = 60 * 24 * 60 * 60 * 1_000

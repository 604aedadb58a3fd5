import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"

/**
 * The clock of a locker, in milliseconds with fractions. Every deadline is monotonic; this is the one file that reads
 * the wall clock, and only to notice a machine that slept: monotonic time stands still meanwhile, wall time does not.
 */
export interface Time {
  readonly now: () => number
  /** By how much wall time is ahead of monotonic time, which is `now`. Only differences of it mean anything. */
  readonly wallClockLead: (now?: number) => number
  /** For whole milliseconds, never for less than asked: a timer that is early by a fraction would be set twice. */
  readonly sleep: (millis: number) => Effect.Effect<void>
}

export const make: Effect.Effect<Time> = Effect.map(Clock.clockWith(Effect.succeed), (clock) => {
  const now = () => fromNanos(clock.monotonicTimeNanosUnsafe())
  return {
    now,
    wallClockLead: (at = now()) => clock.currentTimeMillisUnsafe() - at,
    sleep: (millis) => clock.sleep(Duration.millis(Math.ceil(millis)))
  }
})

/**
 * In steps of 1/1024 ms: sums and differences of such numbers are exact, so that the time left until a deadline is a
 * whole number of milliseconds where it should be, and a timer set for it is not late by a rounding.
 */
export const fromNanos = (nanos: bigint): number => Math.floor(Number(nanos) / 1_000_000 * 1024) / 1024

import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"

/**
 * The clock of a locker, in milliseconds with fractions.
 *
 * Every deadline uses the monotonic clock. Only this file reads the wall clock, to notice that the machine slept: the
 * wall clock runs on during a sleep, and the monotonic clock may not.
 */
export interface Time {
  readonly now: () => number
  /** The wall clock minus the monotonic clock. Only differences of two such values mean anything. */
  readonly wallClockLead: (now?: number) => number
  /**
   * Sleeps for `millis`, rounded up to a whole number: a timer that fires a fraction too early would have to be set
   * again.
   */
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
 * Rounds to 1/1024 ms. Sums and differences of such numbers are exact, so that the time until a deadline is a whole
 * number of milliseconds where it should be, and no rounding makes its timer late.
 */
export const fromNanos = (nanos: bigint): number => Math.floor(Number(nanos) / 1_000_000 * 1024) / 1024

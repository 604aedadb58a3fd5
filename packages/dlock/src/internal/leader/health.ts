import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import type { Time } from "../scheduling/time.ts"
import * as Timing from "../timing.ts"

/** Whether a program is well. Only `true` is a yes. */
export type Check = Effect.Effect<boolean, unknown>

/**
 * Asks a check again and again, and ends when it has not said yes for `ttl` milliseconds. A check that fails, dies or takes
 * too long has not said yes. There is always one more check at the end, so that a pause of this process does not count
 * against the program.
 */
export const untilUnhealthy = Effect.fnUntraced(function*(check: Check, ttl: number, time: Time) {
  let healthyAt = time.now()
  let pause = Timing.healthCheckAfter(ttl)
  while (true) {
    yield* time.sleep(pause)
    const left = healthyAt + ttl - time.now()
    const longest = Math.max(Timing.healthRetryAfter(ttl), Math.min(Timing.healthCheckAfter(ttl), left))
    const isHealthy = yield* answer(check, longest, time)
    const now = time.now()
    if (isHealthy) {
      healthyAt = now
      pause = Timing.healthCheckAfter(ttl)
    } else {
      if (now - healthyAt >= ttl) return
      pause = Math.min(Timing.healthRetryAfter(ttl), healthyAt + ttl - now)
    }
  }
})

/** Asks once. A check that ignores its interruption is not awaited. */
const answer = (check: Check, longest: number, time: Time): Effect.Effect<boolean> =>
  Effect.flatMap(
    Effect.forkDetach(check, { startImmediately: true }),
    (fiber) =>
      Effect.raceFirst(Effect.asSome(Fiber.await(fiber)), Effect.as(time.sleep(longest), Option.none())).pipe(
        Effect.map((exit) => Option.isSome(exit) && Exit.isSuccess(exit.value) && exit.value.value === true),
        Effect.ensuring(Effect.sync(() => fiber.interruptUnsafe()))
      )
  )

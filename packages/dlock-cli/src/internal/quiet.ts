import * as GlobalFlag from "effect/cli/GlobalFlag"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as References from "effect/References"

/**
 * For commands that only look: what the library warns of is for those who hold locks, and dlock doctor tells it better. With
 * `--log-level` it is shown.
 */
export const quietly = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.flatMap(
    GlobalFlag.LogLevel,
    (level) => Option.isSome(level) ? effect : Effect.provideService(effect, References.MinimumLogLevel, "Error")
  )

import { Locker } from "effect-dlock/Locker"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Console from "effect/Console"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Crypto from "node:crypto"
import * as Backend from "../../backend.ts"
import { measure, mostCallers, type Phase } from "../../bench/measure.ts"
import { toJson, toText } from "../../bench/report.ts"
import { write } from "../../output.ts"
import { quietly } from "../../quiet.ts"
import { style } from "../../text/style.ts"

export const bench = Command.make(
  "bench",
  {
    seconds: Flag.Finite("seconds").pipe(
      Flag.withDescription("How long to measure. Default: 10"),
      Flag.filter((seconds) => seconds >= 1 && seconds <= 3_600, () => "from 1 to 3600"),
      Flag.withDefault(10)
    )
  },
  ({ seconds }) =>
    Effect.gen(function*() {
      const driver = yield* Backend.driver
      const own = yield* scratchVariables
      const connect = Effect.map(
        Layer.build(Layer.fresh(Backend.lockerUnder(Effect.succeed(own)))),
        Context.get(Locker)
      )
      const one = yield* connect
      // What is in this process's memory, no other client sees.
      const other = driver === "memory" ? one : yield* connect
      const told = (phase: Phase) => Console.error(`dlock: ${phases[phase]} …`)
      const measured = yield* measure([one, other], seconds * 1_000, told)
      const paint = yield* style
      yield* write(measured, (value) => toJson(value, driver), (value) => toText(value, driver, paint))
    }).pipe(Effect.scoped, quietly)
).pipe(
  Command.withDescription(
    "Measure what a lock costs on this server, seen from this machine, and what ttl that allows. It uses locks of its own under " +
      "the prefix, as fast as it can, and releases them, also when it is interrupted. Redis keeps the last tokens of these locks, " +
      "19 small keys, for a day"
  ),
  Command.withShortDescription("Measure what a lock costs on this server"),
  Command.withExamples([
    { command: "dlock bench", description: "Ten seconds, then four figures" },
    { command: "dlock bench --seconds 60 --json", description: "Longer, and for a record" }
  ])
)

/** The same variables, with a prefix under the usual one that nobody else uses. */
const scratchVariables = Effect.gen(function*() {
  const provider = yield* Backend.variables
  const scratch = `${yield* Backend.keyPrefix}dlock-bench-${Crypto.randomUUID().slice(0, 8)}:`
  return ConfigProvider.orElse(ConfigProvider.fromEnv({ env: { DLOCK_PREFIX: scratch } }), provider)
})

const phases: Readonly<Record<Phase, string>> = {
  alone: "one caller",
  together: `${mostCallers} callers`,
  handOver: "two clients in turn"
}

import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Backend from "../../backend.ts"
import { exitCodes } from "../../exitCodes.ts"
import { Failure } from "../../failure.ts"
import { write } from "../../output.ts"

/** Raises the tokens, or with 0 only reads the epoch. */
const raiseTo = (above: bigint) =>
  Effect.gen(function*() {
    const driver = yield* Backend.driver
    if (driver !== "etcd") return yield* new Failure({ message: reasons[driver], exitCode: exitCodes.usage })
    const { EtcdLocker } = yield* Effect.promise(() => import("effect-dlock-etcd"))
    const provider = yield* Backend.variables
    return yield* Effect.provideService(
      EtcdLocker.raiseTokenEpochEnv({ above }),
      ConfigProvider.ConfigProvider,
      provider
    )
  })

const reasons = {
  redis:
    "tokens of Redis are the time of its clock in microseconds. They grow by themselves, and nobody can raise them. What " +
    "they need is a clock that is not set back: check it with dlock doctor",
  memory: "tokens in memory end with their process: there is nothing to raise"
}

const raise = Command.make(
  "raise",
  {
    above: Flag.String("above").pipe(
      Flag.withMetavar("<token>"),
      Flag.withDescription("The highest token that a protected resource may have seen, or now"),
      Flag.filterMap(
        (text) =>
          text === "now"
            ? Option.some("now" as const)
            : /^\d{1,19}$/.test(text)
            ? Option.some(BigInt(text))
            : Option.none(),
        (text) =>
          `${JSON.stringify(text)} is no token: write a whole number, or now for a minute above the clock of a Redis`
      )
    )
  },
  ({ above }) =>
    Effect.gen(function*() {
      // Tokens of Redis are microseconds. A minute for the difference between this clock and that of the Redis.
      const least = above === "now" ? BigInt(Date.now() + 60_000) * 1_000n : above
      const epoch = yield* raiseTo(least)
      yield* write(
        epoch,
        ({ base, previous }) => ({ base: String(base), previous: String(previous) }),
        ({ base, previous }) =>
          base === previous
            ? `nothing to raise: every new token is above ${base} already`
            : `raised: every new token is above ${base}. Before, they were above ${previous}`
      )
    })
).pipe(
  Command.withDescription(
    "Raise the fencing tokens of all locks under the prefix, after a move from Redis or a restored snapshot"
  ),
  Command.withExamples([
    { command: "dlock epoch raise --above now", description: "After a move from Redis: above the tokens of its clock" },
    {
      command: "dlock epoch raise --above 1764600000123456",
      description: "Above the largest token that a fence has seen"
    }
  ])
)

const show = Command.make(
  "show",
  {},
  () =>
    Effect.flatMap(
      raiseTo(0n),
      (epoch) => write(epoch, ({ base }) => ({ base: String(base) }), ({ base }) => `every new token is above ${base}`)
    )
).pipe(
  Command.withDescription("Show above which number every new token is"),
  Command.withExamples([{ command: "dlock epoch show", description: "Were the tokens raised?" }])
)

export const epoch = Command.make("epoch").pipe(
  Command.withDescription("Keep fencing tokens growing over a move or a restored snapshot of etcd"),
  Command.withExamples([{ command: "dlock epoch raise --above now", description: "After a move from Redis to etcd" }]),
  Command.withSubcommands([raise, show])
)

import { Locker } from "effect-dlock/Locker"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Console from "effect/Console"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Backend from "../../backend.ts"
import { exitCodes } from "../../exitCodes.ts"
import { Failure } from "../../failure.ts"
import { durationFlag } from "../../options/duration.ts"
import { key } from "../../options/key.ts"
import { token } from "../../options/token.ts"
import { write } from "../../output.ts"
import { quietly } from "../../quiet.ts"
import { commandLine } from "../../text/commandLine.ts"
import { timeOf } from "../../text/units.ts"
import { refuseWithoutToken } from "./holders.ts"

export const revoke = Command.make(
  "revoke",
  {
    key,
    token,
    grace: durationFlag("grace").pipe(
      Flag.withDescription("How long the holder may stay after it is asked to leave. Default: 0s"),
      Flag.withDefault(Duration.zero)
    ),
    why: Flag.String("why").pipe(
      Flag.withDescription("The reason, for the holder's log"),
      Flag.optional
    )
  },
  ({ grace, key, token, why }) =>
    Effect.gen(function*() {
      if (Option.isNone(token)) return yield* refuseWithoutToken(key, "revoke")
      const options = { token: token.value, grace, ...(Option.isSome(why) && { why: why.value }) }
      const answer = yield* Locker.revoke(key, options)
      const { expiresIn, isForeign } = answer === "running"
        ? yield* stillThere(key, token.value)
        : { expiresIn: undefined, isForeign: false }
      const told = { answer, ...(expiresIn !== undefined && { endsWithinMs: expiresIn }) }
      yield* write(told, (value) => value, () => textOf(answer, expiresIn, isForeign))
      if (answer === "running") {
        yield* Console.error(
          `dlock: ${
            isForeign
              ? "another library holds the lock, which cannot be asked to leave. If its program is gone"
              : "the next one is in sooner if you end the program yourself, and then, when it is surely gone"
          }:\n  ${(yield* commandLine)("break", key, token.value)}`
        )
      }
      if (answer === "notHeld") return yield* new Failure({ message: "", exitCode: exitCodes.no })
    }).pipe(Effect.provide(Backend.locker), quietly)
).pipe(
  Command.withDescription(
    "Ask a holder to leave, and end its hold, without letting two in. Wait until it has ended, at most for the grace and a guard " +
      "gap. Exit 0: it has ended, or runs out by itself, as is said. Exit 1: no hold has this token now, nothing was changed"
  ),
  Command.withShortDescription("End a hold without letting two in"),
  Command.withExamples([
    { command: "dlock revoke nightly-report", description: "Show who holds it, and the command that ends the hold" },
    {
      command: "dlock revoke nightly-report --token 1764600000123456 --grace 10s --why 'it hangs'",
      description: "Give the holder ten seconds, then end its hold"
    }
  ])
)

/** How long the hold lasts at most, if the backend tells. */
const stillThere = (key: string, token: bigint) =>
  Effect.map(Locker.inspect(key), ({ holders }) => {
    const hold = holders.find((holder) => holder.token === token)
    const expiresIn = hold === undefined ? Option.none() : Option.filter(hold.expiresIn, Duration.isFinite)
    return {
      // A client of another library may renew its hold as long as it likes.
      expiresIn: hold?.foreign === true ? undefined : Option.getOrUndefined(Option.map(expiresIn, Duration.toMillis)),
      isForeign: hold?.foreign === true
    }
  })

const textOf = (
  answer: "released" | "running" | "notHeld",
  expiresIn: number | undefined,
  isForeign: boolean
): string => {
  switch (answer) {
    case "released":
      return "released: the hold has ended"
    case "running":
      if (isForeign) return "running: another library holds the lock. Nothing was changed"
      return `running: its program has not ended yet, or does not answer. ${
        expiresIn === undefined
          ? "The hold runs out by itself, at the latest a ttl and a guard gap after the grace"
          : `The hold runs out in at most ${timeOf(expiresIn)}`
      }`
    case "notHeld":
      return "notHeld: no hold with this token has the lock now. Nothing was changed"
  }
}

import { Locker } from "effect-dlock/Locker"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Backend from "../../backend.ts"
import { exitCodes } from "../../exitCodes.ts"
import { Failure } from "../../failure.ts"
import { key } from "../../options/key.ts"
import { token } from "../../options/token.ts"
import { write } from "../../output.ts"
import { quietly } from "../../quiet.ts"
import { commandLine } from "../../text/commandLine.ts"
import { refuseWithoutToken } from "./holders.ts"

export const breakCommand = Command.make(
  "break",
  {
    key,
    token,
    yes: Flag.Boolean("yes-two-may-run").pipe(
      Flag.withDescription("Confirm that the holder's program may still be at work when the next one begins"),
      Flag.withDefault(false),
      Flag.withoutNegation
    )
  },
  ({ key, token, yes }) =>
    Effect.gen(function*() {
      if (Option.isNone(token)) return yield* refuseWithoutToken(key, "break")
      if (!yes) {
        const commandOf = yield* commandLine
        return yield* new Failure({
          message: explanation(commandOf("revoke", key, token.value), commandOf("break", key, token.value)),
          exitCode: exitCodes.usage
        })
      }
      const isBroken = yield* Locker.breakLock(key, { token: token.value })
      yield* write(
        isBroken ? "broken" : "notHeld",
        (answer) => ({ answer }),
        () =>
          isBroken
            ? "broken: the hold is deleted. If its program still runs, two may run now"
            : "notHeld: no hold with this token has the lock now. Nothing was changed"
      )
      if (!isBroken) return yield* new Failure({ message: "", exitCode: exitCodes.no })
    }).pipe(Effect.provide(Backend.locker), quietly)
).pipe(
  Command.withDescription(
    "Delete a hold at once, although its program may still be at work: two may run then. It is for a holder that is surely " +
      "gone. For everything else use revoke. Exit 1: no hold has this token now, nothing was changed"
  ),
  Command.withShortDescription("Delete a hold at once, so that two may run"),
  Command.withExamples([{
    command: "dlock break nightly-report --token 1764600000123456 --yes-two-may-run",
    description: "Let the next one in now"
  }])
)

const explanation = (revokeCommand: string, breakCommand: string): string =>
  `break deletes the hold and lets the next one in at once. If the program of the holder still runs, two run, and only the ` +
  `fencing token protects what the lock protects. Nothing was changed.\n` +
  `To end the hold without letting two in:\n` +
  `  ${revokeCommand}\n` +
  `If that program is surely gone, or two may run:\n` +
  `  ${breakCommand}`

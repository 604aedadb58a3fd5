import * as Leader from "effect-dlock/Leader"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Backend from "../../backend.ts"
import { withJob } from "../../holding/job.ts"
import { ofOne } from "../../holding/locks.ts"
import { say } from "../../holding/saying.ts"
import { commandOf, termsOf } from "../../holding/terms.ts"
import { durationFlag } from "../../options/duration.ts"
import * as Holding from "../../options/holding.ts"
import { underLock } from "../../process/underLock.ts"
import { shown } from "../../shown.ts"

export const elect = Command.make("elect", {
  name: Argument.String("name").pipe(
    Argument.withDescription("The name of the leadership, which is the key of its lock")
  ),
  isEndingWithCommand: Flag.Boolean("exit-with-command").pipe(
    Flag.withDescription("Exit with the command when it ends by itself, instead of standing again"),
    Flag.withDefault(false)
  ),
  cooldown: durationFlag("cooldown").pipe(
    Flag.withDescription(
      "How long to wait before standing again when the command ended or was revoked. Default: the ttl"
    ),
    Flag.optional
  ),
  ...Holding.lease,
  maxHold: Holding.maxHold,
  shell: Holding.shell
}, (given) =>
  Effect.gen(function*() {
    const { cooldown, isEndingWithCommand, name } = given
    const command = yield* commandOf(given.shell)
    const terms = yield* termsOf(given)
    const options = { ...terms.options, ...(Option.isSome(cooldown) && { cooldown: cooldown.value }) }
    return yield* withJob(command, terms, (given) => {
      // The end of the command is not that of dlock, if it stands again.
      const job = isEndingWithCommand ? given : { ...given, onEnded: () => {} }
      return Leader.run(name, (lease) =>
        Effect.gen(function*() {
          const term = String(lease.fencingToken)
          yield* say(`${shown(name)}: leads in term ${term}`, { outcome: "elected", name, term })
          const code = yield* underLock(ofOne(lease), job)
          // Whoever ends dlock ends the command with it, and does not want another term.
          if (isEndingWithCommand || job.signals.isToldToEnd()) return code
          yield* say(`${shown(name)}: the command ended with ${code}; dlock stands again after the cooldown`, {
            outcome: "ended",
            name,
            term,
            exitCode: code
          })
          return yield* Leader.resign
        }), options).pipe(Effect.provide(Backend.locker))
    })
  })).pipe(
    Command.withDescription("Run a command in one process of a fleet, the leader, and elsewhere when that ends"),
    Command.withExamples([
      { command: "dlock elect scheduler -- ./scheduler", description: "On every host: it runs on one of them" },
      {
        command: "dlock elect --exit-with-command scheduler -- ./scheduler",
        description: "Leave a restart to systemd or Kubernetes"
      }
    ])
  )

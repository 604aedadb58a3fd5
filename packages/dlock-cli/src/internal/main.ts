import * as CliOutput from "effect/cli/CliOutput"
import * as Command from "effect/cli/Command"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as ChildCommand from "./childCommand.ts"
import { breakCommand } from "./commands/acting/break.ts"
import { epoch } from "./commands/acting/epoch.ts"
import { revoke } from "./commands/acting/revoke.ts"
import { elect } from "./commands/holding/elect.ts"
import { give } from "./commands/holding/give.ts"
import { once } from "./commands/holding/once.ts"
import { run as runCommand } from "./commands/holding/run.ts"
import { take } from "./commands/holding/take.ts"
import { deadlocks } from "./commands/looking/deadlocks.ts"
import { inspect } from "./commands/looking/inspect.ts"
import { list } from "./commands/looking/list.ts"
import { ui } from "./commands/looking/ui.ts"
import { watch } from "./commands/looking/watch.ts"
import { root } from "./commands/root.ts"
import { bench } from "./commands/server/bench.ts"
import { doctor } from "./commands/server/doctor.ts"
import { exitCodes } from "./exitCodes.ts"
import { Failure, fromError } from "./failure.ts"
import { presenter } from "./presenter.ts"
import { linesShown } from "./shown.ts"
import { version } from "./version.ts"

/** The command `dlock` with all its subcommands. */
export const command = root.pipe(
  Command.withSubcommands([
    { group: "Hold a lock", commands: [runCommand, once, elect, take, give] },
    { group: "Look at locks", commands: [inspect, list, watch, ui, deadlocks] },
    { group: "Take a lock away", commands: [revoke, breakCommand] },
    { group: "Care for a server", commands: [doctor, bench, epoch] }
  ])
)

/**
 * Runs `dlock` with these arguments. It fails with a `Failure`, whose message it has already written to stderr and which
 * carries the exit code.
 */
export const run = (args: ReadonlyArray<string>) => {
  const { child, own } = ChildCommand.split(args)
  return Command.runWith(command, { version })(own).pipe(
    Effect.provideService(ChildCommand.ChildCommand, child),
    Effect.provideService(CliOutput.Presenter, presenter),
    Effect.catch((error): Effect.Effect<never, Failure> => {
      const failure = fromError(error)
      const told = failure.message === "" ? Effect.void : Console.error(`dlock: ${linesShown(failure.message)}`)
      return Effect.andThen(told, Effect.fail(failure))
    }),
    // Without this a defect would end with 1, which means "no", and say nothing.
    Effect.catchDefect((defect): Effect.Effect<never, Failure> => {
      const text = defect instanceof Error ? defect.stack ?? defect.message : String(defect)
      const failure = new Failure({ message: text, exitCode: exitCodes.defect })
      return Effect.andThen(
        Console.error(`dlock: this is a defect of dlock, please report it: ${linesShown(text)}`),
        Effect.fail(failure)
      )
    })
  )
}

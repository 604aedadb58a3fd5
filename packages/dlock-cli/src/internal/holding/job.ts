import * as Effect from "effect/Effect"
import * as Backend from "../backend.ts"
import { Failure } from "../failure.ts"
import { ensureRunnable } from "../process/command.ts"
import { withSignals } from "../process/signals.ts"
import type { Job } from "../process/underLock.ts"
import { say, sayingFailures } from "./saying.ts"
import type { Terms } from "./terms.ts"

/**
 * Runs a command of the user: checks that it can be run, takes the signals of this process, and ends with the exit code of
 * the command. `hold` gets the lock and runs the job under it.
 */
export const withJob = <E, R>(
  command: ReadonlyArray<string>,
  { guardGap, ttl }: Terms,
  hold: (job: Job) => Effect.Effect<number, E, R>
) =>
  Effect.andThen(
    Effect.andThen(ensureRunnable(command), tellMemory),
    Effect.suspend(() => {
      let ended: number | undefined
      const onEnded = (code: number) => void (ended = code)
      return sayingFailures(withSignals((signals) => hold({ command, guardGap, ttl, signals, onEnded }))).pipe(
        // A signal that comes during the release is too late for the command, whose exit code it is.
        Effect.catchIf(
          (error) => error instanceof Failure && error.message === "" && ended !== undefined,
          () => Effect.succeed(ended!)
        )
      )
    })
  ).pipe(
    Effect.flatMap((code) => code === 0 ? Effect.void : Effect.fail(new Failure({ message: "", exitCode: code })))
  )

/** Somebody may have left the driver of a test in the environment. */
const tellMemory = Effect.flatMap(
  Backend.driver,
  (driver) =>
    driver === "memory"
      ? say("the lock is in the memory of this process alone, and keeps nobody out", { outcome: "memory" })
      : Effect.void
)

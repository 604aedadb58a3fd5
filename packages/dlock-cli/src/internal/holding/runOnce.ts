import * as Once from "effect-dlock/Once"
import * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Backend from "../backend.ts"
import { Failure } from "../failure.ts"
import { underLock } from "../process/underLock.ts"
import { shown } from "../shown.ts"
import { withJob } from "./job.ts"
import { ofOne } from "./locks.ts"
import { say } from "./saying.ts"
import type { Terms } from "./terms.ts"

export interface OnceJob {
  readonly key: string
  readonly every: Duration.Duration
  readonly counts: "start" | "success"
  /** The exit code if the command is skipped. */
  readonly conflict: Option.Option<number>
  readonly command: ReadonlyArray<string>
  readonly terms: Terms
}

/** Runs a command unless it ran within a time, or is running. A command that fails is no run that counts as a success. */
export const runOnce = ({ command, conflict, counts, every, key, terms }: OnceJob) =>
  withJob(command, terms, (job) =>
    Once.within(
      key,
      every,
      (lease) =>
        Effect.flatMap(
          underLock(ofOne(lease), job),
          (code) => code === 0 ? Effect.succeed(code) : Effect.fail(new Failure({ message: "", exitCode: code }))
        ),
      { ...terms.options, counts }
    ).pipe(
      Effect.flatMap(Option.match({
        onSome: Effect.succeed,
        onNone: () => {
          const exitCode = Option.getOrElse(conflict, () => 0)
          return Effect.gen(function*() {
            // Only for the words: an error here is none of the job.
            const last = Option.flatten(yield* Effect.option(Once.lastRun(key)))
            yield* say(
              `${shown(key)} is skipped: it has run within the time, or is running${
                Option.match(last, { onNone: () => "", onSome: (last) => `. The last run: ${about(last)}` })
              }`,
              { outcome: "skipped", key, exitCode }
            )
            return exitCode
          })
        }
      })),
      Effect.provide(Backend.locker)
    ))

const about = ({ endedAt, holder, outcome, startedAt }: Once.LastRun): string =>
  `by ${shown(holder)} since ${DateTime.formatIso(startedAt)}${
    Option.isNone(endedAt) ? ", not ended" : ` until ${DateTime.formatIso(endedAt.value)}`
  }${Option.match(outcome, { onNone: () => "", onSome: (outcome) => `, ${outcome}` })}`

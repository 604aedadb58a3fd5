import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as TerminalCapabilities from "effect/cli/TerminalCapabilities"
import * as Console from "effect/Console"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as Backend from "../../backend.ts"
import { durationFlag } from "../../options/duration.ts"
import { keysUnder } from "../../options/prefix.ts"
import { jsonOf, writeLines } from "../../output.ts"
import { quietly } from "../../quiet.ts"
import { shown } from "../../shown.ts"
import { Changes, toJson, toText } from "../../watch/changes.ts"
import { live } from "../../watch/live.ts"
import { inPasses, ofKey, type Sight } from "../../watch/source.ts"
import { root } from "../root.ts"

export const watch = Command.make(
  "watch",
  {
    keys: keysUnder,
    exact: Flag.Boolean("exact").pipe(
      Flag.withDescription("Watch the one lock of this key, at each of its changes"),
      Flag.withDefault(false),
      Flag.withoutNegation
    ),
    every: durationFlag("every").pipe(
      Flag.withDescription(
        "The pause between two passes over all locks, at least four times as long as a pass took. Default: 1s"
      ),
      Flag.withDefault(Duration.seconds(1))
    )
  },
  ({ every, exact, keys }) =>
    Effect.gen(function*() {
      const { json } = yield* root
      const { canAnimate, canPrompt } = yield* TerminalCapabilities.TerminalCapabilities
      const sights = exact ? ofKey(keys) : inPasses(keys, Math.max(100, Duration.toMillis(every)))
      if (json || !canAnimate || !canPrompt) return yield* writeLines(linesOf(sights, json))
      const what = keys === "" ? "" : `  ${exact ? "" : "keys "}${shown(keys)}`
      yield* live({
        sights,
        where: `${yield* Backend.driver}  prefix ${shown(yield* Backend.keyPrefix)}${what}`,
        selected: exact ? keys : undefined
      })
    }).pipe(Effect.provide(Backend.locker), quietly)
).pipe(
  Command.withDescription(
    "Watch locks: in a terminal as a live table, otherwise a line for each change. It reads all locks in passes, and the one that " +
      "is open at each of its changes"
  ),
  Command.withShortDescription("Watch locks live"),
  Command.withExamples([
    { command: "dlock watch", description: "A live table of all locks" },
    { command: "dlock watch nightly-report --exact", description: "One lock, with its queue, at each change" },
    { command: "dlock watch inventory: --json | tee changes.jsonl", description: "Record the changes" }
  ])
)

/** A line for each change. An outage is told on stderr, once. */
const linesOf = <E, R>(sights: Stream.Stream<Sight, E, R>, json: boolean): Stream.Stream<string, E, R> =>
  Stream.suspend(() => {
    const changes = new Changes()
    let isAway = false
    return Stream.flatMap(
      Stream.tap(sights, (sight) => {
        const isNews = (sight._tag === "Failed") !== isAway
        isAway = sight._tag === "Failed"
        if (!isNews) return Effect.void
        return Console.error(
          sight._tag === "Failed" ? `dlock: ${shown(sight.error.message)}` : "dlock: it answers again"
        )
      }),
      (sight) =>
        Stream.fromIterable(
          changes.of(sight).map((change) => {
            const at = new Date()
            return json ? jsonOf(toJson(change, at)) : toText(change, at)
          })
        )
    )
  })

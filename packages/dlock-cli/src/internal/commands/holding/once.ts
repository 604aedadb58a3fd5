import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import { runOnce } from "../../holding/runOnce.ts"
import { commandOf, termsOf } from "../../holding/terms.ts"
import { durationFlag } from "../../options/duration.ts"
import * as Holding from "../../options/holding.ts"
import { key } from "../../options/key.ts"

export const once = Command.make("once", {
  key,
  every: durationFlag("every").pipe(
    Flag.withDescription("Skip the command if it has run within this time. Begin a little earlier than your schedule")
  ),
  counts: Flag.Literals("counts", ["start", "success"]).pipe(
    Flag.withDescription(
      "What counts as a run: that it succeeds, so that a failed one may be repeated, or that it starts"
    ),
    Flag.withDefault("success")
  ),
  conflict: Holding.waiting.conflict.pipe(
    Flag.withDescription("Exit with this code instead of 0 if the command is skipped")
  ),
  ...Holding.lease,
  maxHold: Holding.maxHold,
  shell: Holding.shell
}, (given) =>
  Effect.gen(function*() {
    const { conflict, counts, every, key } = given
    const command = yield* commandOf(given.shell)
    const terms = yield* termsOf(given)
    return yield* runOnce({ key, every, counts, conflict, command, terms })
  })).pipe(
    Command.withDescription("Run a command once within a time, however many hosts try"),
    Command.withExamples([
      { command: "dlock once digest --every 23h -- ./send-digest.sh", description: "In the crontab of every host" },
      {
        command: "dlock once billing --every 23h --counts start -- ./bill.sh",
        description: "Never repeat a failed run"
      }
    ])
  )

import { Locker } from "effect-dlock/Locker"
import * as Command from "effect/cli/Command"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Backend from "../../backend.ts"
import * as Info from "../../info.ts"
import { key } from "../../options/key.ts"
import { write } from "../../output.ts"
import { quietly } from "../../quiet.ts"
import { style } from "../../text/style.ts"

export const inspect = Command.make(
  "inspect",
  { key },
  ({ key }) =>
    Effect.gen(function*() {
      const info = yield* Locker.inspect(key)
      const [paint, now] = [yield* style, yield* Clock.currentTimeMillis]
      yield* write(info, Info.toJson, (info) => Info.toText(info, paint, now))
    }).pipe(Effect.provide(Backend.locker), quietly)
).pipe(
  Command.withDescription("Show who holds a lock and who waits for it"),
  Command.withExamples([
    { command: "dlock inspect nightly-report", description: "Who has the lock of the report?" },
    {
      command: "dlock inspect nightly-report --json | jq -r '.holders[].token'",
      description: "The tokens, for revoke"
    }
  ])
)

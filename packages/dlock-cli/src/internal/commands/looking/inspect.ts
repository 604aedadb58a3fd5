import { Locker } from "effect-dlock/Locker"
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Backend from "../../backend.ts"
import * as Info from "../../info.ts"
import { key } from "../../options/key.ts"
import { write } from "../../output.ts"

export const inspect = Command.make(
  "inspect",
  { key },
  ({ key }) =>
    Locker.inspect(key).pipe(
      Effect.flatMap((info) => write(info, Info.toJson, Info.toText)),
      Effect.provide(Backend.locker)
    )
).pipe(
  Command.withDescription("Show who holds a lock and who waits for it"),
  Command.withExamples([{ command: "dlock inspect nightly-report", description: "Who has the lock of the report?" }])
)

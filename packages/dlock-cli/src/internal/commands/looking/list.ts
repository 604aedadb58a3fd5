import { Locker } from "effect-dlock/Locker"
import type { LockInfo } from "effect-dlock/LockInfo"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as Backend from "../../backend.ts"
import * as Info from "../../info.ts"
import { keysUnder } from "../../options/prefix.ts"
import { jsonOf, writeLines } from "../../output.ts"
import { quietly } from "../../quiet.ts"
import { asTable } from "../../text/lockTable.ts"
import { style } from "../../text/style.ts"
import { root } from "../root.ts"

export const list = Command.make(
  "list",
  {
    keys: keysUnder,
    held: Flag.Boolean("held").pipe(
      Flag.withDescription("Only locks that somebody holds"),
      Flag.withDefault(false),
      Flag.withoutNegation
    ),
    waiting: Flag.Boolean("waiting").pipe(
      Flag.withDescription("Only locks that somebody waits for"),
      Flag.withDefault(false),
      Flag.withoutNegation
    )
  },
  ({ held, keys, waiting }) =>
    Effect.gen(function*() {
      const isWanted = (info: LockInfo): boolean =>
        (!held || info.holderCount > 0) && (!waiting || info.queueLength > 0)
      const found = Stream.filter(Locker.list(keys), isWanted)
      const { json } = yield* root
      const paint = yield* style
      yield* writeLines(json ? Stream.map(found, (info) => jsonOf(Info.toJson(info))) : asTable(found, paint))
    }).pipe(Effect.provide(Backend.locker), quietly)
).pipe(
  Command.withDescription("List the locks that are held or waited for"),
  Command.withExamples([
    { command: "dlock list", description: "All of them" },
    { command: "dlock list inventory: --waiting", description: "Those of the inventory that somebody waits for" },
    {
      command: "dlock list --json | jq -r 'select(.queueLength > 10).key'",
      description: "Locks with a long queue"
    }
  ])
)

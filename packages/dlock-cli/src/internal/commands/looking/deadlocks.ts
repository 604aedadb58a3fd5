import { Locker } from "effect-dlock/Locker"
import type { LockInfo } from "effect-dlock/LockInfo"
import * as Command from "effect/cli/Command"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as Backend from "../../backend.ts"
import { exitCodes } from "../../exitCodes.ts"
import { Failure } from "../../failure.ts"
import { metadataOf } from "../../info.ts"
import { keysUnder } from "../../options/prefix.ts"
import { jsonOf, writeLines } from "../../output.ts"
import { quietly } from "../../quiet.ts"
import { clipped, shown } from "../../shown.ts"
import { commandLine } from "../../text/commandLine.ts"
import { type Style, style } from "../../text/style.ts"
import { counted } from "../../text/units.ts"
import { type Step, waitsFor, youngest } from "../../waitFor.ts"
import { root } from "../root.ts"

type Circle = ReadonlyArray<Step>

export const deadlocks = Command.make(
  "deadlocks",
  { keys: keysUnder },
  ({ keys }) =>
    Effect.gen(function*() {
      const waitedFor = Stream.filter(Locker.list(keys), ({ queueLength }) => queueLength > 0)
      const infos = yield* Stream.runCollect(waitedFor)
      const suspects = waitsFor(infos).cycles
      const circles = yield* confirmed(suspects)
      const { json } = yield* root
      const paint = yield* style
      const commandOf = yield* commandLine
      const isAllTold = infos.every(areAllTold)
      const none = json ? [] : [isAllTold ? "no deadlock" : "no deadlock among those that are told"]
      const lines = circles.map((circle) => json ? jsonOf(toJson(circle)) : toText(circle, paint, commandOf))
      yield* writeLines(Stream.fromIterable(circles.length === 0 ? none : lines))
      if (!isAllTold) {
        const keys = infos.filter((info) => !areAllTold(info)).map(({ key }) => clipped(key, 60))
        yield* Console.error(
          `dlock: very many hold or wait for ${
            counted(keys.length, "lock")
          }, of whom only the first are told: a deadlock of ` +
            `the others is not seen (${keys.slice(0, 3).join(", ")}${keys.length > 3 ? ", …" : ""})`
        )
      }
      if (circles.length > 0) return yield* new Failure({ message: "", exitCode: exitCodes.no })
    }).pipe(Effect.provide(Backend.locker), quietly)
).pipe(
  Command.withDescription(
    "Show callers that wait for one another, who never go on by themselves. Exit 1 if there are any. Not seen is a dlock that " +
      "the command of another dlock calls: of those see dlock list --waiting"
  ),
  Command.withShortDescription("Show callers that wait for one another"),
  Command.withExamples([
    { command: "dlock deadlocks", description: "Is something stuck for ever, and which hold is to be revoked?" },
    { command: "dlock deadlocks orders: --json", description: "Only among the locks of the orders, for a script" }
  ])
)

/** Whether everybody is known who holds the lock or waits for it. */
const areAllTold = ({ holderCount, holders, queueLength, waiting }: LockInfo): boolean =>
  holderCount <= holders.length && queueLength <= waiting.length

/**
 * The circles that are still there. A list takes time, and what it tells of two locks may never have been true at one
 * moment. A circle that is real stays, with the same tokens.
 */
const confirmed = (suspects: ReadonlyArray<Circle>) =>
  Effect.gen(function*() {
    if (suspects.length === 0) return []
    const keys = Array.from(new Set(suspects.flatMap((circle) => circle.map(({ key }) => key))))
    const again: ReadonlyArray<LockInfo> = yield* Effect.forEach(keys, Locker.inspect, { concurrency: 8 })
    const tokens = new Set(suspects.flatMap((circle) => circle.map(nameOf)))
    return waitsFor(again).cycles.filter((circle) => circle.every((step) => tokens.has(nameOf(step))))
  })

const nameOf = ({ holder, key }: Step): string => JSON.stringify([key, String(holder.token)])

const toJson = (circle: Circle) => ({
  cycle: circle.map(({ holder, key }, nth) => ({
    key,
    holder: holder.holder,
    metadata: holder.metadata,
    token: String(holder.token),
    waitsFor: circle[(nth + 1) % circle.length]!.key
  })),
  revoke: { key: youngest(circle).key, token: String(youngest(circle).holder.token) }
})

/** A picture of arrows, and which hold to revoke. */
const toText = (circle: Circle, style: Style, commandOf: Effect.Success<typeof commandLine>): string => {
  const revoked = youngest(circle)
  const lines = circle.flatMap(({ holder, key, waiter }, nth) => {
    const metadata = metadataOf(waiter.metadata)
    const isLast = nth === circle.length - 1
    return [
      `${nth === 0 ? "┌▶ " : "│  "}${style.bold(shown(key))}  held by ${style.bold(shown(holder.holder))}` +
      style.dim(`  token ${holder.token}${metadata === "" ? "" : `  ${metadata}`}`),
      isLast ? `└──── who waits for ${shown(circle[0]!.key)}` : "│     ↓ who waits for"
    ]
  })
  return [
    style.red(
      `a deadlock of ${circle.length === 1 ? "one caller, which waits for itself" : `${circle.length} callers`}`
    ),
    ...lines,
    "The hold that was granted last has the least work to lose:",
    `  ${commandOf("revoke", revoked.key, revoked.holder.token)}`,
    ""
  ].join("\n")
}

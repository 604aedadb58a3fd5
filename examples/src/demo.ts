import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Console, Effect, Layer } from "effect"
import { CliError, Command, Flag } from "effect/cli"
import { customers, items, unlucky, withALoss, withoutLock, withTheLock } from "./acts.ts"
import { Crew, workers } from "./crew.ts"
import { History } from "./journal.ts"
import { LogLines } from "./log.ts"
import { CrewInMemory } from "./memory.ts"
import { say, show } from "./page.ts"
import { CrewOnRedis } from "./redis.ts"
import { Shop } from "./shop.ts"

const play = Effect.gen(function*() {
  const crew = yield* Crew
  yield* say(`${workers.length} workers with ${customers} customers each sell ${items} pieces. ${crew.described}`)

  const findings = [
    ...yield* show(
      "Act 1: no lock",
      "Each worker reads the stock, takes a payment, writes the stock back.",
      withoutLock
    ),
    ...yield* show(
      "Act 2: with a lock",
      "The same, each sale under withLock(\"inventory:42\", deductStock).",
      withTheLock
    ),
    ...yield* show(
      "Act 3: a lock that is lost",
      `In the middle of ${unlucky}'s sale ${crew.misfortune}.`,
      withALoss
    )
  ]

  const failed = findings.filter((finding) => !finding.holds)
  if (failed.length > 0) {
    return yield* new CliError.UserError({
      cause: failed,
      userMessage: ["This is not as it has to be:", ...failed.map(({ text }) => text)].join("\n  ")
    })
  }
})

const drivers = {
  memory: CrewInMemory.pipe(Layer.provideMerge(Layer.mergeAll(Shop.layerMemory, History.layerJournal))),
  redis: CrewOnRedis
}

const demo = Command.make("demo", {
  driver: Flag.Literals("driver", ["memory", "redis"]).pipe(
    Flag.withDescription("Where the locks are, and with them the workers: fibers or processes"),
    Flag.withDefault("memory")
  )
}, ({ driver }) =>
  Effect.provide(play, drivers[driver]).pipe(
    Effect.mapError((cause) => new CliError.UserError({ cause }))
  )).pipe(
    Command.withDescription(
      "Several workers sell the last pieces of a stock: without a lock, with one, and losing one."
    )
  )

Command.run(demo, { version: "0.0.0" }).pipe(
  // By now every scope is closed.
  Effect.onInterrupt(() => Console.log("\nStopped. What was held has been released.")),
  Effect.provide([NodeServices.layer, LogLines]),
  NodeRuntime.runMain
)

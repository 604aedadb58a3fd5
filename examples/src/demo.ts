import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Console, Effect, Layer } from "effect"
import { CliError, Command, Flag } from "effect/cli"
import { customers, items, unlucky, withALoss, withoutLock, withTheLock } from "./demo/acts.ts"
import { History } from "./demo/journal.ts"
import { LogLines } from "./demo/log.ts"
import { WorkersInMemory } from "./demo/memory.ts"
import { say, show } from "./demo/page.ts"
import { workersInProcesses } from "./demo/processes.ts"
import { Shop } from "./demo/shop.ts"
import { workerNames, Workers } from "./demo/workers.ts"
import { drivers } from "./servers.ts"

const play = Effect.gen(function*() {
  const workers = yield* Workers
  yield* say(
    `${workerNames.length} workers with ${customers} customers each sell ${items} pieces. ${workers.described}`
  )

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
      `In the middle of ${unlucky}'s sale ${workers.fault}.`,
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

const workersOf = {
  memory: WorkersInMemory.pipe(Layer.provideMerge(Layer.mergeAll(Shop.layerMemory, History.layerJournal))),
  redis: workersInProcesses("redis"),
  etcd: workersInProcesses("etcd")
}

const demo = Command.make("demo", {
  driver: Flag.Literals("driver", drivers).pipe(
    Flag.withDescription("Where the locks are, and with them the workers: fibers or processes"),
    Flag.withDefault("memory")
  )
}, ({ driver }) =>
  Effect.provide(play, workersOf[driver]).pipe(
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

// One worker as a separate process. The demo starts it, tells it what to do by lines of JSON on standard input, and
// reads on standard output what it did.
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Effect, Layer, Queue, Schema, Stdio, Stream } from "effect"
import { Ndjson } from "effect/encoding"
import { LockerLive } from "../locker.ts"
import { Event, Journal, Worker } from "./journal.ts"
import { LogLines } from "./log.ts"
import { Payment, sellLocked, sellUnlocked } from "./sale.ts"
import { ShopByDriver } from "./shops.ts"
import { Order } from "./workers.ts"

const encode = Schema.encodeSync(Schema.fromJsonString(Event))

// When the demo is killed nobody reads any more. That is no reason to die of it with the lock in hand.
process.stdout.on("error", () => {})

const JournalOnStdout = Layer.succeed(Journal, {
  add: (event) => Effect.sync(() => process.stdout.write(`${encode(event)}\n`))
})

const carryOut = ({ customers, locked, payment }: Order) =>
  Effect.repeat(locked ? sellLocked : sellUnlocked, { times: customers - 1 }).pipe(
    Effect.provideService(Payment, Effect.sleep(payment)),
    Effect.andThen(Journal.note({ _tag: "Done" }))
  )

const program = Effect.gen(function*() {
  const stdio = yield* Stdio.Stdio
  const orders = yield* Queue.unbounded<Order>()
  const listen = stdio.stdin.pipe(
    Stream.pipeThroughChannel(Ndjson.decodeSchema(Order)()),
    Stream.runForEach((order) => Queue.offer(orders, order))
  )
  const work = Queue.take(orders).pipe(Effect.flatMap(carryOut), Effect.forever)

  yield* Journal.note({ _tag: "Ready" })
  // Standard input ends when the demo has gone, whatever ended it. Then this ends too, and lets go of what it holds.
  yield* Effect.raceFirst(listen, work)
})

program.pipe(
  Effect.provideService(Worker, process.argv[2] ?? "somebody"),
  Effect.provide([LockerLive, ShopByDriver, JournalOnStdout]),
  Effect.provide(NodeServices.layer),
  Effect.tapError((error) => Effect.logError(error.message)),
  Effect.tapDefect((defect) => Effect.logError(String(defect))),
  Effect.provide(LogLines),
  // Standard output is for events only.
  NodeRuntime.runMain({ disableErrorReporting: true })
)

// Task election: every instance of a service has the same schedule, and each tick is the work of one of them, once.
//
// What to learn from it:
// - `Once.cron` is the loop as well. Run it in every instance: when one dies, another one goes on.
// - A lock alone would not do. It keeps two reports from being written at the same time, but an instance whose clock is a
//   little behind comes when the first report is done, finds the lock free, and writes a second one. `Once` keeps a record
//   of the last run beside the lock, which outlives the lock and the process.
// - Only a run that succeeds counts here: a report that fails is tried by another instance for the same tick. With
//   `counts: "start"` no tick is ever tried twice.
//
// Here the instances are fibers of one process. Run it in several terminals, on one server, and they are processes.
import { NodeRuntime } from "@effect/platform-node"
import { Cron, DateTime, Effect, Option } from "effect"
import { Once } from "effect-dlock"
import { LockerLive } from "./locker.ts"

/** Every second, so that there is something to see: a service says "0 * * * *". */
const everySecond = Cron.parseUnsafe("* * * * * *")

const writeReport = Effect.fn("writeReport")(function*(tick: DateTime.Utc) {
  const time = DateTime.formatIso(tick)
  yield* Effect.log(`elected: writes the report for ${time}`)
  yield* Effect.sleep("100 millis")
  yield* Effect.log(`done: 12 pages for ${time}`)
})

const instance = (name: string) =>
  Once.cron("jobs/report", everySecond, (_lease, tick) => writeReport(tick)).pipe(
    Effect.annotateLogs({ instance: name })
  )

const instances = Effect.forEach(["north", "east", "south"], instance, { concurrency: "unbounded", discard: true })

const program = Effect.gen(function*() {
  // A service has no end. This one has three ticks.
  const [, , third] = Cron.sequence(everySecond, yield* DateTime.now)
  const end = DateTime.add(DateTime.makeUnsafe(third!), { milliseconds: 700 })
  yield* Effect.timeoutOption(instances, DateTime.distance(yield* DateTime.now, end))
  const last = yield* Once.lastRun("jobs/report")
  yield* Effect.log(Option.match(last, {
    onNone: () => "no report at all",
    onSome: ({ holder, startedAt }) => `the last report was written at ${DateTime.formatIso(startedAt)} by ${holder}`
  }))
})

NodeRuntime.runMain(program.pipe(Effect.provide(LockerLive)))

// Task election: every instance of a service has the same schedule, and the work is done by one of them.
//
// What to learn from it:
// - `withLockIfAvailable` does not wait. The second instance gets `Option.none` at once, and skips this round.
// - Nobody has to know how long the work takes: the lock is renewed while it runs. The `ttl` is for the worst case:
//   when the elected instance dies, the others are kept out for that long.
// - The lock says which instance runs, not what has been done. A report that must be written but once an hour needs a look
//   at the last one, inside the lock.
//
// Here the instances are fibers of one process. Run it in several terminals, on one server, and they are processes.
import { NodeRuntime } from "@effect/platform-node"
import { Effect, Option, Schedule } from "effect"
import { withLockIfAvailable } from "effect-dlock"
import { LockerLive } from "./locker.ts"

const writeReport = Effect.gen(function*() {
  yield* Effect.log("elected: writes the report")
  yield* Effect.sleep("300 millis")
  return 12
})

const round = withLockIfAvailable("jobs/report", writeReport, { ttl: "5 seconds" }).pipe(
  Effect.flatMap(Option.match({
    onNone: () => Effect.log("skips: another instance is at it"),
    onSome: (pages) => Effect.log(`done: ${pages} pages`)
  })),
  // Neither is a reason to end: the next round is soon. To be skipped is not an error at all.
  Effect.catchTags({
    OwnershipLost: (lost) => Effect.logWarning(`stopped in the middle: ${lost.reason}`),
    LockBackendError: (error) => Effect.logWarning(`no election: ${error.message}`)
  })
)

/** Every second, by the clock on the wall, and three times only: a service says "0 * * * *" and has no end. */
const rounds = Schedule.cron("* * * * * *").pipe(Schedule.upTo({ times: 3 }))

const instance = (name: string) => round.pipe(Effect.schedule(rounds), Effect.annotateLogs({ instance: name }))

const program = Effect.forEach(["north", "east", "south"], instance, { concurrency: "unbounded", discard: true })

NodeRuntime.runMain(program.pipe(Effect.provide(LockerLive)))

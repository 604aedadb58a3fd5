// A cap on concurrency: a remote API allows four calls at a time, whatever the number of instances that call it.
//
// What to learn from it:
// - A permit is held for as long as a call runs. How often a minute something may be called is another question, for a
//   rate limiter.
// - A heavy call takes two permits. Callers get them in the order in which they asked, so a heavy call is not starved, and
//   free permits may idle behind it for a moment.
// - `timeout` bounds the wait for a permit, not the call. What cannot wait gives up, and the holder goes on.
// - The permits of an instance that dies come back when its `ttl` is over, so keep the `ttl` short.
//
// Here the instances are fibers of one process. Run it in several terminals, on one server, and they are processes.
import { NodeRuntime } from "@effect/platform-node"
import { Array, Effect, Option } from "effect"
import { DistributedSemaphore, SharedLease } from "effect-dlock"
import { LockerLive } from "./locker.ts"

/** The remote service: it counts who is inside, which no caller can. */
const remote = { inside: 0, most: 0 }

const summarize = Effect.fn("summarize")(function*(document: number) {
  const { permits } = yield* SharedLease
  remote.inside += permits
  remote.most = Math.max(remote.most, remote.inside)
  yield* Effect.sleep("50 millis")
  remote.inside -= permits
  return `summary of document ${document}`
})

const program = Effect.gen(function*() {
  const api = yield* DistributedSemaphore.make("summaries", { permits: 4, ttl: "5 seconds" })

  const instance = (name: string) =>
    Effect.forEach(Array.range(1, 6), (document) => {
      const permits = document % 3 === 0 ? 2 : 1
      return summarize(document).pipe(
        api.withPermits(permits, { timeout: "10 seconds" }),
        Effect.flatMap((summary) => Effect.log(`has the ${summary}, for ${permits} permits`)),
        Effect.catchTag("LockTimeout", () => Effect.logWarning(`document ${document} has to wait for another day`))
      )
    }, { concurrency: "unbounded", discard: true }).pipe(Effect.annotateLogs({ instance: name }))

  yield* Effect.forEach(["north", "east", "south"], instance, { concurrency: "unbounded", discard: true })
  yield* Effect.log(`at most ${remote.most} permits were out, of ${api.capacity}`)

  const all = yield* api.withPermitsIfAvailable(4)(Effect.log("nobody calls: all permits for a moment of maintenance"))
  if (Option.isNone(all)) yield* Effect.log("somebody calls: no maintenance now")
})

NodeRuntime.runMain(program.pipe(Effect.provide(LockerLive)))

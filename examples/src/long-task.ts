// A task that one instance runs for as long as it lives, while the others wait to take over.
//
// What to learn from it:
// - `withLock` waits its turn: an instance that waits is told when the running one leaves, and is in within
//   milliseconds. Nobody polls.
// - `NodeRuntime.runMain` makes an interruption of Ctrl-C and SIGTERM. The task is interrupted, its finalizers run,
//   and only then the lock is released: a deployment costs no `ttl` of standing still.
// - A lock that is lost ends the task, not the instance: it waits again. The same happens while the server does not answer.
//
// Run it in two terminals, on one server, and stop the first.
import { NodeRuntime } from "@effect/platform-node"
import { Effect, Schedule } from "effect"
import { type Lease, withLock } from "effect-dlock"
import { LockerLive } from "./locker.ts"

const deliverMail = (lease: Lease) =>
  Effect.gen(function*() {
    yield* Effect.log(`in charge, token ${lease.fencingToken}`)
    yield* Effect.addFinalizer(() => Effect.log("leaves, the lock still in hand"))
    return yield* Effect.forever(Effect.delay(Effect.log("delivers"), "500 millis"))
  })

const program = Effect.log("stands by").pipe(
  Effect.andThen(withLock("jobs/mail", deliverMail, { ttl: "15 seconds" })),
  Effect.tapError((error) => Effect.logWarning(error.message)),
  Effect.retry({
    while: ({ _tag }) => _tag === "OwnershipLost" || _tag === "LockBackendError",
    schedule: Schedule.spaced("1 second")
  }),
  Effect.annotateLogs({ instance: process.pid })
)

NodeRuntime.runMain(program.pipe(Effect.provide(LockerLive)))

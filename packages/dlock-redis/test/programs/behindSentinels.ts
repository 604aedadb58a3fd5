/** Holds a lock behind sentinels until it is told to release it, and then has nothing left to do. */
import { onMessage, report } from "dlock-testing/report"
import { Deferred, Effect, References } from "effect"
import { withLock } from "effect-dlock"
import { RedisLocker } from "effect-dlock-redis"

const [sentinels] = process.argv.slice(2) as [string]
const released = Deferred.makeUnsafe<void>()
onMessage(() => Deferred.doneUnsafe(released, Effect.void))
await withLock(
  "k",
  (lease) => Effect.andThen(Effect.sync(() => report({ held: String(lease.fencingToken) })), Deferred.await(released))
).pipe(
  Effect.provide(RedisLocker.layer({ sentinels, master: "dlock" })),
  Effect.provideService(References.MinimumLogLevel, "Error"),
  Effect.runPromise
)
// The channel to the test must not keep the process alive.
process.stdin.removeAllListeners("close").destroy()

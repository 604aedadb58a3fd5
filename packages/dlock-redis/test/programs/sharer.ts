/**
 * Takes permits of a semaphore or the write lock of a read-write lock, reports that, and holds it until it is killed.
 * Arguments: url, key, permits or "writer", capacity, ttl.
 */
import { onMessage, report } from "dlock-testing/report"
import { Effect } from "effect"
import { DistributedSemaphore, ReadWriteLock } from "effect-dlock"
import { RedisLocker } from "effect-dlock-redis"

const [url, key, permits, capacity, ttl] = process.argv.slice(2) as [string, string, string, string, string]
onMessage(() => {})
const hold = Effect.andThen(Effect.sync(() => report({ held: permits })), Effect.never)
Effect.runFork(
  Effect.gen(function*() {
    if (permits === "writer") {
      const lock = yield* ReadWriteLock.make(key, { ttl: Number(ttl) })
      return yield* lock.withWriteLock(hold)
    }
    const semaphore = yield* DistributedSemaphore.make(key, { permits: Number(capacity), ttl: Number(ttl) })
    return yield* semaphore.withPermits(Number(permits))(hold)
  }).pipe(Effect.provide(RedisLocker.layer({ url })))
)

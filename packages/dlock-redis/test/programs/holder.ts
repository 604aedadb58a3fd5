/** Acquires a lock, reports that, and holds it until it is killed. */
import { onMessage, report } from "dlock-testing/report"
import { Effect } from "effect"
import { withLock } from "effect-dlock"
import { RedisLocker } from "effect-dlock-redis"

const [url, key, ttl] = process.argv.slice(2) as [string, string, string]
onMessage(() => {})
Effect.runFork(
  withLock(
    key,
    (lease) => Effect.andThen(Effect.sync(() => report({ held: String(lease.fencingToken) })), Effect.never),
    {
      ttl: Number(ttl)
    }
  ).pipe(Effect.provide(RedisLocker.layer({ url })))
)

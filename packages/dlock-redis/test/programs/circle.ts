/** Holds one lock and waits for another: see `holdAndWait`. Arguments: url, the caller as JSON. */
import { type CircleCaller, holdAndWait } from "dlock-testing/circle"
import { Effect } from "effect"
import { type Locker, withLock } from "effect-dlock"
import { RedisLocker } from "effect-dlock-redis"

const [url, json] = process.argv.slice(2) as [string, string]
const caller = JSON.parse(json) as CircleCaller
Effect.runFork(
  holdAndWait<Locker>(caller, withLock).pipe(Effect.provide(RedisLocker.layer({ url, holder: caller.holder })))
)

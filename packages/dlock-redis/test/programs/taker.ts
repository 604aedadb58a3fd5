/** Takes several keys at once, in turns with other processes. Arguments: url, number of turns, seed. */
import { takeTurns } from "dlock-testing/turns"
import { Effect, ManagedRuntime } from "effect"
import { withLocks } from "effect-dlock"
import { RedisLocker } from "effect-dlock-redis"

const [url, count, seed] = process.argv.slice(2) as [string, string, string]
const runtime = ManagedRuntime.make(RedisLocker.layer({ url }))
await takeTurns(
  [count, seed],
  (keys, body) => runtime.runPromise(withLocks(keys, Effect.promise(body), { ttl: "20 seconds" }))
)

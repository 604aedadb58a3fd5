/** Stands for a leadership, together with other processes. Arguments: url, and those of `runCandidate`. */
import { runCandidate } from "dlock-testing/leaders"
import { Effect } from "effect"
import { RedisLocker } from "effect-dlock-redis"

const [url, ...rest] = process.argv.slice(2) as [string, string, string]
runCandidate(rest, Effect.provide(RedisLocker.layer({ url })))

/** Runs jobs once, together with other processes. Arguments: url, and those of `runJobs`. */
import { runJobs } from "dlock-testing/jobs"
import { Effect } from "effect"
import { RedisLocker } from "effect-dlock-redis"

const [url, ...rest] = process.argv.slice(2) as [string, string, string, string]
await runJobs(rest, Effect.provide(RedisLocker.layer({ url })))

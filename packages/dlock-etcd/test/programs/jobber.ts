/** Runs jobs once, together with other processes. Arguments: url, and those of `runJobs`. */
import { runJobs } from "dlock-testing/jobs"
import { Effect } from "effect"
import { EtcdLocker } from "effect-dlock-etcd"

const [url, ...rest] = process.argv.slice(2) as [string, string, string, string]
await runJobs(rest, Effect.provide(EtcdLocker.layer({ hosts: url })))

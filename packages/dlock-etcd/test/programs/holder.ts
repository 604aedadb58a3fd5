/** Acquires a lock, reports that, and holds the lock until the process is killed. */
import { onMessage, report } from "dlock-testing/report"
import { Effect } from "effect"
import { withLock } from "effect-dlock"
import { EtcdLocker } from "effect-dlock-etcd"

const [hosts, key, ttl] = process.argv.slice(2) as [string, string, string]
onMessage(() => {})
Effect.runFork(
  withLock(
    key,
    (lease) => Effect.andThen(Effect.sync(() => report({ held: String(lease.fencingToken) })), Effect.never),
    { ttl: Number(ttl) }
  ).pipe(Effect.provide(EtcdLocker.layer({ hosts })))
)

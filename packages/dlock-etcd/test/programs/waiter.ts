/**
 * Waits for a lock with a given number of sections, reports when all have requested it, and runs until the process is killed.
 */
import { onMessage, report } from "dlock-testing/report"
import { Effect } from "effect"
import { withLock } from "effect-dlock"
import { EtcdLocker } from "effect-dlock-etcd"

const [hosts, key, ttl, count] = process.argv.slice(2) as [string, string, string, string]
onMessage(() => {})
Effect.runFork(
  Effect.gen(function*() {
    for (let index = 0; index < Number(count); index++) {
      yield* Effect.forkChild(withLock(key, Effect.never, { ttl: Number(ttl) }), { startImmediately: true })
    }
    report({ asked: true })
    return yield* Effect.never
  }).pipe(Effect.provide(EtcdLocker.layer({ hosts })))
)

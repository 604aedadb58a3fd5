/**
 * Acquires a few locks, and waits for another lock in vain for so long that the process must put its sign of life. Reports when
 * the layer has closed and when the process exits, which must need no help.
 */
import { report } from "dlock-testing/report"
import { Effect } from "effect"
import { withLock } from "effect-dlock"
import { EtcdLocker } from "effect-dlock-etcd"

const [hosts, busy] = process.argv.slice(2) as [string, string]
await Effect.runPromise(
  Effect.gen(function*() {
    yield* withLock("visited", Effect.sleep("100 millis"))
    yield* Effect.forEach(
      [1, 2, 3],
      () => Effect.flip(withLock(busy, Effect.void, { timeout: "2500 millis" })),
      { concurrency: "unbounded" }
    )
  }).pipe(Effect.provide(EtcdLocker.layer({ hosts })))
)
report({ closed: performance.now() })
process.once("exit", () => report({ exit: performance.now() }))

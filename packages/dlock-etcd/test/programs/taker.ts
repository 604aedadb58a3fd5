/** Takes several keys at once, in turns with other processes. Arguments: url, number of turns, seed. */
import { takeTurns } from "dlock-testing/turns"
import { Effect, ManagedRuntime } from "effect"
import { withLocks } from "effect-dlock"
import { EtcdLocker } from "effect-dlock-etcd"

const [url, count, seed] = process.argv.slice(2) as [string, string, string]
const runtime = ManagedRuntime.make(EtcdLocker.layer({ hosts: url }))
await takeTurns(
  [count, seed],
  (keys, body) => runtime.runPromise(withLocks(keys, Effect.promise(body), { ttl: "20 seconds" }))
)

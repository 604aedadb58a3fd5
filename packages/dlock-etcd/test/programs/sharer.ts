/** Acquires permits of a semaphore, reports that, and holds them until the process is killed. */
import { onMessage, report } from "dlock-testing/report"
import { Context, Effect, Layer, Schedule } from "effect"
import { LockStore } from "effect-dlock"
import { EtcdLockStore } from "effect-dlock-etcd"
import { permitsOf } from "../claim.ts"

const [hosts, permits, capacity, ttl] = process.argv.slice(2) as [string, string, string, string]
onMessage(() => {})
Effect.runFork(Effect.scoped(Effect.gen(function*() {
  const store = Context.get(yield* Layer.build(EtcdLockStore.layer({ hosts })), LockStore)
  const claim = permitsOf(Number(permits), Number(capacity), { ttl: Number(ttl) })
  const answer = yield* store.request(claim, "queue")
  if (answer._tag !== "Granted") throw new Error(`the answer was ${answer._tag}`)
  report({ held: String(answer.fencingToken) })
  const held = { claim, fencingToken: answer.fencingToken }
  yield* Effect.repeat(store.renew([held]), Schedule.spaced(Number(ttl) / 3))
})))

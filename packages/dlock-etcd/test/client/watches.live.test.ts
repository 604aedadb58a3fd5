import { assert, describe, it } from "@effect/vitest"
import { startGrpcProxy } from "dlock-testing"
import * as Live from "dlock-testing/live"
import { Deferred, Effect, FiberSet } from "effect"
import { open } from "../../src/internal/client/connection.ts"
import { Watches } from "../../src/internal/client/watches.ts"
import { plainClient, server } from "../support.ts"

/** The watches of a process behind etcd's own proxy. */
const setting = Effect.gen(function*() {
  const etcd = yield* server()
  const proxy = yield* Live.started(() => startGrpcProxy([etcd.url]))
  const port = yield* open({ target: { hosts: proxy.url }, connectTimeout: 10_000, operationTimeout: 2_000 })
  const admin = yield* plainClient(etcd.url)
  const watches = new Watches(port, yield* FiberSet.makeRuntime<never>())
  yield* Effect.addFinalizer(() => Effect.sync(() => watches.close()))
  return { admin, watches }
})

const pairs = Number(process.env["DLOCK_WATCH_PAIRS"] ?? 300)

describe("behind a proxy that answers out of order", () => {
  it.live("of two watches that begin in one moment, one may end and the other goes on", () =>
    Effect.gen(function*() {
      const { admin, watches } = yield* setting
      const silent = new Set<string>()
      /** Begins a watch. The effect that this returns waits until the watch has begun, and returns a function that ends it. */
      const begin = (key: string) => {
        const begun = Deferred.makeUnsafe<() => void>()
        const end = watches.add(
          { key: Buffer.from(key) },
          0n,
          () => silent.delete(key),
          () => {},
          () => void Deferred.doneUnsafe(begun, Effect.succeed(end))
        )
        return Deferred.await(begun)
      }
      for (let pair = 0; pair < pairs; pair++) {
        const [ends, stays] = [begin(`ends-${pair}`), begin(`stays-${pair}`)]
        silent.add(`stays-${pair}`)
        const end = yield* ends
        yield* stays
        end()
      }
      yield* Effect.promise(async () => {
        for (const key of Array.from(silent)) {
          await admin.put(key).value("")
          await admin.delete().key(key)
        }
      })
      yield* Effect.sleep("500 millis")
      assert.deepStrictEqual(Array.from(silent), [], `${silent.size} of ${pairs} watches are silent`)
    }).pipe(Effect.scoped))
})

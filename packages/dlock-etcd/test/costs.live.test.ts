import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import { LockStore } from "effect-dlock"
import { EtcdLockStore } from "effect-dlock-etcd"
import { Conformance } from "effect-dlock/testing"
import { traffic } from "./sharing.ts"
import { server } from "./support.ts"

describe("what a lock costs the etcd server", () => {
  const names = Conformance.costs({ client: Effect.die(""), advance: Effect.sleep, ttl: 1, work: Effect.die("") })
    .map(({ name }) => name)
  for (const [index, name] of names.entries()) {
    it.live(name, () =>
      Effect.gen(function*() {
        const { url } = yield* server()
        const client = Effect.map(
          Effect.suspend(() => Layer.build(Layer.fresh(EtcdLockStore.layer({ hosts: url })))),
          (context) => Context.get(context, LockStore)
        )
        const work = Effect.map(traffic(url), ({ bytes, calls }): Conformance.Work => ({ requests: calls, bytes }))
        const cases = Conformance.costs({ client, advance: Effect.sleep, ttl: "4 seconds", work })
        yield* Effect.scoped(cases[index]!.run)
      }).pipe(Effect.scoped), 120_000)
  }
  it("has cases", () => assert.isAbove(names.length, 3))
})

import { assert, describe, it } from "@effect/vitest"
import { etcdUrl } from "dlock-testing/context"
import { Context, Effect, Layer } from "effect"
import { LockStore } from "effect-dlock"
import { EtcdLockStore } from "effect-dlock-etcd"
import { LockAdmin } from "effect-dlock/LockAdmin"
import { Conformance } from "effect-dlock/testing"

describe("the etcd store", () => {
  const build = Effect.suspend(() => Layer.build(Layer.fresh(EtcdLockStore.layer({ hosts: etcdUrl() }))))
  const cases = Conformance.cases({
    client: Effect.map(build, Context.get(LockStore)),
    admin: Effect.map(build, Context.get(LockAdmin)),
    advance: Effect.sleep,
    nesting: false,
    ttl: "1800 millis",
    lateness: "2 seconds",
    rounds: 200
  })
  for (const { name, run } of cases) it.live(name, () => Effect.scoped(run), 60_000)
  it("runs more than ten cases of the suite", () => assert.isAbove(cases.length, 10))
})

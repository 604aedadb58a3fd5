import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import { LockStore } from "effect-dlock"
import { EtcdLockStore } from "effect-dlock-etcd"
import { LockAdmin } from "effect-dlock/LockAdmin"
import { Conformance } from "effect-dlock/testing"

/**
 * Runs the conformance suite on servers that the test file starts. The cases run concurrently, because they wait for servers
 * nearly all of their time.
 */
export const conformanceOn = (
  what: string,
  options: () => EtcdLockStore.EtcdLockStoreOptions,
  ttl: "1800 millis" | "3800 millis"
): void =>
  void describe.concurrent(what, () => {
    const build = Effect.suspend(() => Layer.build(Layer.fresh(EtcdLockStore.layer(options()))))
    const cases = Conformance.cases({
      client: Effect.map(build, Context.get(LockStore)),
      admin: Effect.map(build, Context.get(LockAdmin)),
      advance: Effect.sleep,
      nesting: false,
      ttl,
      lateness: "2 seconds",
      rounds: 20
    })
    for (const { name, run } of cases) it.live(name, () => Effect.scoped(run), 60_000)
    it("runs more than ten cases of the suite", () => assert.isAbove(cases.length, 10))
  })

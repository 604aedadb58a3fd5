import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import { LockStore } from "effect-dlock"
import { EtcdLockStore } from "effect-dlock-etcd"
import { Conformance } from "effect-dlock/testing"

/**
 * The conformance suite on servers that a file starts for it. Its cases run side by side: nearly all of their time they
 * wait for servers.
 */
export const conformanceOn = (
  what: string,
  options: () => EtcdLockStore.EtcdLockStoreOptions,
  ttl: "1800 millis" | "3800 millis"
): void =>
  void describe.concurrent(what, () => {
    const client = Effect.map(
      Effect.suspend(() => Layer.build(Layer.fresh(EtcdLockStore.layer(options())))),
      (context) => Context.get(context, LockStore)
    )
    const cases = Conformance.cases({
      client,
      advance: Effect.sleep,
      nesting: false,
      ttl,
      lateness: "2 seconds",
      rounds: 20
    })
    for (const { name, run } of cases) it.live(name, () => Effect.scoped(run), 60_000)
    it("runs more than ten cases of the suite", () => assert.isAbove(cases.length, 10))
  })

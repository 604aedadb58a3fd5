import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Scope } from "effect"
import { Locker, LockStore, MemoryLockStore } from "effect-dlock"
import { FaultyLockStore } from "effect-dlock/testing"
import { TestClock } from "effect/testing"

const finalizers = (scope: Scope.Scope): number => scope.state._tag === "Open" ? scope.state.finalizers?.size ?? 1 : 0

describe("a scope that stays open for long", () => {
  it.effect("keeps nothing of a lease that was released early", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      for (let turn = 0; turn < 10; turn++) {
        const lease = yield* Scope.provide(Locker.scoped("k"), scope)
        yield* lease.release
      }
      assert.strictEqual(finalizers(scope), 0)
    }).pipe(Effect.provide(Locker.layerMemory)))

  for (const answer of ["Gone", "Unknown"] as const) {
    it.effect(`keeps nothing of a lease that was lost: ${answer}`, () =>
      Effect.gen(function*() {
        const faulty = yield* FaultyLockStore.make(yield* LockStore)
        const context = yield* Layer.build(
          Locker.layer({ defaultTtl: "3 seconds" }).pipe(Layer.provide(Layer.succeed(LockStore, faulty.store)))
        )
        const scope = yield* Scope.make()
        const lease = yield* Locker.scoped("k").pipe(Scope.provide(scope), Effect.provideContext(context))
        if (answer === "Gone") yield* faulty.answerRenewals({ _tag: "Gone" })
        else yield* faulty.hang("renew")
        yield* TestClock.adjust("4 seconds")
        assert.strictEqual((yield* Effect.flip(lease.ensureHeld))._tag, "OwnershipLost")
        assert.strictEqual(finalizers(scope), 0)
      }).pipe(Effect.provide(MemoryLockStore.layer)))
  }
})

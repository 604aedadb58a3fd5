import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber } from "effect"
import { Locker, withLock } from "effect-dlock"
import { fork } from "./support.ts"

describe("a waiter of the memory store runs on within the call that granted it", () => {
  it.effect("and is still alone when it comes back for the key at once", () =>
    Effect.gen(function*() {
      let inside = 0
      let most = 0
      const hold = (until: Effect.Effect<void>) =>
        withLock(
          "k",
          Effect.acquireUseRelease(
            Effect.sync(() => {
              most = Math.max(most, ++inside)
            }),
            () => until,
            () => Effect.sync(() => inside--)
          )
        )
      const first = yield* Deferred.make<void>()
      const second = yield* Deferred.make<void>()
      const one = yield* fork(hold(Deferred.await(first)))
      const two = yield* fork(Effect.andThen(hold(Effect.void), hold(Deferred.await(second))))
      yield* Deferred.succeed(first, undefined)
      yield* Fiber.join(one)
      const three = yield* fork(hold(Effect.void))
      yield* Effect.yieldNow
      assert.isUndefined(three.pollUnsafe())
      yield* Deferred.succeed(second, undefined)
      yield* Fiber.joinAll([two, three])
      assert.strictEqual(most, 1)
    }).pipe(Effect.provide(Locker.layerMemory)))

  it.effect("and two thousand of them do not nest", () =>
    Effect.gen(function*() {
      const gate = yield* Deferred.make<void>()
      let count = 0
      const first = yield* fork(withLock("k", Deferred.await(gate)))
      const waiting = yield* Effect.forEach(
        Array.from({ length: 2000 }),
        () => fork(withLock("k", Effect.sync(() => void count++)))
      )
      yield* Deferred.succeed(gate, undefined)
      yield* Fiber.join(first)
      yield* Fiber.joinAll(waiting)
      assert.strictEqual(count, 2000)
      assert.strictEqual(yield* withLock("k", Effect.succeed("free"), { timeout: 0 }), "free")
    }).pipe(Effect.provide(Locker.layerMemory)))
})

import { assert, describe, it } from "@effect/vitest"
import { Clock, Deferred, Effect, Exit, Fiber, Scope } from "effect"
import { MemoryLockStore } from "effect-dlock"
import { TestClock } from "effect/testing"
import { fork, lockerOver, shiftedClock } from "./support.ts"

describe("a locker that has been closed", () => {
  const closing = Effect.gen(function*() {
    const memory = yield* MemoryLockStore.make
    const scope = yield* Scope.make()
    const locker = yield* Scope.provide(lockerOver(memory), scope)
    return { memory, locker, close: Scope.close(scope, Exit.void) }
  })

  it.effect("grants nothing: its timers have gone, and nobody would notice that a lease has ended", () =>
    Effect.gen(function*() {
      const { close, locker } = yield* closing
      yield* close
      const error = yield* Effect.flip(locker.withLock("k", Effect.die("it ran")))
      assert(error._tag === "LockBackendError")
      assert.deepStrictEqual([error.operation, error.key, error.retryable], ["acquire", "k", false])
    }))

  it.effect("gives back what had been lost just before, and which the backend may still keep", () =>
    Effect.gen(function*() {
      const { clock, shift } = yield* shiftedClock
      const memory = yield* MemoryLockStore.make
      const scope = yield* Scope.make()
      const locker = yield* Effect.provideService(Scope.provide(lockerOver(memory), scope), Clock.Clock, clock)
      const other = yield* lockerOver(memory)
      const lease = yield* locker.scoped("k", { ttl: "5 minutes", guardGap: "3 seconds" })
      shift.wall = 301_000
      assert.strictEqual((yield* Effect.flip(lease.ensureHeld))._tag, "OwnershipLost")
      yield* fork(Scope.close(scope, Exit.void))
      const next = yield* fork(other.withLock("k", Effect.void))
      yield* TestClock.adjust("3 seconds")
      assert.isDefined(next.pollUnsafe())
    }))

  it.effect("gives back what is granted to those who waited when it went", () =>
    Effect.gen(function*() {
      const { close, locker, memory } = yield* closing
      const other = yield* lockerOver(memory)
      const gate = yield* Deferred.make<void>()
      yield* fork(other.withLock("k", Deferred.await(gate)))
      const waiting = yield* fork(Effect.flip(locker.withLock("k", Effect.die("it ran"))))
      yield* close
      yield* Deferred.succeed(gate, undefined)
      assert.strictEqual((yield* Fiber.join(waiting))._tag, "LockBackendError")
      assert.strictEqual(yield* other.withLock("k", Effect.succeed("free"), { timeout: 0 }), "free")
    }))
})

import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { type LockStore, MemoryLockStore } from "effect-dlock"
import { TestClock } from "effect/testing"
import { fork, lockerOver, withLogs } from "./support.ts"

/** A store that has a bug, and one over the same memory that has none. */
const broken = Effect.fnUntraced(function*(bug: (memory: LockStore["Service"]) => Partial<LockStore["Service"]>) {
  const memory = yield* MemoryLockStore.make
  return {
    locker: yield* lockerOver({ ...memory, ...bug(memory) }, { defaultTtl: "9 seconds" }),
    other: yield* lockerOver(memory, { defaultTtl: "9 seconds" })
  }
})

const thrown = () => {
  throw new Error("a bug in the store")
}

describe("a store with a bug", () => {
  it.effect("that throws at requests keeps no other acquire from asking", () =>
    Effect.gen(function*() {
      let count = 0
      const { locker } = yield* broken((memory) => ({
        request: (claim, mode) => count++ < 2_000 ? thrown() : memory.request(claim, mode)
      }))
      yield* Effect.forEach(Array.from({ length: 2_000 }), () => Effect.exit(locker.withLock("k", Effect.void)))
      const late = yield* fork(locker.withLock("k", Effect.succeed(42)))
      yield* TestClock.adjust("1 milli")
      assert.isDefined(late.pollUnsafe())
      assert.strictEqual(yield* Fiber.join(late), 42)
    }))

  it.effect("that throws at a release does not change the program's result, and is asked again", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        let count = 0
        const { locker, other } = yield* broken((memory) => ({
          withdraw: (claim) => count++ === 0 ? thrown() : memory.withdraw(claim)
        }))
        assert.strictEqual(yield* locker.withLock("k", Effect.succeed(42)), 42)
        assert.deepStrictEqual(lines.map(({ level }) => level), ["Warn"])
        yield* TestClock.adjust("1 second")
        assert.strictEqual(yield* other.withLock("k", Effect.succeed(43), { timeout: 0 }), 43)
      })
    ))

  it.effect("that lets nobody wait fails the acquire with LockBackendError", () =>
    Effect.gen(function*() {
      const { locker, other } = yield* broken((memory) => ({ request: (claim) => memory.request(claim, "try") }))
      yield* other.scoped("k")
      for (const acquire of [locker.withLock("k", Effect.void), Effect.scoped(locker.scoped("k"))]) {
        assert.strictEqual((yield* Effect.flip(acquire))._tag, "LockBackendError")
      }
    }))

  it.effect("that lets a try wait does not make it wait, and keeps no place for it", () =>
    Effect.gen(function*() {
      const { locker, other } = yield* broken((memory) => ({ request: (claim) => memory.request(claim, "queue") }))
      const lease = yield* other.scoped("k")
      const trying = yield* fork(locker.withLockIfAvailable("k", Effect.void))
      yield* TestClock.adjust("1 milli")
      assert.isDefined(trying.pollUnsafe())
      assert.strictEqual((yield* Fiber.join(trying))._tag, "None")
      yield* lease.release
      assert.strictEqual(yield* other.withLock("k", Effect.succeed(42), { timeout: 0 }), 42)
    }))

  it.effect("that keeps no place in its queue is asked at a bounded rate, and for a bounded time", () =>
    Effect.gen(function*() {
      let count = 0
      const { locker } = yield* broken(() => ({
        request: () => Effect.sync(() => ({ _tag: "Gone", count: count++ }) as const)
      }))
      const waiting = yield* fork(Effect.flip(locker.withLock("k", Effect.void)))
      const trying = yield* fork(Effect.flip(locker.withLockIfAvailable("t", Effect.void)))
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* Fiber.join(trying))._tag, "LockBackendError")
      assert.isUndefined(waiting.pollUnsafe())
      yield* TestClock.adjust("3100 millis")
      assert.strictEqual((yield* Fiber.join(waiting))._tag, "LockBackendError")
      assert.isAtMost(count, 60)
    }))
})

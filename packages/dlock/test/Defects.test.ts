import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Stream } from "effect"
import { Locker, type LockStore, MemoryLockStore } from "effect-dlock"
import { TestClock } from "effect/testing"
import { fork, lockerOver, setting, withLogs } from "./support.ts"

const withoutGroupBy = Effect.acquireRelease(
  Effect.sync(() => {
    const groupBy = Object.getOwnPropertyDescriptor(Map, "groupBy")!
    Reflect.deleteProperty(Map, "groupBy")
    return groupBy
  }),
  (groupBy) => Effect.sync(() => Object.defineProperty(Map, "groupBy", groupBy))
)

describe("what keeps leases alive does not die unheard", () => {
  it.effect("a defect before a renewal is logged once, and ends its leases at once", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        const { locker, sent } = yield* setting()
        const sections = yield* Effect.forEach(
          ["a", "b"],
          (key) => fork(Effect.flip(locker.withLock(key, Effect.never, { guardGap: "1 second" })))
        )
        yield* withoutGroupBy
        yield* TestClock.adjust("3 seconds")
        for (const section of sections) {
          const lost = yield* Fiber.join(section)
          assert(lost._tag === "OwnershipLost")
          assert.strictEqual(lost.reason, "Revoked")
        }
        assert.strictEqual(lines.filter((line) => line.level === "Error").length, 1)
        assert.include(lines[0]!.message, "groupBy")
        yield* TestClock.adjust("1 second")
        assert.strictEqual(sent("withdraw").length, 2, "others need not wait for an expiry")
      })
    ))

  it.effect("a renewal that throws, or does not heed its interruption, is one that failed: a good lock is kept", () =>
    Effect.gen(function*() {
      const failures: ReadonlyArray<() => ReturnType<LockStore["Service"]["renew"]>> = [
        () => {
          throw new Error("a bug in the store")
        },
        () => Effect.die("a bug in the store"),
        () => Effect.uninterruptible(Effect.never)
      ]
      for (const failure of failures) {
        const memory = yield* MemoryLockStore.make
        let isFirst = true
        const renew: LockStore["Service"]["renew"] = (held) => {
          if (!isFirst) return memory.renew(held)
          isFirst = false
          return failure()
        }
        const locker = yield* lockerOver({ ...memory, renew })
        const lease = yield* locker.scoped("k", { ttl: "9 seconds" })
        yield* TestClock.adjust("1 minute")
        yield* lease.ensureHeld
      }
    }))

  it.effect("so is one about the answer to a renewal", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        const memory = yield* MemoryLockStore.make
        const renew: LockStore["Service"]["renew"] = (held) =>
          Effect.succeed(held.map(() => ({ _tag: "Confirmed", confirmedAt: Symbol("not a number") as never })))
        const locker = yield* lockerOver({ ...memory, renew })
        const section = yield* fork(Effect.flip(locker.withLock("k", Effect.never, { ttl: "9 seconds" })))
        yield* TestClock.adjust("3 seconds")
        const lost = yield* Fiber.join(section)
        assert(lost._tag === "OwnershipLost")
        assert.strictEqual(lost.reason, "Revoked")
        assert.deepStrictEqual(lines.filter((line) => line.level === "Error").map((line) => line.annotations.key), [
          "k"
        ])
      })
    ))

  it.effect("a defect in what tells of losses is logged, and leases are renewed as before", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        const memory = yield* MemoryLockStore.make
        const locker = yield* lockerOver({ ...memory, losses: Stream.die(new Error("a bug in the store")) })
        const lease = yield* locker.scoped("k", { ttl: "9 seconds" })
        yield* TestClock.adjust("1 minute")
        yield* lease.ensureHeld
        assert.deepStrictEqual(lines.map((line) => line.level), ["Error"])
      })
    ))

  it.effect("a runtime that lacks what is needed fails the layer by name", () =>
    Effect.gen(function*() {
      yield* withoutGroupBy
      const error = yield* Effect.flip(Layer.build(Locker.layerWithStore(MemoryLockStore.layer)))
      assert.strictEqual(error._tag, "ConfigError")
      assert.include(error.message, "Map.groupBy")
    }))
})

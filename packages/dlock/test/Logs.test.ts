import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { LockBackendError, MemoryLockStore } from "effect-dlock"
import { TestClock } from "effect/testing"
import { fork, lockerOver, setting, withLogs } from "./support.ts"

const refused = (operation: LockBackendError["operation"]) =>
  new LockBackendError({ operation, retryable: true, cause: new Error("connect ECONNREFUSED") })

describe("an outage is told in two lines, whatever fails meanwhile", () => {
  it.effect("the first line has the reason when the backend goes away, and the second the counts when it answers again", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        const { faulty, locker } = yield* setting({ defaultTtl: "1 hour" })
        const renewed = yield* Effect.forEach(["a", "b", "c"], (key) => locker.scoped(key, { ttl: "90 seconds" }))
        const held = yield* Effect.forEach(["d", "e"], (key) => locker.scoped(key))
        yield* faulty.fail("request", refused("acquire"))
        yield* faulty.fail("renew", refused("renew"))
        yield* faulty.fail("withdraw", refused("release"))
        const acquires = yield* Effect.forEach(
          Array.from({ length: 200 }, (_, index) => index),
          (index) => fork(Effect.flip(locker.withLock(`k${index}`, Effect.void)))
        )
        yield* TestClock.adjust("10 seconds")
        yield* Fiber.awaitAll(acquires)
        yield* Effect.forEach(held, (lease) => fork(lease.release))
        yield* TestClock.adjust("25 seconds")
        yield* faulty.heal()
        yield* TestClock.adjust("10 seconds")
        yield* Effect.forEach(renewed, (lease) => lease.ensureHeld)

        assert.deepStrictEqual(
          lines.map(({ annotations, level }) => [level, annotations.component]),
          [["Warn", "dlock"], ["Info", "dlock"]]
        )
        assert.include(lines[0]!.message, "connect ECONNREFUSED")
        assert.match(
          lines[1]!.message,
          /again, after 3\d\.\d s in which 200 acquires, [36] renewals, 2 releases failed/
        )
        for (const { message } of lines) assert.notInclude(message, "\n")
      })
    ))

  it.effect("neither a caller whose time is over nor a refusal by the backend is told as an outage", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        const { faulty, locker } = yield* setting()
        const held = yield* faulty.holdCalls("request")
        const hurried = yield* fork(Effect.flip(locker.withLock("k", Effect.void, { timeout: "100 millis" })))
        yield* TestClock.adjust("200 millis")
        assert.strictEqual((yield* Fiber.join(hurried))._tag, "LockBackendError")
        yield* held.release
        const no = new LockBackendError({ operation: "acquire", retryable: false, cause: new Error("NOPERM") })
        yield* faulty.fail("request", no)
        yield* Effect.flip(locker.withLock("k", Effect.void))
        assert.deepStrictEqual(lines, [])
      })
    ))

  it.effect("a backend that comes and goes with every call is told of a few times, not with every call", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        const { faulty, locker } = yield* setting()
        for (let i = 0; i < 100; i++) {
          yield* faulty.fail("request", refused("acquire"), 1)
          const taking = yield* fork(locker.withLock("k", Effect.void))
          yield* TestClock.adjust("200 millis")
          yield* Fiber.join(taking)
        }
        assert.isAtLeast(lines.length, 2)
        assert.isAtMost(lines.length, 6)
      })
    ))

  it.effect("nothing is said of the release of a lock that was never had", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        const { faulty, locker } = yield* setting()
        const no = new LockBackendError({ operation: "acquire", retryable: false, cause: new Error("NOPERM") })
        yield* faulty.fail("request", no)
        yield* faulty.fail("withdraw", no)
        for (let i = 0; i < 10; i++) yield* Effect.flip(locker.withLock("k", Effect.void))
        assert.deepStrictEqual(lines, [])
      })
    ))
})

describe("what is logged", () => {
  it.effect("has the component dlock and the key: an outage and its end, a loss, a release that failed", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        const { faulty, locker } = yield* setting()
        yield* faulty.fail("renew", undefined, 1)
        const fiber = yield* fork(Effect.flip(locker.withLock("a", Effect.never)))
        yield* TestClock.adjust("4 seconds")
        yield* faulty.answerRenewals({ _tag: "Gone" })
        yield* TestClock.adjust("4 seconds")
        assert.isDefined(fiber.pollUnsafe())
        yield* faulty.fail("withdraw", new LockBackendError({ operation: "release", retryable: false, cause: "no" }))
        yield* locker.withLock("b", Effect.void)
        for (const [index, word] of ["(renew)", "1 renewal", "Expired", "release"].entries()) {
          assert.include(lines[index]!.message, word)
        }
        assert.deepStrictEqual(
          lines.map(({ annotations, level }) => [level, annotations]),
          ([["Warn", "a"], ["Info", "a"], ["Warn", "a"], ["Warn", "b"]] as const).map(
            ([level, key]) => [level, { component: "dlock", key }]
          )
        )
      })
    ))

  it.effect("is nothing when all goes well", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        const { locker } = yield* setting()
        yield* locker.withLock("a", Effect.void)
        yield* Effect.scoped(locker.scoped("a"))
        yield* Effect.flip(locker.withLock("a", Effect.fail("own")))
        assert.strictEqual(lines.length, 0)
      })
    ))

  it.effect("a ttl below a second is warned of once a locker", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        const { locker } = yield* setting()
        yield* locker.withLock("a", Effect.void)
        assert.strictEqual(lines.length, 0)
        yield* locker.withLock("b", Effect.void, { ttl: 999 })
        yield* locker.withLock("c", Effect.void, { ttl: 500 })
        const other = yield* lockerOver(yield* MemoryLockStore.make)
        yield* other.withLock("d", Effect.void, { ttl: 500 })
        assert.deepStrictEqual(
          lines.map(({ annotations, level }) => [level, annotations]),
          [["Warn", { component: "dlock", key: "b" }], ["Warn", { component: "dlock", key: "d" }]]
        )
      })
    ))
})

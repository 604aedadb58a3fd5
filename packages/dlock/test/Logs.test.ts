import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { LockBackendError, MemoryLockStore } from "effect-dlock"
import * as StoreTelemetry from "effect-dlock/StoreTelemetry"
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
          /^The lock store is back after 3\d\.\d s, in which 200 acquires, [36] renewals and 2 releases failed$/
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

describe("an outage of a store that notes its connections", () => {
  /** A locker over a store that says so, whose calls fail while `state.isAway`. */
  const connected = Effect.gen(function*() {
    const memory = yield* MemoryLockStore.make
    const telemetry = yield* StoreTelemetry.make("My server")
    const state = { isAway: false }
    const locker = yield* lockerOver({
      ...memory,
      telemetry,
      request: (claim, mode) => state.isAway ? Effect.fail(refused("acquire")) : memory.request(claim, mode)
    })
    const fails = Effect.gen(function*() {
      const failing = yield* fork(Effect.flip(locker.withLock("k", Effect.void)))
      yield* TestClock.adjust("6 seconds")
      return yield* Fiber.join(failing)
    })
    return { fails, locker, state, telemetry }
  })
  const texts = (lines: ReadonlyArray<{ readonly level: string; readonly message: string }>) =>
    lines.map(({ level, message }) => `${level}: ${message}`)

  it.effect("is one line when the connection is lost, however many calls fail, and one when it is back", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        const { fails, locker, state, telemetry } = yield* connected
        const [one, other] = [{}, {}]
        state.isAway = true
        telemetry.connectionLost(one)
        telemetry.connectionLost(other)
        // The reason is about to come, and says more than what the calls fail with.
        yield* fails
        assert.deepStrictEqual(lines, [])
        telemetry.connectionFailed(one, "connect ECONNREFUSED 127.0.0.1:1", false)
        telemetry.connectionFailed(other, "connect ETIMEDOUT", false)
        yield* fails
        telemetry.connectionBack(one)
        state.isAway = false
        yield* locker.withLock("answered while a connection is lost", Effect.void)
        assert.strictEqual(lines.length, 1)
        telemetry.connectionBack(other)
        yield* locker.withLock("k", Effect.void)
        assert.deepStrictEqual(texts(lines), [
          "Warn: Lost the connection to My server: connect ECONNREFUSED 127.0.0.1:1",
          "Info: My server is back after 12.0 s, in which 2 acquires failed"
        ])
      })
    ))

  it.effect("is one line where the calls fail first, and ends by an answer where no connection was lost", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        const { fails, locker, state, telemetry } = yield* connected
        state.isAway = true
        yield* fails
        telemetry.connectionLost(telemetry)
        telemetry.connectionFailed(telemetry, "connect ETIMEDOUT", false)
        telemetry.connectionBack(telemetry)
        assert.deepStrictEqual(texts(lines), [
          "Warn: My server does not answer (acquire): connect ECONNREFUSED",
          "Info: My server is back after 6.0 s, in which 1 acquire failed"
        ])
        yield* TestClock.adjust("10 seconds")
        yield* fails
        state.isAway = false
        yield* locker.withLock("k", Effect.void)
        assert.strictEqual(lines.length, 4)
      })
    ))

  it.effect("says once more that the server refuses the login, where it was away for another reason before", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        const telemetry = yield* StoreTelemetry.make("My server")
        telemetry.connectionLost(telemetry)
        telemetry.connectionFailed(telemetry, "connect ECONNREFUSED", false)
        telemetry.connectionFailed(telemetry, "WRONGPASS", true)
        telemetry.connectionFailed(telemetry, "WRONGPASS", true)
        assert.deepStrictEqual(texts(lines), [
          "Warn: Lost the connection to My server: connect ECONNREFUSED",
          "Warn: My server refuses the connection: WRONGPASS"
        ])
      })
    ))

  it.effect("shares its lines among the lockers over that store", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        const memory = yield* MemoryLockStore.make
        const telemetry = yield* StoreTelemetry.make("My server")
        const store = { ...memory, telemetry, request: () => Effect.fail(refused("acquire")) }
        for (const locker of [yield* lockerOver(store), yield* lockerOver(store)]) {
          const failing = yield* fork(Effect.flip(locker.withLock("k", Effect.void)))
          yield* TestClock.adjust("6 seconds")
          yield* Fiber.join(failing)
        }
        assert.strictEqual(lines.length, 1)
      })
    ))
})

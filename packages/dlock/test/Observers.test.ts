import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber } from "effect"
import { type Lease, MemoryLockStore } from "effect-dlock"
import { TestClock } from "effect/testing"
import { fork, lockerOver, setting, withLogs } from "./support.ts"

describe("an observer of a lease's fiber that throws", () => {
  const observed = (lease: Lease["Service"]) =>
    Effect.sync(() => {
      lease.renewal.addObserver(() => {
        throw new Error("on purpose")
      })
    })

  it.effect("stops neither the loss of its lease nor the deadlines of others", () =>
    Effect.gen(function*() {
      const { faulty, locker } = yield* setting()
      yield* faulty.hang("renew")
      const one = yield* fork(
        Effect.flip(locker.withLock("one", (lease) => Effect.andThen(observed(lease), Effect.never)))
      )
      const two = yield* fork(Effect.flip(locker.withLock("two", Effect.never)))
      yield* TestClock.adjust("9 seconds")
      for (const fiber of [one, two]) assert.strictEqual((yield* Fiber.join(fiber))._tag, "OwnershipLost")
    }))

  it.effect("does not keep the claim from being given back", () =>
    Effect.gen(function*() {
      const { locker, sent } = yield* setting()
      assert.strictEqual(yield* locker.withLock("k", (lease) => Effect.as(observed(lease), 42)), 42)
      assert.strictEqual(sent("withdraw").length, 1)
    }))
})

describe("an observer that throws at the end of a program that acquires", () => {
  const throwing = (fiber: Fiber.Fiber<unknown, unknown>) =>
    fiber.addObserver(() => {
      throw new Error("on purpose")
    })

  it.effect("costs those beside it in a crowd neither their turn nor their lock", () =>
    Effect.gen(function*() {
      const memory = yield* MemoryLockStore.make
      const open = yield* Deferred.make<void>()
      const locker = yield* lockerOver({
        ...memory,
        request: (claim, mode) => Effect.andThen(Deferred.await(open), memory.request(claim, mode))
      })
      const crowd = yield* Effect.forEach(
        Array.from({ length: 4_000 }, (_, index) => `k${index}`),
        (key) => fork(Effect.exit(locker.withLock(key, Effect.void)))
      )
      throwing(crowd[2_000]!)
      yield* Deferred.succeed(open, undefined)
      yield* TestClock.adjust("10 seconds")
      const exits = yield* Effect.forEach(crowd, Fiber.join)
      assert.isTrue(exits.every(({ _tag }) => _tag === "Success"))
    }))

  it.effect("is logged by the loggers of the program that made the locker, with the key", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        const { locker } = yield* setting()
        yield* fork(locker.withLock("k", Effect.sleep("1 second")))
        const waiter = yield* fork(locker.withLock("k", Effect.void))
        throwing(waiter)
        yield* TestClock.adjust("1 second")
        assert.strictEqual(lines.length, 1)
        assert.match(lines[0]!.message, /^A callback at the end of a fiber threw an error/)
        assert.deepStrictEqual(lines[0]!.annotations, { component: "dlock", key: "dlock:k" })
      })
    ))

  it.effect("costs those that are released with it no lock", () =>
    Effect.gen(function*() {
      const { faulty, locker } = yield* setting()
      const kept = yield* locker.scoped("kept")
      const section = yield* fork(locker.withLock("k", Effect.sleep("3001 millis")))
      throwing(section)
      const held = yield* faulty.holdReplies("renew")
      yield* TestClock.adjust("3100 millis")
      assert.isUndefined(section.pollUnsafe())
      yield* held.release
      yield* TestClock.adjust("1 milli")
      assert.isDefined(section.pollUnsafe())
      yield* kept.ensureHeld
    }))
})

import { assert, describe, it } from "@effect/vitest"
import { Clock, Deferred, Effect, Fiber } from "effect"
import { LockBackendError, type LockStore } from "effect-dlock"
import { TestClock } from "effect/testing"
import { fork, lockerOver, setting, shiftedClock } from "./support.ts"

/** A backend that answers nobody until it is told to. */
const mute = Effect.gen(function*() {
  const { memory } = yield* setting()
  const asked: Array<string> = []
  const open = yield* Deferred.make<void>()
  const store: LockStore["Service"] = {
    ...memory,
    request: (claim, mode) =>
      Effect.suspend(() => {
        asked.push(claim.key)
        return Effect.andThen(Deferred.await(open), memory.request(claim, mode))
      })
  }
  const locker = yield* lockerOver(store, { prefix: "", defaultTtl: "10 minutes" })
  const crowd = (count: number) =>
    Effect.forEach(
      Array.from({ length: count }, (_, index) => `k${index}`),
      (key) => fork(Effect.exit(locker.withLock(key, Effect.void)))
    )
  return { asked, crowd, locker, open }
})

describe("a crowd that comes at once", () => {
  it.effect("asks two thousand at a time, in its order, and all are served", () =>
    Effect.gen(function*() {
      const { asked, crowd, open } = yield* mute
      const fibers = yield* crowd(5_000)
      assert.strictEqual(asked.length, 2_000)
      yield* Deferred.succeed(open, undefined)
      const exits = yield* Effect.forEach(fibers, Fiber.join)
      assert.isTrue(exits.every(({ _tag }) => _tag === "Success"))
      assert.deepStrictEqual(asked, Array.from({ length: 5_000 }, (_, index) => `k${index}`))
    }))

  it.effect("may leave before its turn, and then never asks", () =>
    Effect.gen(function*() {
      const { asked, crowd, open } = yield* mute
      const fibers = yield* crowd(2_500)
      yield* Fiber.interruptAll(fibers.slice(2_000, 2_499))
      yield* Deferred.succeed(open, undefined)
      yield* Fiber.join(fibers[2_499]!)
      assert.deepStrictEqual(asked.slice(2_000), ["k2499"])
    }))

  it.effect("is outside for no longer than its callers' time", () =>
    Effect.gen(function*() {
      const { asked, crowd, locker, open } = yield* mute
      yield* crowd(2_000)
      const late = yield* fork(Effect.flip(locker.withLock("late", Effect.void, { timeout: "500 millis" })))
      yield* TestClock.adjust("499 millis")
      assert.isUndefined(late.pollUnsafe())
      yield* TestClock.adjust("1 milli")
      const error = yield* Fiber.join(late)
      assert(error instanceof LockBackendError)
      assert.strictEqual(error.key, "late")
      assert.notInclude(asked, "late")
      yield* Deferred.succeed(open, undefined)
    }))

  it.effect("is not told so for a time in which this process itself was late", () =>
    Effect.gen(function*() {
      const { clock, shift } = yield* shiftedClock
      const { crowd, open } = yield* Effect.provideService(mute, Clock.Clock, clock)
      const fibers = yield* crowd(2_100)
      yield* TestClock.adjust("500 millis")
      shift.monotonic = 20_000
      yield* TestClock.adjust("1 second")
      assert.isUndefined(fibers[2_099]!.pollUnsafe())
      yield* Deferred.succeed(open, undefined)
      yield* Fiber.join(fibers[2_099]!)
    }))

  it.effect("is told when the backend has answered nobody for five seconds", () =>
    Effect.gen(function*() {
      const { crowd, open } = yield* mute
      const fibers = yield* crowd(2_100)
      yield* TestClock.adjust("4 seconds")
      assert.isUndefined(fibers[2_099]!.pollUnsafe())
      yield* TestClock.adjust("2 seconds")
      const outside = yield* Effect.forEach(fibers.slice(2_000), Fiber.join)
      assert.isTrue(outside.every(({ _tag }) => _tag === "Failure"))
      yield* Deferred.succeed(open, undefined)
    }))
})

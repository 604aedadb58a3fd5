import { assert, describe, it } from "@effect/vitest"
import { Deferred, Duration, Effect, Fiber } from "effect"
import { fork, lockerOver, setting, shiftedSetting } from "./support.ts"

describe("one that waits", () => {
  it.effect("is granted a lease that stands, though the wall clock was set during the wait", () =>
    Effect.gen(function*() {
      const { locker, memory, shift } = yield* shiftedSetting
      const other = yield* lockerOver(memory)
      const gate = yield* Deferred.make<void>()
      yield* fork(other.withLock("k", Deferred.await(gate)))
      const waiting = yield* fork(locker.withLock("k", (lease) => Effect.as(lease.ensureHeld, "held")))
      shift.wall = 60_000
      yield* Deferred.succeed(gate, undefined)
      assert.strictEqual(yield* Fiber.join(waiting), "held")
    }))

  it.effect("times out on a holder whose description is none of ours", () =>
    Effect.gen(function*() {
      const { locker, memory } = yield* setting()
      yield* memory.request({
        id: "stranger",
        key: "dlock:k",
        prefix: "dlock:",
        permits: 1,
        capacity: 1,
        ttl: Duration.seconds(9),
        guardGap: Duration.zero,
        holder: `elsewhere {"attempt":1}`
      }, "try")
      const error = yield* Effect.flip(locker.withLock("k", Effect.void, { timeout: 0 }))
      assert(error._tag === "LockTimeout")
      assert.deepStrictEqual([error.holder, error.metadata], [`elsewhere {"attempt":1}`, undefined])
    }))
})

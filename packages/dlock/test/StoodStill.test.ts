import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Fiber } from "effect"
import { MemoryLockStore } from "effect-dlock"
import { FaultyLockStore } from "effect-dlock/testing"
import { TestClock } from "effect/testing"
import { fork, lockerOver, shiftedClock, shiftedSetting } from "./support.ts"

// All found by the simulation: a process stands still past a caller's time, and nothing is wrong with the backend.
describe("a process that stood still past its caller's time", () => {
  it.effect("reads what came meanwhile before it says that there was no answer", () =>
    Effect.gen(function*() {
      const { faulty, locker, shift } = yield* shiftedSetting
      const answer = yield* faulty.holdReplies("request")
      const taking = yield* fork(locker.withLock("k", Effect.succeed("in"), { timeout: "100 millis" }))
      yield* answer.caught
      shift.monotonic += 2_000
      yield* TestClock.adjust("100 millis")
      yield* answer.release
      yield* TestClock.adjust("10 millis")
      assert.strictEqual(yield* Fiber.join(taking), "in")
    }))

  it.effect("asks once more where it was granted the lock too long ago", () =>
    Effect.gen(function*() {
      for (const attempt of [false, true]) {
        const { clock, shift } = yield* shiftedClock
        const shifted = Effect.provideService(Clock.Clock, clock)
        const faulty = yield* FaultyLockStore.make(yield* shifted(MemoryLockStore.make))
        const locker = yield* shifted(lockerOver(faulty.store, { defaultTtl: "9 seconds" }))
        const answer = yield* faulty.holdReplies("request")
        const taking: Effect.Effect<unknown, unknown> = attempt
          ? locker.withLockIfAvailable("k", Effect.succeed("in"))
          : locker.withLock("k", Effect.succeed("in"), { timeout: "1 second" })
        const taken = yield* fork(shifted(Effect.exit(taking)))
        yield* answer.caught
        shift.monotonic += 20_000
        yield* answer.release
        yield* TestClock.adjust("1 second")
        const exit = taken.pollUnsafe()
        assert.strictEqual(exit?._tag === "Success" ? exit.value._tag : exit, "Success", String(exit))
      }
    }))

  it.effect("blames its timeout on the holder, and not on a backend that it had no time to ask", () =>
    Effect.gen(function*() {
      const { faulty, locker, memory, shift } = yield* shiftedSetting
      const other = yield* lockerOver(memory)
      yield* other.scoped("k", { ttl: "1 hour" })
      const waiting = yield* fork(Effect.flip(locker.withLock("k", Effect.void, { timeout: "1 second" })))
      const withdrawal = yield* faulty.holdReplies("withdraw")
      shift.monotonic += 5_000
      yield* TestClock.adjust("1100 millis")
      assert.strictEqual((yield* Fiber.join(waiting))._tag, "LockTimeout")
      yield* withdrawal.release
      yield* TestClock.adjust("1 second")
    }))

  it.effect("nor where the backend has answered, and had no more time for another answer", () =>
    Effect.gen(function*() {
      const { clock, shift } = yield* shiftedClock
      const shifted = Effect.provideService(Clock.Clock, clock)
      const faulty = yield* FaultyLockStore.make(yield* shifted(MemoryLockStore.make))
      const locker = yield* shifted(lockerOver(faulty.store, { defaultTtl: "9 seconds" }))
      const answer = yield* faulty.holdReplies("request")
      const taking = locker.withLock("k", Effect.void, { timeout: "9 seconds" })
      const taken = yield* fork(shifted(Effect.flip(taking)))
      yield* answer.caught
      // The grant is too old to be believed, and the caller's time is over by so much that nearly nothing is left.
      shift.monotonic += 9_070
      const again = yield* faulty.holdReplies("request")
      yield* answer.release
      yield* again.caught
      yield* TestClock.adjust("200 millis")
      assert.strictEqual((yield* Fiber.join(taken))._tag, "LockTimeout")
      yield* again.release
      yield* TestClock.adjust("1 second")
    }))
})

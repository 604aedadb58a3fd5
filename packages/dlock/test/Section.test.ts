import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber, Option } from "effect"
import {
  DistributedSemaphore,
  Lease,
  Locker,
  LockTimeout,
  Once,
  ReadWriteLock,
  withLock,
  withLockIfAvailable
} from "effect-dlock"
import { TestClock } from "effect/testing"
import { fork, setting } from "./support.ts"

describe("withLock and withLockIfAvailable", () => {
  it.effect("take an effect or a function of the lease, as the second argument or piped in", () =>
    Effect.gen(function*() {
      const token = (lease: Lease) => Effect.succeed(lease.fencingToken)
      const read = Effect.map(Lease, (lease) => lease.fencingToken)
      const { locker } = yield* setting()
      const tokens = yield* Effect.all([
        withLock("k", read),
        withLock("k", token, { ttl: "1 minute" }),
        read.pipe(withLock("k")),
        withLock("k", { timeout: "1 second" })(token),
        Effect.map(withLockIfAvailable("k", read), Option.getOrThrow),
        Effect.map(withLockIfAvailable("k", { ttl: "1 second" })(token), Option.getOrThrow)
      ]).pipe(Effect.provideService(Locker, locker))
      assert.deepStrictEqual(tokens, [1n, 2n, 3n, 4n, 5n, 6n])
    }))

  it.effect("a function that throws is a defect of the program, and the lock is released", () =>
    Effect.gen(function*() {
      const { locker, sent } = yield* setting()
      const broken = (): Effect.Effect<void> => {
        throw new Error("a bug")
      }
      const exit = yield* Effect.exit(locker.withLock("k", broken))
      assert(Exit.isFailure(exit))
      assert.isTrue(Cause.hasDies(exit.cause))
      assert.strictEqual(sent("withdraw").length, 1)
    }))

  it.effect("a call that does not wait fails with the LockTimeout of its program, as with any other failure", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting()
      yield* fork(locker.withLock("other", Effect.never))
      const fails = locker.withLock("other", Effect.void, { timeout: 50 })
      const semaphore = yield* Effect.provideService(DistributedSemaphore.make("s", { permits: 2 }), Locker, locker)
      const rw = yield* Effect.provideService(ReadWriteLock.make("rw"), Locker, locker)
      const calls = [
        locker.withLockIfAvailable("k", fails),
        locker.withLocksIfAvailable(["k", "l"], fails),
        semaphore.withPermitsIfAvailable(1)(fails),
        rw.withReadLockIfAvailable(fails),
        Effect.provideService(Once.within("k", "1 minute", fails), Locker, locker)
      ]
      for (const call of calls) {
        const fiber = yield* fork(Effect.flip(call as Effect.Effect<unknown, unknown>))
        yield* TestClock.adjust(100)
        assert.instanceOf(yield* Fiber.join(fiber), LockTimeout)
      }
    }))

  it.effect("a program that was interrupted while its lock was on the way does not begin", () =>
    Effect.gen(function*() {
      const { faulty, locker, sent } = yield* setting()
      const held = yield* faulty.holdReplies("request")
      let began = false
      const fiber = yield* fork(locker.withLock("k", Effect.sync(() => began = true)))
      const interrupting = yield* fork(Fiber.interrupt(fiber))
      yield* held.release
      yield* Fiber.join(interrupting)
      assert.isFalse(began)
      assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(fiber)))
      assert.strictEqual(sent("withdraw").length, 1)
    }))

  it.effect("a program that is interrupted is awaited before the release", () =>
    Effect.gen(function*() {
      const { locker, sent } = yield* setting()
      const fiber = yield* fork(locker.withLock("k", Effect.onInterrupt(Effect.never, () => Effect.sleep("5 seconds"))))
      const interrupting = yield* fork(Fiber.interrupt(fiber))
      yield* TestClock.adjust("4999 millis")
      assert.strictEqual(sent("withdraw").length, 0)
      yield* TestClock.adjust("1 milli")
      yield* Fiber.join(interrupting)
      assert.strictEqual(sent("withdraw").length, 1)
    }))

  it.effect("inside an uninterruptible region the program is not interrupted either", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting()
      let finished = false
      const program = Effect.andThen(Effect.sleep("5 seconds"), Effect.sync(() => finished = true))
      const fiber = yield* fork(Effect.uninterruptible(locker.withLock("k", program)))
      const interrupting = yield* fork(Fiber.interrupt(fiber))
      yield* TestClock.adjust("5 seconds")
      yield* Fiber.join(interrupting)
      assert.isTrue(finished)
    }))
})

describe("a section", () => {
  it.effect("runs the Lease service itself as its program: a service is an effect, although it is a function too", () =>
    Effect.gen(function*() {
      assert.strictEqual((yield* withLock("k", Lease)).key, "k")
      assert.strictEqual((yield* Lease.pipe(withLock("k"))).key, "k")
    }).pipe(Effect.provide(Locker.layerMemory)))
})

describe("whileHeld", () => {
  it.effect("is the effect's own result while the lease is held", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting()
      const lease = yield* locker.scoped("k")
      assert.strictEqual(yield* lease.whileHeld(Effect.succeed(42)), 42)
      assert.strictEqual(yield* Effect.flip(lease.whileHeld(Effect.fail("own"))), "own")
      const slow = yield* fork(lease.whileHeld(Effect.as(Effect.sleep("1 minute"), 43)))
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(yield* Fiber.join(slow), 43)
    }))

  it.effect("interrupts the effect when the lease is lost", () =>
    Effect.gen(function*() {
      const { faulty, locker } = yield* setting()
      const lease = yield* locker.scoped("k")
      let stopped = false
      const fiber = yield* fork(
        Effect.flip(lease.whileHeld(Effect.onInterrupt(Effect.never, () => Effect.sync(() => stopped = true))))
      )
      yield* faulty.answerRenewals({ _tag: "Gone" })
      yield* TestClock.adjust("3 seconds")
      assert.strictEqual((yield* Fiber.join(fiber))._tag, "OwnershipLost")
      assert.isTrue(stopped)
    }))

  it.effect("interrupts the effect when the lease is released", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting()
      const lease = yield* locker.scoped("k")
      const fiber = yield* fork(Effect.flip(lease.whileHeld(Effect.never)))
      yield* lease.release
      assert.strictEqual((yield* Fiber.join(fiber))._tag, "LockNotHeld")
    }))

  it.effect("does not begin once the lease is over", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting()
      const lease = yield* locker.scoped("k")
      yield* lease.release
      let began = false
      const error = yield* Effect.flip(lease.whileHeld(Effect.sync(() => began = true)))
      assert.deepStrictEqual([error._tag, began], ["LockNotHeld", false])
    }))

  it.effect("is interrupted with its caller, and waits until the effect has stopped", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting()
      const lease = yield* locker.scoped("k")
      const fiber = yield* fork(lease.whileHeld(Effect.onInterrupt(Effect.never, () => Effect.sleep("1 second"))))
      const interrupting = yield* fork(Fiber.interrupt(fiber))
      yield* TestClock.adjust("999 millis")
      assert.isUndefined(interrupting.pollUnsafe())
      yield* TestClock.adjust("1 milli")
      yield* Fiber.join(interrupting)
      yield* lease.ensureHeld
    }))
})

import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Exit, Fiber, Scope } from "effect"
import { LockBackendError, Locker, LockNotHeld, LockStore, MemoryLockStore, withLock } from "effect-dlock"
import { TestClock } from "effect/testing"
import { fork, lockerOver, millis, setting, withLogs } from "./support.ts"

describe("the finalizer does its duty", () => {
  const recorded = Effect.gen(function*() {
    const memory = yield* MemoryLockStore.make
    const events: Array<string> = []
    const event = (name: string) => Effect.sync(() => events.push(name))
    const store = LockStore.of({
      ...memory,
      request: (claim, mode) => Effect.tap(memory.request(claim, mode), () => event("acquire")),
      withdraw: (claim) => Effect.andThen(event("release"), memory.withdraw(claim))
    })
    const program = Effect.andThen(Effect.acquireRelease(event("open"), () => event("close")), event("work"))
    return { events, program, locker: yield* lockerOver(store) }
  })
  const order = ["acquire", "open", "work", "close", "release"]

  it.effect("what the program opens is closed before the release, in withLock(key, program)", () =>
    Effect.gen(function*() {
      const { events, locker, program } = yield* recorded
      yield* Effect.provideService(withLock("k", program), Locker, locker)
      assert.deepStrictEqual(events, order)
    }))

  it.effect("and in Effect.scoped(withLock(key, program))", () =>
    Effect.gen(function*() {
      const { events, locker, program } = yield* recorded
      yield* Effect.provideService(Effect.scoped(withLock("k", program)), Locker, locker)
      assert.deepStrictEqual(events, order)
    }))

  it.effect("and in program.pipe(withLock(key)), when it fails, and when it is interrupted", () =>
    Effect.gen(function*() {
      const { events, locker, program } = yield* recorded
      yield* Effect.exit(
        program.pipe(Effect.andThen(Effect.fail("own")), withLock("k"), Effect.provideService(Locker, locker))
      )
      const fiber = yield* fork(locker.withLock("k", Effect.andThen(program, Effect.never)))
      yield* Fiber.interrupt(fiber)
      assert.deepStrictEqual(events, [...order, ...order])
    }))

  it.effect("what the program leaves running has been stopped before the release", () =>
    Effect.gen(function*() {
      const { events, locker } = yield* recorded
      const child = Effect.onInterrupt(Effect.never, () => Effect.sync(() => events.push("child stopped")))
      yield* locker.withLock("k", Effect.andThen(fork(child), Effect.forkScoped(child, { startImmediately: true })))
      assert.deepStrictEqual(events, ["acquire", "child stopped", "child stopped", "release"])
    }))

  it.effect("a renewal that is under way is waited for before the release is sent", () =>
    Effect.gen(function*() {
      const { faulty, locker, sent } = yield* setting()
      const scope = yield* Scope.make()
      yield* Scope.provide(locker.scoped("k"), scope)
      const held = yield* faulty.holdReplies("renew")
      yield* TestClock.adjust("3 seconds")
      const closing = yield* fork(Scope.close(scope, Exit.void))
      yield* TestClock.adjust("1 second")
      assert.strictEqual(sent("renew").length, 1)
      assert.strictEqual(sent("withdraw").length, 0)
      yield* held.release
      yield* Fiber.join(closing)
      assert.deepStrictEqual(faulty.calls.map((call) => call.operation), ["request", "renew", "withdraw"])
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(sent("renew").length, 1)
    }))

  it.effect("but not for longer than its own limit", () =>
    Effect.gen(function*() {
      const { faulty, locker, sent } = yield* setting()
      const scope = yield* Scope.make()
      yield* Scope.provide(locker.scoped("k"), scope)
      yield* faulty.hang("renew")
      yield* TestClock.adjust("3 seconds")
      const closing = yield* fork(Scope.close(scope, Exit.void))
      yield* TestClock.adjust("3 seconds")
      assert.isDefined(closing.pollUnsafe())
      assert.strictEqual(sent("withdraw").length, 1)
    }))

  it.effect("no renewal is sent after the release has begun", () =>
    Effect.gen(function*() {
      const { faulty, locker } = yield* setting()
      const scope = yield* Scope.make()
      yield* Scope.provide(locker.scoped("k"), scope)
      yield* TestClock.adjust("2900 millis")
      const held = yield* faulty.holdCalls("withdraw")
      const closing = yield* fork(Scope.close(scope, Exit.void))
      yield* TestClock.adjust("1900 millis")
      yield* held.release
      yield* Fiber.join(closing)
      assert.deepStrictEqual(faulty.calls.map((call) => call.operation), ["request", "withdraw"])
    }))

  it.effect("a release that is never answered is given up in time, with a warning, and keeps the program's result", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        const { faulty, locker } = yield* setting()
        yield* faulty.hang("withdraw")
        const fiber = yield* fork(locker.withLock("k", Effect.succeed(42)))
        assert.isUndefined(fiber.pollUnsafe())
        yield* TestClock.adjust("3 seconds")
        assert.deepStrictEqual(fiber.pollUnsafe(), Exit.succeed(42))
        assert.deepStrictEqual(
          lines.map(({ annotations, level }) => [level, annotations.component, annotations.key]),
          [["Warn", "dlock", "k"]]
        )
      })
    ))

  it.effect("with a long ttl it is given up after two seconds, and not before", () =>
    withLogs(() =>
      Effect.gen(function*() {
        const { faulty, locker } = yield* setting({ defaultTtl: "10 minutes" })
        yield* faulty.hang("withdraw")
        const fiber = yield* fork(locker.withLock("k", Effect.succeed(42)))
        yield* TestClock.adjust("1990 millis")
        assert.isUndefined(fiber.pollUnsafe())
        yield* TestClock.adjust("20 millis")
        assert.isDefined(fiber.pollUnsafe())
      })
    ))

  it.effect("a release that was given up goes on behind, so that an outage does not cost others a whole ttl", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        const { faulty, locker, sent } = yield* setting({ defaultTtl: "10 minutes" })
        yield* faulty.hang("withdraw")
        const fiber = yield* fork(locker.withLock("k", Effect.succeed(42)))
        yield* TestClock.adjust("20 seconds")
        assert.strictEqual(yield* Fiber.join(fiber), 42)
        yield* faulty.heal("withdraw")
        const next = yield* fork(locker.withLock("k", Effect.succeed("in")))
        yield* TestClock.adjust("3 seconds")
        assert.deepStrictEqual(next.pollUnsafe(), Exit.succeed("in"))
        const withdrawals = sent("withdraw").length
        yield* TestClock.adjust("1 hour")
        assert.strictEqual(sent("withdraw").length, withdrawals, "once is enough")
        assert.deepStrictEqual(lines.map((line) => line.level), ["Warn", "Info"], "gone, and back")
      })
    ))

  it.effect("and ends with the time to live of its claim", () =>
    withLogs(() =>
      Effect.gen(function*() {
        const { faulty, locker, sent } = yield* setting()
        yield* faulty.fail("withdraw")
        yield* fork(locker.withLock("k", Effect.void))
        yield* TestClock.adjust("1 minute")
        const withdrawals = sent("withdraw").length
        assert.isAbove(withdrawals, 10)
        yield* TestClock.adjust("1 hour")
        assert.strictEqual(sent("withdraw").length, withdrawals)
      })
    ))

  it.effect("a release that is refused is told once, keeps nobody, and is repeated behind, as credentials may be put right", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        const { faulty, locker, memory, sent } = yield* setting({ defaultTtl: "10 minutes" })
        const other = yield* lockerOver(memory)
        const refused = new LockBackendError({ operation: "release", retryable: false, cause: new Error("WRONGPASS") })
        yield* faulty.fail("withdraw", refused)
        assert.strictEqual(yield* Effect.flip(locker.withLock("k", Effect.fail("own"))), "own")
        assert.strictEqual(sent("withdraw").length, 1)
        yield* faulty.fail("request", refused, 1)
        const mine = yield* fork(Effect.flip(locker.withLock("k", Effect.void)))
        assert.isFalse(
          (mine.pollUnsafe() as Exit.Success<LockBackendError>).value.retryable,
          "at once, with the reason"
        )
        const next = yield* fork(other.withLock("k", Effect.succeed("in")))
        yield* TestClock.adjust("20 seconds")
        assert.isUndefined(next.pollUnsafe())
        yield* faulty.heal("withdraw")
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(next.pollUnsafe(), Exit.succeed("in"))
        const withdrawals = sent("withdraw").length
        yield* TestClock.adjust("1 hour")
        assert.strictEqual(sent("withdraw").length, withdrawals)
        assert.deepStrictEqual(lines.map((line) => line.level), ["Warn"])
      })
    ))

  it.effect("a release that fails in passing is repeated until it is answered", () =>
    Effect.gen(function*() {
      const { faulty, locker, sent } = yield* setting()
      yield* faulty.fail("withdraw", undefined, 2)
      const fiber = yield* fork(locker.withLock("k", Effect.succeed(42)))
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* Fiber.join(fiber), 42)
      assert.deepStrictEqual(sent("withdraw").map((call) => call.answer), ["failed", "failed", "released"])
    }))

  it.effect("an interruption does not cut a release short", () =>
    Effect.gen(function*() {
      const { faulty, locker, sent } = yield* setting()
      for (const form of ["scoped", "section"]) {
        const held = yield* faulty.holdCalls("withdraw")
        const fiber = yield* fork(
          form === "scoped"
            ? Effect.flatMap(locker.scoped(form), (lease) => lease.release)
            : locker.withLock(form, (lease) => lease.release)
        )
        yield* held.caught
        const interrupting = yield* fork(Fiber.interrupt(fiber))
        yield* TestClock.adjust("1 second")
        assert.isUndefined(interrupting.pollUnsafe())
        yield* held.release
        yield* Fiber.join(interrupting)
        assert.strictEqual(sent("withdraw").at(-1)!.answer, "released")
      }
      assert.strictEqual(sent("withdraw").length, 2)
    }))
})

describe("a lease", () => {
  it.effect("tells what is held", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting({ holder: "host:1" })
      const lease = yield* locker.scoped("k", { metadata: { job: "x" } })
      assert.deepStrictEqual([lease.key, lease.fencingToken, lease.holder], ["k", 1n, "host:1"])
      assert.strictEqual(Duration.toMillis(lease.ttl), 9000)
      assert.strictEqual(yield* millis(lease.remaining), 9000)
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* millis(lease.remaining), 8000)
    }))

  it.effect("has a renewal that fails with OwnershipLost when it is lost", () =>
    Effect.gen(function*() {
      const { faulty, locker } = yield* setting()
      const lease = yield* locker.scoped("k")
      yield* faulty.answerRenewals({ _tag: "Replaced" })
      yield* TestClock.adjust("3 seconds")
      const error = yield* Effect.flip(Fiber.join(lease.renewal))
      assert.deepStrictEqual([error._tag, error.reason], ["OwnershipLost", "Replaced"])
    }))

  it.effect("has a renewal that is interrupted by a release, and a `lost` that just waits then", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting()
      const scope = yield* Scope.make()
      const lease = yield* Scope.provide(locker.scoped("k"), scope)
      const watching = yield* fork(lease.lost)
      yield* Scope.close(scope, Exit.void)
      const exit = yield* Fiber.await(lease.renewal)
      assert.isTrue(Exit.hasInterrupts(exit))
      yield* TestClock.adjust("1 minute")
      assert.isUndefined(watching.pollUnsafe())
      yield* Fiber.interrupt(watching)
    }))

  it.effect("is not held after its release: ensureHeld says so, remaining is zero", () =>
    Effect.gen(function*() {
      const { locker, sent } = yield* setting()
      const lease = yield* locker.scoped("k")
      yield* lease.release
      assert.deepStrictEqual(yield* Effect.flip(lease.ensureHeld), new LockNotHeld({ key: "k" }))
      assert.strictEqual(yield* millis(lease.remaining), 0)
      yield* lease.release
      yield* Effect.all([lease.release, lease.release], { concurrency: "unbounded" })
      assert.strictEqual(sent("withdraw").length, 1)
      yield* locker.scoped("k")
    }))

  it.effect("may be released early inside its section, which goes on and succeeds", () =>
    Effect.gen(function*() {
      const { locker, sent } = yield* setting()
      const result = yield* locker.withLock("k", (lease) =>
        Effect.gen(function*() {
          yield* lease.release
          yield* lease.release
          return yield* Effect.flip(lease.ensureHeld)
        }))
      assert.strictEqual(result._tag, "LockNotHeld")
      assert.strictEqual(sent("withdraw").length, 1)
    }))
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

import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Exit, Fiber, Formatter, Scope } from "effect"
import { LockNotHeld } from "effect-dlock"
import { TestClock } from "effect/testing"
import { inspect } from "node:util"
import { fork, millis, setting } from "./support.ts"

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

  it.effect("is logged as its key, its token, its holder and its state, without the program around it", () =>
    Effect.gen(function*() {
      const { locker, sent } = yield* setting({ holder: "me" })
      const lease = yield* locker.scoped("k")
      const seen = { _id: "effect-dlock/Lease", key: "k", fencingToken: "1", holder: "me", state: "held" }
      assert.deepStrictEqual(JSON.parse(JSON.stringify(lease)), seen)
      assert.deepStrictEqual(JSON.parse(Formatter.formatJson(lease)), seen)
      assert.strictEqual(inspect(lease), inspect(seen))
      assert.notInclude(inspect({ lease }, { depth: 9 }), sent("request")[0]!.claims[0]!.id)
    }))
})

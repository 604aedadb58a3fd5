import { assert, describe, it } from "@effect/vitest"
import { Cause, Deferred, Duration, Effect, Exit, Fiber, Option, Scope } from "effect"
import {
  Lease,
  LockAlreadyHeld,
  LockBackendError,
  Locker,
  LockStore,
  MemoryLockStore,
  withLock,
  withLockIfAvailable
} from "effect-dlock"
import { TestClock } from "effect/testing"
import { fork, lockerOver, setting } from "./support.ts"

describe("held by another, or broken, are different things", () => {
  it.effect("a timeout names the holder, its metadata and the queue's length", () =>
    Effect.gen(function*() {
      const { locker, memory } = yield* setting({ holder: "alpha" })
      const other = yield* lockerOver(memory, { holder: "beta" })
      yield* locker.scoped("k", { metadata: { job: "nightly" } })
      yield* fork(Effect.scoped(other.scoped("k", { timeout: "1 minute" })))
      const waiting = yield* fork(Effect.flip(Effect.scoped(other.scoped("k", { timeout: "4 seconds" }))))
      yield* TestClock.adjust("3999 millis")
      assert.isUndefined(waiting.pollUnsafe())
      yield* TestClock.adjust("1 milli")
      const error = yield* Fiber.join(waiting)
      assert(error._tag === "LockTimeout")
      assert.deepStrictEqual([error.key, error.holder, error.metadata, error.queueLength], [
        "k",
        "alpha",
        { job: "nightly" },
        2
      ])
      assert.strictEqual(Duration.toMillis(error.waited), 4000)
    }))

  it.effect("a timeout of zero asks once and does not wait", () =>
    Effect.gen(function*() {
      const { locker, sent } = yield* setting()
      yield* locker.scoped("k")
      const waiting = yield* fork(Effect.flip(Effect.scoped(locker.scoped("k", { timeout: 0 }))))
      yield* TestClock.adjust(0)
      assert.strictEqual((yield* Fiber.join(waiting))._tag, "LockTimeout")
      assert.strictEqual(sent("withdraw").length, 1)
      assert.strictEqual(yield* locker.withLock("free", Effect.succeed(42), { timeout: 0 }), 42)
    }))

  it.effect("an error that no repetition mends is told soon, and the claim is withdrawn", () =>
    Effect.gen(function*() {
      const { faulty, locker, sent } = yield* setting()
      const cause = new Error("WRONGPASS")
      yield* faulty.fail("request", new LockBackendError({ operation: "acquire", retryable: false, cause }))
      const error = yield* Effect.flip(locker.withLock("k", Effect.void))
      assert(error._tag === "LockBackendError")
      assert.deepStrictEqual([error.operation, error.key, error.retryable], ["acquire", "k", false])
      assert.strictEqual(error.cause, cause)
      assert.deepStrictEqual(faulty.calls.map((call) => call.operation), ["request", "withdraw"])
      assert.strictEqual(sent("withdraw")[0]!.claims[0]!.id, sent("request")[0]!.claims[0]!.id)
    }))

  it.effect("one that may pass is tried again under the same id", () =>
    Effect.gen(function*() {
      const { faulty, locker, sent } = yield* setting()
      yield* faulty.fail("request", undefined, 3)
      const taking = yield* fork(locker.withLock("k", Effect.succeed(42)))
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* Fiber.join(taking), 42)
      assert.strictEqual(sent("request").length, 4)
      assert.strictEqual(new Set(sent("request").map((call) => call.claims[0]!.id)).size, 1)
    }))

  it.effect("a grant that the store gives up is asked for under fresh ids for three seconds, then told", () =>
    Effect.gen(function*() {
      const { memory } = yield* setting()
      const ids: Array<string> = []
      const cause = new Error("fewer than 2 replicas")
      const error = new LockBackendError({ operation: "acquire", retryable: true, cause })
      const locker = yield* lockerOver({
        ...memory,
        request: (claim) => Effect.sync(() => (ids.push(claim.id), { _tag: "Gone" as const, error }))
      })
      const taking = yield* fork(Effect.flip(locker.withLock("k", Effect.void)))
      yield* TestClock.adjust("2800 millis")
      assert.isUndefined(taking.pollUnsafe())
      yield* TestClock.adjust("200 millis")
      const told = yield* Fiber.join(taking)
      assert(told._tag === "LockBackendError")
      assert.deepStrictEqual([told.key, told.cause], ["k", cause])
      assert.isAtLeast(ids.length, 20)
      assert.strictEqual(new Set(ids).size, ids.length)
    }))

  it.effect("a backend that stays silent is a LockBackendError within two thirds of the ttl", () =>
    Effect.gen(function*() {
      const { faulty, locker, sent } = yield* setting()
      yield* faulty.hang("request")
      const taking = yield* fork(Effect.flip(locker.withLock("k", Effect.void)))
      yield* TestClock.adjust("6100 millis")
      const error = yield* Fiber.join(taking)
      assert(error._tag === "LockBackendError")
      assert.isTrue(error.retryable)
      assert.strictEqual(sent("withdraw").length, 1)
    }))

  it.effect("a wait that fails is a LockBackendError, and the claim is withdrawn", () =>
    Effect.gen(function*() {
      const { faulty, locker, sent } = yield* setting()
      yield* locker.scoped("k")
      yield* faulty.fail("wait", undefined, 1)
      const error = yield* Effect.flip(Effect.scoped(Effect.scoped(locker.scoped("k", { timeout: "1 minute" }))))
      assert(error._tag === "LockBackendError")
      assert.deepStrictEqual([error.operation, error.key], ["wait", "k"])
      assert.strictEqual(sent("withdraw").length, 1)
    }))

  it.effect("a try that is none sends nothing after its request", () =>
    Effect.gen(function*() {
      const { faulty, locker } = yield* setting()
      yield* locker.scoped("k")
      const before = faulty.calls.length
      const none = yield* Effect.scoped(Effect.scoped(locker.scopedIfAvailable("k")))
      assert.isTrue(Option.isNone(none))
      assert.deepStrictEqual(faulty.calls.slice(before).map((call) => call.operation), ["request"])
    }))
})

describe("a place that is lost in the queue", () => {
  it.effect("is asked for again under a fresh id", () =>
    Effect.gen(function*() {
      const memory = yield* MemoryLockStore.make
      const ids: Array<string> = []
      const store = LockStore.of({
        ...memory,
        request: (claim, mode) =>
          Effect.map(memory.request(claim, mode), (answer) => {
            ids.push(claim.id)
            if (ids.length === 2) return { _tag: "Gone" as const }
            return answer._tag === "Queued" && ids.length === 3
              ? { ...answer, granted: Effect.succeed({ _tag: "Gone" as const }) }
              : answer
          })
      })
      const locker = yield* lockerOver(store)
      const scope = yield* Scope.make()
      yield* Scope.provide(locker.scoped("k", { ttl: "10 minutes" }), scope)
      const waiting = yield* fork(locker.withLock("k", Effect.succeed(42)))
      assert.strictEqual(ids.length, 3, "once at once")
      yield* TestClock.adjust("100 millis")
      assert.strictEqual(ids.length, 4)
      assert.strictEqual(new Set(ids).size, 4)
      for (const id of ids) assert.match(id, /^[A-Za-z0-9_-]{22}$/)
      yield* Scope.close(scope, Exit.void)
      yield* TestClock.adjust("31 minutes")
      assert.strictEqual(yield* Fiber.join(waiting), 42)
    }))
})

describe("a timeout", () => {
  it.effect("counts from the first request, however often the place in the queue is lost", () =>
    Effect.gen(function*() {
      const memory = yield* MemoryLockStore.make
      const gone = Effect.as(Effect.sleep("3 seconds"), { _tag: "Gone" as const })
      const locker = yield* lockerOver({
        ...memory,
        request: (claim, mode) =>
          Effect.map(
            memory.request(claim, mode),
            (answer) => answer._tag === "Queued" ? { ...answer, granted: gone } : answer
          )
      })
      const other = yield* lockerOver({ ...memory })
      yield* other.scoped("k")
      const waiting = yield* fork(Effect.flip(locker.withLock("k", Effect.void, { timeout: "4 seconds" })))
      yield* TestClock.adjust("4 seconds")
      const error = yield* Fiber.join(waiting)
      assert(error._tag === "LockTimeout")
      assert.strictEqual(Duration.toMillis(error.waited), 4000)
    }))
})

describe("a queue", () => {
  it.effect("of 500 is drained in order, without a call but each one's own", () =>
    Effect.gen(function*() {
      const { faulty, locker, sent } = yield* setting({ defaultTtl: "10 minutes" })
      const scope = yield* Scope.make()
      yield* Scope.provide(locker.scoped("k"), scope)
      const order: Array<number> = []
      const waiting = yield* Effect.forEach(
        Array.from({ length: 500 }, (_, index) => index),
        (index) => fork(locker.withLock("k", Effect.andThen(Effect.sync(() => order.push(index)), Effect.yieldNow)))
      )
      assert.strictEqual(order.length, 0)
      yield* Scope.close(scope, Exit.void)
      yield* Fiber.awaitAll(waiting)
      assert.deepStrictEqual(order, Array.from({ length: 500 }, (_, index) => index))
      assert.strictEqual(sent("request").length, 501)
      assert.strictEqual(sent("withdraw").length, 501)
      assert.strictEqual(faulty.calls.length, 501 * 2 + 500)
    }))

  it.effect("skips those who gave up, wherever they stood", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting()
      const scope = yield* Scope.make()
      yield* Scope.provide(locker.scoped("k"), scope)
      const order: Array<number> = []
      const waiting = yield* Effect.forEach(
        Array.from({ length: 9 }, (_, index) => index),
        (index) => fork(locker.withLock("k", Effect.sync(() => order.push(index))))
      )
      for (const index of [0, 4, 8]) yield* Fiber.interrupt(waiting[index]!)
      yield* Scope.close(scope, Exit.void)
      yield* Fiber.awaitAll(waiting)
      assert.deepStrictEqual(order, [1, 2, 3, 5, 6, 7])
    }))

  it.effect("tokens grow over every hand-over", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting()
      const tokens = yield* Effect.forEach(
        Array.from({ length: 20 }),
        () => locker.withLock("k", (lease) => Effect.as(Effect.yieldNow, lease.fencingToken)),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(tokens, Array.from({ length: 20 }, (_, index) => BigInt(index + 1)))
    }))
})

describe("no self-deadlock in silence", () => {
  it.effect("asking again inside a section fails at once, naming the token, and sends nothing", () =>
    Effect.gen(function*() {
      const { locker, sent } = yield* setting()
      const error = yield* locker.withLock("k", Effect.flip(locker.withLock("k", Effect.void)))
      assert.deepStrictEqual(error, new LockAlreadyHeld({ key: "k", fencingToken: 1n }))
      assert.strictEqual(sent("request").length, 1)
    }))

  it.effect("so does asking in a forked child, in the same scope, and through another key's section", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting()
      const again = Effect.map(Effect.flip(locker.withLock("k", Effect.void)), (error) => error._tag)
      const inChild = yield* locker.withLock("k", Effect.flatMap(Effect.forkChild(again), Fiber.join))
      const deeper = yield* locker.withLock("k", locker.withLock("other", again))
      const inScope = yield* Effect.scoped(
        Effect.andThen(locker.scoped("k"), Effect.map(Effect.flip(locker.scoped("k")), (error) => error._tag))
      )
      const scopeThenSection = yield* Effect.scoped(Effect.andThen(locker.scoped("k"), again))
      assert.deepStrictEqual([inChild, deeper, inScope, scopeThenSection], Array(4).fill("LockAlreadyHeld"))
    }))

  it.effect("a daemon that outlives its section may ask again", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting()
      const over = yield* Deferred.make<void>()
      const daemon = yield* locker.withLock(
        "k",
        fork(Effect.void).pipe(
          Effect.andThen(
            Effect.forkDetach(Effect.andThen(Deferred.await(over), locker.withLock("k", Effect.succeed("again"))))
          )
        )
      )
      yield* Deferred.succeed(over, undefined)
      assert.strictEqual(yield* Fiber.join(daemon), "again")
    }))

  it.effect("another prefix, another locker's store and another key are other locks", () =>
    Effect.gen(function*() {
      const { locker, memory } = yield* setting()
      const prefixed = yield* lockerOver(memory, { prefix: "else:" })
      const elsewhere = yield* lockerOver(yield* MemoryLockStore.make)
      const result = yield* locker.withLock(
        "k",
        prefixed.withLock("k", elsewhere.withLock("k", locker.withLock("j", Effect.succeed(42))))
      )
      assert.strictEqual(result, 42)
    }))

  it.effect("a lease that a test made up holds nothing", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting()
      const lease = yield* locker.withLock("k", (lease) => Effect.succeed({ ...lease, key: "k" }))
      assert.strictEqual(
        yield* Effect.provideService(locker.withLock("k", Effect.succeed(42)), Lease, Lease.of(lease as never)),
        42
      )
    }))

  it.effect("the innermost lease is the one that a program is given", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting()
      const key = Effect.map(Lease, (lease) => lease.key)
      const keys = yield* locker.withLock("a", Effect.all([key, locker.withLock("b", key), key]))
      assert.deepStrictEqual(keys, ["a", "b", "a"])
    }))
})

describe("withLock and withLockIfAvailable", () => {
  it.effect("take an effect or a function of the lease, first or piped in", () =>
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

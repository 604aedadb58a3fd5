import { assert, describe, it } from "@effect/vitest"
import { Clock, Deferred, Effect, Exit, Fiber, Scope } from "effect"
import { LockBackendError, type LockStore } from "effect-dlock"
import type { Withdrawn } from "effect-dlock/LockStore"
import { TestClock } from "effect/testing"
import { fork, lockerOver, setting, shiftedClock } from "./support.ts"

/** A backend that answers nobody until it is told to, but for one key. */
const mute = Effect.gen(function*() {
  const { memory } = yield* setting()
  const asked: Array<string> = []
  const open = yield* Deferred.make<void>()
  const store: LockStore["Service"] = {
    ...memory,
    request: (claim, mode) =>
      Effect.suspend(() => {
        asked.push(claim.key)
        if (claim.key === "free") return memory.request(claim, mode)
        return Effect.andThen(Deferred.await(open), memory.request(claim, mode))
      })
  }
  const scope = yield* Effect.acquireRelease(Scope.make(), Scope.close)
  const locker = yield* Scope.provide(lockerOver(store, { prefix: "", defaultTtl: "10 minutes" }), scope)
  const crowd = (count: number) =>
    Effect.forEach(
      Array.from({ length: count }, (_, index) => `k${index}`),
      (key) => fork(Effect.exit(locker.withLock(key, Effect.void)))
    )
  return { asked, close: Scope.close(scope, Exit.void), crowd, locker, open }
})

/** A backend that answers, and what it was asked. */
const listening = Effect.gen(function*() {
  const { memory } = yield* setting()
  const heard: Array<string> = []
  const store: LockStore["Service"] = {
    ...memory,
    request: (claim, mode) => Effect.suspend(() => (heard.push(claim.key), memory.request(claim, mode))),
    renew: (held) => Effect.suspend(() => (heard.push("renewal"), memory.renew(held)))
  }
  return { heard, locker: yield* lockerOver(store, { prefix: "" }) }
})

/** A store in whose own queue one key is stuck, and when it was last heard of, in milliseconds from now on. */
const stuck = Effect.fnUntraced(function*(heardAt: number | undefined, left: Effect.Effect<void> = Effect.void) {
  const { memory } = yield* setting()
  const clock = yield* Clock.clockWith(Effect.succeed)
  const began = clock.monotonicTimeNanosUnsafe()
  const withdrawn: Withdrawn = "notSent"
  const store: LockStore["Service"] = {
    ...memory,
    bounded: true,
    request: (claim, mode) => claim.key === "late" ? Effect.never : memory.request(claim, mode),
    withdraw: (claim) => claim.key === "late" ? Effect.as(left, withdrawn) : memory.withdraw(claim),
    heardAt: () => {
      if (heardAt === undefined) return undefined
      const at = began + BigInt(heardAt * 1_000_000)
      const now = clock.monotonicTimeNanosUnsafe()
      return at < now ? at : now
    }
  }
  return yield* lockerOver(store, { prefix: "" })
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

  it.effect("goes on behind those who have had no answer for half a second, as from one server of several", () =>
    Effect.gen(function*() {
      const { asked, crowd, locker, open } = yield* mute
      yield* crowd(2_000)
      const other = yield* fork(locker.withLock("free", Effect.succeed("in")))
      assert.isUndefined(other.pollUnsafe())
      yield* TestClock.adjust("500 millis")
      assert.strictEqual(yield* Fiber.join(other), "in")
      assert.strictEqual(asked.length, 2_001)
      yield* Deferred.succeed(open, undefined)
    }))

  it.effect("may leave before its turn, and then sends no request", () =>
    Effect.gen(function*() {
      const { asked, crowd, open } = yield* mute
      const fibers = yield* crowd(2_500)
      yield* Fiber.interruptAll(fibers.slice(2_000, 2_499))
      yield* Deferred.succeed(open, undefined)
      yield* Fiber.join(fibers[2_499]!)
      assert.deepStrictEqual(asked.slice(2_000), ["k2499"])
    }))

  it.effect("waits for admission no longer than its callers' time", () =>
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

  it.effect("is not told that the backend is silent for a time in which this process itself was late", () =>
    Effect.gen(function*() {
      const { clock, shift } = yield* shiftedClock
      const { crowd, open } = yield* Effect.provideService(mute, Clock.Clock, clock)
      const fibers = yield* crowd(12_000)
      yield* TestClock.adjust("500 millis")
      shift.monotonic = 20_000
      yield* TestClock.adjust("1 second")
      assert.isUndefined(fibers[11_999]!.pollUnsafe())
      yield* Deferred.succeed(open, undefined)
      yield* Fiber.join(fibers[11_999]!)
    }))

  it.effect("does not hold up an answer that needs no backend: a bad request, or a lock that is held already", () =>
    Effect.gen(function*() {
      const { crowd, locker } = yield* mute
      yield* locker.scoped("free")
      yield* crowd(2_100)
      const inner = yield* fork(Effect.flip(locker.scoped("free")))
      const bad = yield* fork(Effect.flip(locker.scoped("")))
      for (const fiber of [inner, bad]) assert.isDefined(fiber.pollUnsafe())
      assert.strictEqual((yield* Fiber.join(inner))._tag, "LockAlreadyHeld")
      assert.strictEqual((yield* Fiber.join(bad))._tag, "InvalidLockRequest")
    }))

  it.effect("is told within a second that nobody is answered, where it does not want to wait", () =>
    Effect.gen(function*() {
      const { crowd, locker, open } = yield* mute
      yield* crowd(12_000)
      yield* TestClock.adjust("600 millis")
      const trying = yield* fork(Effect.flip(locker.withLockIfAvailable("late", Effect.void)))
      const waiting = yield* fork(locker.withLock("waiting", Effect.void))
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* Fiber.join(trying))._tag, "LockBackendError")
      assert.isUndefined(waiting.pollUnsafe())
      yield* Deferred.succeed(open, undefined)
      yield* Fiber.join(waiting)
    }))

  it.effect("is answered within a second of its call, where it does not want to wait and had to before it was asked", () =>
    Effect.gen(function*() {
      const { memory } = yield* setting()
      const open = yield* Deferred.make<void>()
      const error = new LockBackendError({ operation: "acquire", retryable: true, cause: new Error("no answer") })
      const locker = yield* lockerOver({
        ...memory,
        bounded: true,
        // Such a store counts its own limit from when it is asked.
        request: (claim, mode) =>
          claim.key.endsWith("late")
            ? Effect.delay(Effect.fail(error), "900 millis")
            : Effect.andThen(Deferred.await(open), memory.request(claim, mode))
      })
      for (let index = 0; index < 2_000; index++) yield* fork(Effect.exit(locker.withLock(`k${index}`, Effect.void)))
      const trying = yield* fork(Effect.flip(locker.withLockIfAvailable("late", Effect.void)))
      yield* TestClock.adjust("400 millis")
      yield* Deferred.succeed(open, undefined)
      yield* TestClock.adjust("400 millis")
      assert.isUndefined(trying.pollUnsafe())
      yield* TestClock.adjust("200 millis")
      assert.isDefined(trying.pollUnsafe(), "900 ms from its call, and not from when it was asked")
      assert.strictEqual((yield* Fiber.join(trying))._tag, "LockBackendError")
    }))

  it.effect("ends at once when its locker is closed", () =>
    Effect.gen(function*() {
      const { asked, close, crowd, locker, open } = yield* mute
      const fibers = yield* crowd(5_000)
      yield* fork(close)
      yield* TestClock.adjust("1 milli")
      const late = yield* fork(Effect.exit(locker.withLock("late", Effect.void)))
      for (const fiber of [...fibers.slice(2_000), late]) {
        const error = yield* Effect.flip(Effect.flatten(Fiber.join(fiber)))
        assert(error instanceof LockBackendError)
        assert.include(error.message, "has been closed")
      }
      assert.strictEqual(asked.length, 2_000)
      yield* Deferred.succeed(open, undefined)
      yield* Effect.forEach(fibers, Fiber.join)
    }))

  it.effect("is told when the backend has answered nobody for five seconds", () =>
    Effect.gen(function*() {
      const { crowd, open } = yield* mute
      const fibers = yield* crowd(50_000)
      yield* TestClock.adjust("4 seconds")
      assert.isUndefined(fibers[49_999]!.pollUnsafe())
      yield* TestClock.adjust("2 seconds")
      const outside = yield* Effect.forEach(fibers.slice(49_000), Fiber.join)
      assert.isTrue(outside.every(({ _tag }) => _tag === "Failure"))
      yield* Deferred.succeed(open, undefined)
    }))

  it.effect("lets nobody in before renewals that are overdue because the thread was busy, and then all", () =>
    Effect.gen(function*() {
      const { clock, shift } = yield* shiftedClock
      const { locker, ...backend } = yield* Effect.provideService(listening, Clock.Clock, clock)
      yield* locker.scoped("held", { ttl: "3 seconds" })
      // Due after one second: a turn of the thread, in which nothing is renewed, lasts until then and longer.
      shift.monotonic = 1_500
      const fibers = yield* Effect.forEach(["a", "b"], (key) => fork(locker.withLock(key, Effect.void)))
      const short = yield* fork(locker.withLock("c", Effect.void, { timeout: "100 millis" }))
      assert.deepStrictEqual(backend.heard, ["held", "c"])
      yield* TestClock.adjust("1 second")
      yield* Effect.forEach([...fibers, short], Fiber.join)
      assert.deepStrictEqual(backend.heard, ["held", "c", "renewal", "a", "b"])
    }))

  it.effect("does not wait for acquires that were turned away before it", () =>
    Effect.gen(function*() {
      const { crowd, locker, open } = yield* mute
      yield* crowd(12_000)
      for (let count = 0; count < 2_500; count++) {
        yield* fork(Effect.andThen(Effect.exit(locker.withLockIfAvailable("late", Effect.void)), Effect.never))
      }
      const last = yield* fork(locker.withLock("last", Effect.void))
      yield* TestClock.adjust("1 second")
      yield* Deferred.succeed(open, undefined)
      yield* Fiber.join(last)
    }))

  it.effect("is turned away once by one look at the backend, although the acquires that were turned away ask again at once", () =>
    Effect.gen(function*() {
      const { crowd, locker, open } = yield* mute
      yield* crowd(30_000)
      let failures = 0
      const stubborn: Effect.Effect<void> = locker.withLock("stubborn", Effect.void).pipe(
        Effect.catch(() => {
          failures++
          return stubborn
        })
      )
      const fibers = yield* Effect.forEach([1, 2], () => fork(stubborn))
      yield* TestClock.adjust("10 seconds")
      assert.isAtLeast(failures, 2)
      assert.isAtMost(failures, 2 * 40, "no more than looks there were")
      yield* Deferred.succeed(open, undefined)
      yield* Effect.forEach(fibers, Fiber.join)
    }))

  it.effect("does not block the thread, although each acquire that ends is repeated at once", () =>
    Effect.gen(function*() {
      const { clock, shift } = yield* shiftedClock
      const { locker } = yield* Effect.provideService(listening, Clock.Clock, clock)
      yield* locker.scoped("held", { ttl: "3 seconds" })
      let sections = 0
      let seen = 0
      const busy = (key: string): Effect.Effect<void, unknown> =>
        Effect.suspend(() => {
          if (++sections === 1_000) setImmediate(() => (seen = sections))
          return sections < 100_000 ? Effect.andThen(locker.withLock(key, Effect.void), busy(key)) : Effect.void
        })
      shift.monotonic = 1_500
      const fibers = yield* Effect.forEach(["a", "b", "c"], (key) => fork(busy(key)))
      yield* TestClock.adjust("1 second")
      yield* Effect.forEach(fibers, Fiber.join)
      assert.isAtLeast(sections, 100_000)
      assert.isAbove(seen, 0)
      assert.isBelow(seen, 50_000, "the thread went on to its next turn meanwhile")
    }))

  it.effect("is told that its time is over, not that the backend is away, where others are answered", () =>
    Effect.gen(function*() {
      const { memory } = yield* setting()
      const slow: LockStore["Service"] = {
        ...memory,
        request: (claim, mode) => Effect.delay(memory.request(claim, mode), "100 millis")
      }
      const locker = yield* lockerOver(slow, { prefix: "" })
      const fibers = yield* Effect.forEach(
        Array.from({ length: 20_000 }, (_, index) => `k${index}`),
        (key) => fork(Effect.exit(locker.withLock(key, Effect.void)))
      )
      const late = yield* fork(Effect.flip(locker.withLock("late", Effect.void, { timeout: "500 millis" })))
      yield* TestClock.adjust("500 millis")
      const error = yield* Fiber.join(late)
      assert(error._tag === "LockTimeout")
      assert.strictEqual(error.key, "late")
      assert.include(error.message, "Timed out after")
      yield* TestClock.adjust("5 seconds")
      yield* Effect.forEach(fibers, Fiber.join)
    }))

  // A store may have a queue of its own behind the door.
  for (
    const [what, heardAt, expected] of [
      ["its time is over where others are answered", 1_000, "LockTimeout"],
      ["its time is over where others were a moment ago", 400, "LockTimeout"],
      ["the backend is silent where it has fallen silent", 290, "LockBackendError"],
      ["the backend is silent where it has answered nobody since", -1, "LockBackendError"],
      ["the backend is silent where it never answered", undefined, "LockBackendError"]
    ] as const
  ) {
    it.effect(`is told, once inside, that ${what}`, () =>
      Effect.gen(function*() {
        const locker = yield* stuck(heardAt)
        const late = yield* fork(Effect.flip(locker.withLock("late", Effect.void, { timeout: "800 millis" })))
        yield* TestClock.adjust("900 millis")
        const error = yield* Fiber.join(late)
        assert.strictEqual(error._tag, expected)
      }))
  }

  it.effect("that does not wait never gets a LockTimeout, also behind withdrawals of its own", () =>
    Effect.gen(function*() {
      const left = yield* Deferred.make<void>()
      const locker = yield* stuck(1_000, Deferred.await(left))
      const first = yield* fork(Effect.flip(locker.withLock("late", Effect.void, { timeout: "20 millis" })))
      yield* TestClock.adjust("120 millis")
      assert.strictEqual((yield* Fiber.join(first))._tag, "LockTimeout")
      const second = yield* fork(Effect.exit(locker.withLockIfAvailable("late", Effect.void)))
      yield* Deferred.succeed(left, undefined)
      yield* TestClock.adjust("2 seconds")
      const exit = yield* Fiber.join(second)
      assert(Exit.isFailure(exit))
      assert.deepStrictEqual(exit.cause.reasons.map(({ _tag }) => _tag), ["Fail"])
    }))

  for (
    const [what, isAnswering, expected] of [
      ["its time is over where the backend answers those", true, "LockTimeout"],
      ["the backend is silent where it answers none of them", false, "LockBackendError"]
    ] as const
  ) {
    it.effect(`is told, behind withdrawals of its own locker, that ${what}`, () =>
      Effect.gen(function*() {
        const { memory } = yield* setting()
        const clock = yield* Clock.clockWith(Effect.succeed)
        const open = yield* Deferred.make<void>()
        let withdrawn = 0
        const locker = yield* lockerOver({
          ...memory,
          request: () => Effect.never,
          withdraw: (claim) =>
            Effect.suspend(() => {
              const answer = isAnswering ? Effect.sleep(100 * ++withdrawn) : Deferred.await(open)
              return Effect.andThen(answer, memory.withdraw(claim))
            }),
          heardAt: () => isAnswering ? clock.monotonicTimeNanosUnsafe() : undefined
        }, { prefix: "" })
        const callers: Array<Fiber.Fiber<LockBackendError | { readonly _tag: string }>> = []
        for (let index = 0; index < 8; index++) {
          callers.push(yield* fork(Effect.flip(locker.withLock("k", Effect.never, { timeout: "20 millis" }))))
        }
        yield* TestClock.adjust("350 millis")
        const late = yield* fork(Effect.flip(locker.withLock("k", Effect.void, { timeout: "300 millis" })))
        yield* TestClock.adjust("400 millis")
        const error = yield* Fiber.join(late)
        yield* Deferred.succeed(open, undefined)
        yield* TestClock.adjust("10 seconds")
        yield* Effect.forEach(callers, Fiber.join)
        assert.strictEqual(error._tag, expected)
      }))
  }

  it.effect("is not held up by acquires that were interrupted and have not ended", () =>
    Effect.gen(function*() {
      const { crowd, locker, open } = yield* mute
      yield* crowd(2_000)
      const unwound = yield* Deferred.make<void>()
      const leaving = yield* Effect.forEach(
        Array.from({ length: 5_000 }),
        () => fork(Effect.onInterrupt(locker.withLock("gone", Effect.void), () => Deferred.await(unwound)))
      )
      const last = yield* fork(locker.withLock("last", Effect.void))
      for (const fiber of leaving) fiber.interruptUnsafe()
      yield* Deferred.succeed(open, undefined)
      yield* Fiber.join(last)
      yield* Deferred.succeed(unwound, undefined)
    }))
})

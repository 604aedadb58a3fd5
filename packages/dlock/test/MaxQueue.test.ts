import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Fiber } from "effect"
import { DistributedSemaphore, Locker, LockStore, type LockTimeout, MemoryLockStore, ReadWriteLock } from "effect-dlock"
import type { Claim } from "effect-dlock/LockStore"
import { FaultyLockStore } from "effect-dlock/testing"
import { TestClock } from "effect/testing"
import { fork, lockerOver, outside, setting } from "./support.ts"

const timedOut = (error: { readonly _tag: string }): LockTimeout => {
  assert.strictEqual(error._tag, "LockTimeout")
  return error as LockTimeout
}

const unlimited = (claim: Claim): Claim => {
  const { maxQueue, ...rest } = claim
  return maxQueue === undefined ? claim : rest
}

/** A locker over a store that lets every claim wait, as etcd does: the core counts, and withdraws. */
const uncounted = Effect.gen(function*() {
  const memory = yield* MemoryLockStore.make
  const faulty = yield* FaultyLockStore.make(LockStore.of({
    ...memory,
    request: (claim, mode) => memory.request(unlimited(claim), mode),
    requestAll: (claims, mode) => memory.requestAll!(claims.map(unlimited), mode)
  }))
  const locker = yield* lockerOver(faulty.store, { defaultTtl: "9 seconds" })
  return { locker, faulty }
})

describe.each([
  ["a store that counts before it lets a claim wait", setting()],
  ["a store that does not count", uncounted]
])("maxQueue on %s", (_, made) => {
  /** One holder, and as many waiters. */
  const crowd = Effect.fnUntraced(function*(locker: Locker["Service"], waiters: number) {
    yield* fork(locker.withLock("k", Effect.never, { metadata: { job: "nightly" } }))
    const fibers: Array<Fiber.Fiber<unknown, unknown>> = []
    for (let nth = 0; nth < waiters; nth++) fibers.push(yield* fork(outside(locker.withLock("k", Effect.never))))
    return fibers
  })

  it.effect("fails at once where as many wait as it allows, and leaves nothing", () =>
    Effect.gen(function*() {
      const { faulty, locker } = yield* made
      const [first] = yield* crowd(locker, 2)
      const refused = yield* fork(Effect.flip(locker.withLock("k", Effect.void, { maxQueue: 2 })))
      yield* TestClock.adjust(0)
      const error = timedOut(yield* Fiber.join(refused))
      assert.deepStrictEqual(
        [error.key, error.queueLength, error.maxQueue, Duration.toMillis(error.waited), error.metadata],
        ["k", 2, 2, 0, { job: "nightly" }]
      )
      assert.match(error.message, /^Too many wait for the lock "k": .+ holds it \(2 waiting, maxQueue 2\)$/)
      const id = faulty.calls.findLast(({ operation }) => operation === "request")!.claims[0]!.id
      const counted = yield* fork(Effect.flip(outside(locker.withLock("k", Effect.void, { timeout: 0 }))))
      yield* TestClock.adjust(0)
      assert.strictEqual(timedOut(yield* Fiber.join(counted)).queueLength, 3)
      assert.isFalse(faulty.calls.at(-1)!.claims.some((claim) => claim.id === id))
      assert.isUndefined(first?.pollUnsafe())
    }))

  it.effect("waits where fewer wait, in its turn", () =>
    Effect.gen(function*() {
      const { locker } = yield* made
      const holder = yield* fork(locker.withLock("k", Effect.sleep("5 seconds")))
      const first = yield* fork(outside(locker.withLock("k", Effect.sleep("5 seconds"))))
      const second = yield* fork(outside(locker.withLock("k", Effect.succeed(42), { maxQueue: 2 })))
      yield* TestClock.adjust("10 seconds")
      yield* Fiber.joinAll([holder, first])
      assert.strictEqual(yield* Fiber.join(second), 42)
    }))

  it.effect("of 1 waits only for the holder, and of 0 never waits", () =>
    Effect.gen(function*() {
      const { locker } = yield* made
      assert.strictEqual(yield* locker.withLock("k", Effect.succeed(42), { maxQueue: 0 }), 42)
      yield* crowd(locker, 0)
      assert.strictEqual(
        timedOut(yield* Effect.flip(outside(locker.withLock("k", Effect.void, { maxQueue: 0 })))).queueLength,
        0
      )
      const waiting = yield* fork(outside(locker.withLock("k", Effect.void, { maxQueue: 1 })))
      yield* TestClock.adjust("1 second")
      assert.isUndefined(waiting.pollUnsafe())
      assert.strictEqual(
        timedOut(yield* Effect.flip(outside(locker.withLock("k", Effect.void, { maxQueue: 1 })))).queueLength,
        1
      )
    }))

  it.effect("counts waiters, not permits and not holders", () =>
    Effect.gen(function*() {
      const { locker } = yield* made
      const provide = Effect.provideService(Locker, locker)
      const semaphore = yield* provide(DistributedSemaphore.make("s", { permits: 4 }))
      const lock = yield* provide(ReadWriteLock.make("rw"))
      for (let nth = 0; nth < 4; nth++) yield* fork(outside(semaphore.withPermit(Effect.never)))
      const waiting = yield* fork(outside(semaphore.withPermits(3, { maxQueue: 1 })(Effect.never)))
      yield* TestClock.adjust(0)
      assert.isUndefined(waiting.pollUnsafe())
      assert.strictEqual(
        timedOut(yield* Effect.flip(outside(semaphore.withPermit(Effect.void, { maxQueue: 1 })))).queueLength,
        1
      )
      yield* fork(outside(lock.withReadLock(Effect.never)))
      yield* outside(lock.withReadLock(Effect.void, { maxQueue: 0 }))
      timedOut(yield* Effect.flip(outside(lock.withWriteLock(Effect.void, { maxQueue: 0 }))))
    }))

  it.effect("refuses several locks for one full queue, and keeps none of them", () =>
    Effect.gen(function*() {
      const { locker } = yield* made
      yield* crowd(locker, 1)
      const error = timedOut(
        yield* Effect.flip(outside(locker.withLocks(["a", "k", "b"], Effect.void, { maxQueue: 1 })))
      )
      assert.deepStrictEqual([error.key, error.queueLength, error.maxQueue, error.wanted], ["k", 1, 1, 3])
      for (const key of ["a", "b"]) yield* outside(locker.withLock(key, Effect.void, { maxQueue: 0 }))
      const counted = yield* Effect.flip(outside(locker.withLock("k", Effect.void, { maxQueue: 0 })))
      assert.strictEqual(timedOut(counted).queueLength, 1)
    }))

  it.effect("lets several locks wait where no queue is full", () =>
    Effect.gen(function*() {
      const { locker } = yield* made
      const holder = yield* fork(locker.withLock("k", Effect.sleep("5 seconds")))
      const waiting = yield* fork(outside(locker.withLocks(["a", "k"], Effect.succeed(42), { maxQueue: 1 })))
      yield* TestClock.adjust("5 seconds")
      yield* Fiber.join(holder)
      assert.strictEqual(yield* Fiber.join(waiting), 42)
    }))
})

describe("maxQueue", () => {
  it.effect("is one call where the store counts, and a withdrawal more where it does not", () =>
    Effect.gen(function*() {
      for (const [made, calls] of [[setting(), ["request"]], [uncounted, ["request", "withdraw"]]] as const) {
        const { faulty, locker } = yield* made
        yield* fork(locker.withLock("k", Effect.never))
        const before = faulty.calls.length
        yield* Effect.flip(outside(locker.withLock("k", Effect.void, { maxQueue: 0 })))
        assert.deepStrictEqual<ReadonlyArray<string>>(
          faulty.calls.slice(before).map(({ operation }) => operation),
          calls
        )
      }
    }))

  it.effect("does not refuse a claim that has its place already, when it is asked for again", () =>
    Effect.gen(function*() {
      const { faulty, locker } = yield* setting()
      const holder = yield* fork(locker.withLock("k", Effect.sleep("5 seconds")))
      // The first answer is lost, and another caller comes before the repetition.
      yield* faulty.dropReplies("request", 1)
      const waiting = yield* fork(outside(locker.withLock("k", Effect.succeed(42), { maxQueue: 1 })))
      yield* fork(outside(locker.withLock("k", Effect.never)))
      yield* TestClock.adjust("5 seconds")
      yield* Fiber.join(holder)
      assert.strictEqual(yield* Fiber.join(waiting), 42)
    }))

  it.effect.each([-1, 1.5, Infinity, "2", null])("is not %o", (maxQueue) =>
    Effect.gen(function*() {
      const { faulty, locker } = yield* setting()
      const error = yield* Effect.flip(locker.withLock("k", Effect.void, { maxQueue: maxQueue as number }))
      assert(error._tag === "InvalidLockRequest")
      assert.deepStrictEqual([error.parameter, error.problem], [
        "maxQueue",
        "must be a whole number from 0 to 2147483647"
      ])
      assert.deepStrictEqual(faulty.calls, [])
    }))

  it.effect("is not for calls that never wait", () =>
    Effect.gen(function*() {
      const { faulty, locker } = yield* setting()
      const error = yield* Effect.flip(locker.withLockIfAvailable("k", Effect.void, { maxQueue: 1 } as object))
      assert(error._tag === "InvalidLockRequest")
      assert.strictEqual(error.parameter, "maxQueue")
      assert.deepStrictEqual(faulty.calls, [])
    }))
})

describe("the locker's defaultTimeout", () => {
  it.effect("is the timeout of calls that give none, of every kind, and a call may wait without end", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting({ defaultTimeout: "4 seconds" })
      const semaphore = yield* Effect.provideService(DistributedSemaphore.make("s", { permits: 1 }), Locker, locker)
      yield* fork(locker.withLock("k", Effect.never))
      yield* fork(semaphore.withPermit(Effect.never))
      const waiting = [
        yield* fork(Effect.flip(outside(locker.withLock("k", Effect.void)))),
        yield* fork(
          Effect.flip(Effect.scoped(outside(Effect.scoped(Effect.asVoid(locker.scoped("k", { ttl: "5 seconds" }))))))
        ),
        yield* fork(Effect.flip(outside(semaphore.withPermit(Effect.void)))),
        yield* fork(Effect.flip(outside(locker.withLocks(["k", "l"], Effect.void))))
      ]
      const shorter = yield* fork(Effect.flip(outside(locker.withLock("k", Effect.void, { timeout: "1 second" }))))
      const endless = yield* fork(outside(locker.withLock("k", Effect.void, { timeout: "Infinity" })))
      yield* TestClock.adjust("1 second")
      timedOut(yield* Fiber.join(shorter))
      yield* TestClock.adjust(2999)
      for (const one of waiting) assert.isUndefined(one.pollUnsafe())
      yield* TestClock.adjust(1)
      for (const one of waiting) assert.strictEqual(Duration.toMillis(timedOut(yield* Fiber.join(one)).waited), 4000)
      yield* TestClock.adjust("10 minutes")
      assert.isUndefined(endless.pollUnsafe())
    }))

  it.effect("does not hurry a call that never waits", () =>
    Effect.gen(function*() {
      const { faulty, locker } = yield* setting({ defaultTimeout: 0 })
      const held = yield* faulty.holdReplies("request")
      const asking = yield* fork(locker.withLockIfAvailable("k", Effect.succeed(42)))
      yield* TestClock.adjust("800 millis")
      yield* held.release
      assert.strictEqual((yield* Fiber.join(asking))._tag, "Some")
    }))
})

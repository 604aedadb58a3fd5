import { assert, describe, it } from "@effect/vitest"
import { Clock, Duration, Effect, Exit, Fiber, Layer, Scope } from "effect"
import { LockBackendError, Locker, LockStore, MemoryLockStore } from "effect-dlock"
import type { Renewal } from "effect-dlock/LockStore"
import { TestClock } from "effect/testing"
import { fork, lockerOver, millis, setting, shiftedClock, withLogs } from "./support.ts"

const withoutGroupBy = Effect.acquireRelease(
  Effect.sync(() => {
    const groupBy = Object.getOwnPropertyDescriptor(Map, "groupBy")!
    Reflect.deleteProperty(Map, "groupBy")
    return groupBy
  }),
  (groupBy) => Effect.sync(() => Object.defineProperty(Map, "groupBy", groupBy))
)

describe("one scheduler a locker", () => {
  it.effect("one call renews a thousand leases, once in a third of their ttl", () =>
    Effect.gen(function*() {
      const { locker, sent } = yield* setting()
      yield* Effect.forEach(Array.from({ length: 1000 }, (_, index) => `k${index}`), (key) => locker.scoped(key))
      yield* TestClock.adjust("30 seconds")
      assert.strictEqual(sent("renew").length, 10)
      assert.deepStrictEqual(sent("renew").map((call) => call.claims.length), Array(10).fill(1000))
    }))

  it.effect("leases that were taken a little later go along in one call", () =>
    Effect.gen(function*() {
      const { locker, sent } = yield* setting()
      for (let i = 0; i < 4; i++) {
        yield* locker.scoped(`k${i}`)
        yield* TestClock.adjust("100 millis")
      }
      yield* TestClock.adjust("30 seconds")
      assert.isAtMost(sent("renew").length, 11)
    }))

  it.effect("leases of different ttls are renewed each in its time", () =>
    Effect.gen(function*() {
      const { locker, sent } = yield* setting()
      const long = yield* locker.scoped("long", { ttl: "90 seconds" })
      const short = yield* locker.scoped("short", { ttl: "3 seconds" })
      yield* TestClock.adjust("60 seconds")
      yield* long.ensureHeld
      yield* short.ensureHeld
      const times = (key: string) =>
        sent("renew").filter((call) => call.claims.some((claim) => claim.key.endsWith(key)))
      assert.isAtMost(times("long").length, 3)
      assert.isAtLeast(times("short").length, 59)
    }))

  it.effect("keeps the deadline of a short lease away from a long one that is due at the same time", () =>
    Effect.gen(function*() {
      const memory = yield* MemoryLockStore.make
      // Slower than a sixth of the short ttl, and faster than one of the long.
      const slow = LockStore.of({ ...memory, renew: (held) => Effect.delay(memory.renew(held), "200 millis") })
      const locker = yield* lockerOver(slow, {})
      const long = yield* locker.scoped("long", { ttl: "9 seconds" })
      yield* TestClock.adjust("2700 millis")
      // Due so soon after the long one that it goes along.
      yield* locker.scoped("short", { ttl: "1 second" })
      yield* TestClock.adjust("600 millis")
      assert.isAbove(Duration.toMillis(yield* long.remaining), 8_500)
      // Until none is under way, which a release would wait for.
      yield* TestClock.adjust("2 seconds")
    }))

  it.effect("renews leases whose renewal failed together in one call again, up to the end", () =>
    Effect.gen(function*() {
      const { faulty, locker, sent } = yield* setting({ defaultTtl: "30 seconds" })
      for (let i = 0; i < 100; i++) {
        yield* locker.scoped(`k${i}`)
        yield* TestClock.adjust("12 millis")
      }
      yield* faulty.fail("renew")
      yield* TestClock.adjust("40 seconds")
      assert.isAtLeast(sent("renew").length, 10)
      assert.isAtMost(sent("renew").length, 20)
    }))

  it.effect("one lease that is lost does not touch the others of the same call", () =>
    Effect.gen(function*() {
      const { locker, memory, faulty } = yield* setting()
      const leases = yield* Effect.forEach(["a", "b", "c"], (key) => locker.scoped(key))
      yield* memory.withdraw(faulty.calls[1]!.claims[0]!)
      yield* TestClock.adjust("10 seconds")
      yield* leases[0]!.ensureHeld
      assert.strictEqual((yield* Effect.flip(leases[1]!.ensureHeld))._tag, "OwnershipLost")
      yield* leases[2]!.ensureHeld
    }))

  it.effect("nothing is renewed once everything is released", () =>
    Effect.gen(function*() {
      const { locker, sent } = yield* setting()
      yield* Effect.scoped(Effect.forEach(["a", "b", "c"], (key) => locker.scoped(key)))
      for (let i = 0; i < 100; i++) yield* locker.withLock("d", Effect.void)
      yield* TestClock.adjust("10 minutes")
      assert.strictEqual(sent("renew").length, 0)
    }))
})

describe("a good lock is not thrown away", () => {
  it.effect.each([1, 2, 3])("%s failed renewals cost nothing", (times) =>
    Effect.gen(function*() {
      const { faulty, locker, sent } = yield* setting()
      const lease = yield* locker.scoped("k")
      yield* faulty.fail("renew", undefined, times)
      yield* TestClock.adjust("45 seconds")
      yield* lease.ensureHeld
      assert.isAbove(sent("renew").length, 10)
      assert.isAbove(yield* millis(lease.remaining), 5999)
    }))

  it.effect("renewals that are refused for a second cost nothing", () =>
    Effect.gen(function*() {
      const { faulty, locker } = yield* setting({ defaultTtl: "3 seconds" })
      const lease = yield* locker.scoped("k")
      const refused = new LockBackendError({ operation: "renew", retryable: false, cause: new Error("ECONNREFUSED") })
      yield* faulty.fail("renew", refused)
      yield* TestClock.adjust("2 seconds")
      yield* faulty.heal()
      yield* TestClock.adjust("30 seconds")
      yield* lease.ensureHeld
    }))

  it.effect("a renewal that hangs is given up within a third of the ttl and tried again", () =>
    Effect.gen(function*() {
      const { faulty, locker, sent } = yield* setting()
      const lease = yield* locker.scoped("k")
      yield* faulty.hang("renew", 1)
      yield* TestClock.adjust("7 seconds")
      assert.deepStrictEqual(sent("renew").map((call) => call.answer), [undefined, "Confirmed"])
      yield* TestClock.adjust("30 seconds")
      yield* lease.ensureHeld
    }))

  it.effect("a backend that is silent, and back when a twelfth of the ttl is left, costs nothing", () =>
    Effect.gen(function*() {
      const memory = yield* MemoryLockStore.make
      const clock = yield* Clock.clockWith(Effect.succeed)
      const error = new LockBackendError({ operation: "renew", retryable: true, cause: new Error("no answer") })
      const silent: Renewal = { _tag: "Unknown", error }
      const renew: LockStore["Service"]["renew"] = (held) =>
        clock.currentTimeMillisUnsafe() < 8_250
          // The limit of a call of the Redis store: an eighth.
          ? Effect.delay(Effect.succeed(held.map(() => silent)), 9_000 / 8)
          : memory.renew(held)
      const locker = yield* lockerOver({ ...memory, renew })
      const lease = yield* locker.scoped("k", { ttl: "9 seconds" })
      yield* TestClock.adjust("1 minute")
      yield* lease.ensureHeld
    }))

  it.effect.each(
    [
      ["dies", () => Effect.die("a bug in the store")],
      ["answers for too few", () => Effect.succeed([])]
    ] as const
  )("a store whose renewal %s once is one that failed once", ([, renew]) =>
    Effect.gen(function*() {
      const memory = yield* MemoryLockStore.make
      let times = 0
      const locker = yield* lockerOver({ ...memory, renew: (held) => times++ === 0 ? renew() : memory.renew(held) })
      const lease = yield* locker.scoped("k", { ttl: "9 seconds" })
      yield* TestClock.adjust("1 minute")
      yield* lease.ensureHeld
    }))
})

describe("a renewal that is confirmed by something older", () => {
  it.effect("moves no deadline back, and the next renewal is sent after a pause", () =>
    Effect.gen(function*() {
      const memory = yield* MemoryLockStore.make
      let renewals = 0
      const locker = yield* lockerOver({
        ...memory,
        renew: (held) =>
          Effect.sync(() => {
            renewals++
            return held.map(() => ({ _tag: "Confirmed" as const, confirmedAt: -1_000_000_000n }))
          })
      })
      const lease = yield* locker.scoped("k", { ttl: "9 seconds" })
      yield* TestClock.adjust("8 seconds")
      assert.strictEqual(yield* millis(lease.remaining), 1000)
      assert.isAtMost(renewals, 8)
      yield* TestClock.adjust("1 seconds")
      assert.strictEqual((yield* Effect.flip(lease.ensureHeld))._tag, "OwnershipLost")
    }))
})

describe("leases that are renewed in one call", () => {
  it.effect("are all confirmed before a release that waited for the same call goes on and keeps the thread busy", () =>
    Effect.gen(function*() {
      const { clock, shift } = yield* shiftedClock
      const memory = yield* MemoryLockStore.make
      const slow = LockStore.of({ ...memory, renew: (held) => Effect.delay(memory.renew(held), "1 second") })
      const locker = yield* Effect.provideService(lockerOver(slow, { defaultTtl: "9 seconds" }), Clock.Clock, clock)
      const other = yield* fork(
        locker.withLock("other", (lease) => Effect.andThen(Effect.sleep("20 seconds"), lease.ensureHeld))
      )
      const blocking = Effect.sync(() => {
        shift.monotonic += 6_000
      })
      // Released while the renewal of both is under way.
      const first = yield* fork(Effect.andThen(locker.withLock("k", Effect.sleep("3500 millis")), blocking))
      yield* TestClock.adjust("4 seconds")
      yield* Fiber.join(first)
      yield* TestClock.adjust("20 seconds")
      yield* Fiber.join(other)
    }))
})

describe("a defect of a renewal", () => {
  it.effect("before a renewal is sent is logged once, and ends its leases at once", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        const { locker, sent } = yield* setting()
        const sections = yield* Effect.forEach(
          ["a", "b"],
          (key) => fork(Effect.flip(locker.withLock(key, Effect.never, { guardGap: "1 second" })))
        )
        yield* withoutGroupBy
        yield* TestClock.adjust("3 seconds")
        for (const section of sections) {
          const lost = yield* Fiber.join(section)
          assert(lost._tag === "OwnershipLost")
          assert.strictEqual(lost.reason, "Revoked")
        }
        assert.strictEqual(lines.filter((line) => line.level === "Error").length, 1)
        assert.include(lines[0]!.message, "groupBy")
        yield* TestClock.adjust("1 second")
        assert.strictEqual(sent("withdraw").length, 2, "others need not wait for an expiry")
      })
    ))

  it.effect("of the store is a renewal that failed, and the lock is kept, also where the store cannot be interrupted", () =>
    Effect.gen(function*() {
      const failures: ReadonlyArray<() => ReturnType<LockStore["Service"]["renew"]>> = [
        () => {
          throw new Error("a bug in the store")
        },
        () => Effect.die("a bug in the store"),
        () => Effect.uninterruptible(Effect.never)
      ]
      for (const failure of failures) {
        const memory = yield* MemoryLockStore.make
        let isFirst = true
        const renew: LockStore["Service"]["renew"] = (held) => {
          if (!isFirst) return memory.renew(held)
          isFirst = false
          return failure()
        }
        const locker = yield* lockerOver({ ...memory, renew })
        const lease = yield* locker.scoped("k", { ttl: "9 seconds" })
        yield* TestClock.adjust("1 minute")
        yield* lease.ensureHeld
      }
    }))

  it.effect("in the answer to a renewal is logged, and ends the lease at once", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        const memory = yield* MemoryLockStore.make
        const renew: LockStore["Service"]["renew"] = (held) =>
          Effect.succeed(held.map(() => ({ _tag: "Confirmed", confirmedAt: Symbol("not a number") as never })))
        const locker = yield* lockerOver({ ...memory, renew })
        const section = yield* fork(Effect.flip(locker.withLock("k", Effect.never, { ttl: "9 seconds" })))
        yield* TestClock.adjust("3 seconds")
        const lost = yield* Fiber.join(section)
        assert(lost._tag === "OwnershipLost")
        assert.strictEqual(lost.reason, "Revoked")
        assert.deepStrictEqual(lines.filter((line) => line.level === "Error").map((line) => line.annotations.key), [
          "k"
        ])
      })
    ))
})

describe("nothing keeps the process alive", () => {
  const timers = () => process.getActiveResourcesInfo().filter((resource) => resource === "Timeout").length

  /** A lease's own timers stand for seconds; others of this process, such as the test runner's, come and go. */
  const comeDownTo = Effect.fnUntraced(function*(before: number) {
    for (let i = 0; i < 20 && timers() > before; i++) yield* Effect.sleep("50 millis")
    assert.isAtMost(timers(), before)
  })

  it.live("an idle locker has no timer", () =>
    Effect.gen(function*() {
      const before = timers()
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(Locker.layerMemory, scope)
      const section = Locker.use((locker) => locker.withLock("k", Effect.sleep("5 millis"))).pipe(
        Effect.provideContext(context)
      )
      yield* section
      yield* Effect.all([section, section, Effect.timeoutOption(section, "2 millis")], { concurrency: "unbounded" })
      yield* comeDownTo(before)
      yield* Scope.close(scope, Exit.void)
    }))

  it.live("a locker that has gone has no timer, even if it went with a lock in hand", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        const before = timers()
        const scope = yield* Scope.make()
        const context = yield* Layer.buildWithScope(Locker.layerMemory, scope)
        const lease = yield* Effect.provideContext(Locker.use((locker) => locker.scoped("k")), context)
        assert.isAbove(timers(), before)
        yield* Scope.close(scope, Exit.void)
        yield* comeDownTo(before)
        const error = yield* Effect.flip(lease.ensureHeld)
        assert(error._tag === "OwnershipLost")
        assert.strictEqual(error.reason, "Revoked")
        assert.strictEqual(lines.length, 1)
      })
    ))
})

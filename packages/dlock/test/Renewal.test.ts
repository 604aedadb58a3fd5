import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Exit, Layer, Scope } from "effect"
import { Locker, LockStore, MemoryLockStore } from "effect-dlock"
import { TestClock } from "effect/testing"
import { lockerOver, setting, withLogs } from "./support.ts"

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

  it.effect("a short lease's haste is not that of a long one which is due with it", () =>
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

  it.effect("leases whose renewal failed together go together again, up to the end", () =>
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

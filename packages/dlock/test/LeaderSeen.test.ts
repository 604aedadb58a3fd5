import { assert, describe, it } from "@effect/vitest"
import { Clock, DateTime, Duration, Effect, Exit, Fiber, Layer, Option, Scope, Stream } from "effect"
import { DistributedSemaphore, Leader, type Lease, LockBackendError } from "effect-dlock"
import { TestClock } from "effect/testing"
import { deaf, diary, end, its, stateOf, two } from "./leaderSupport.ts"
import { adminSetting, fork, lockerOver, setting, shiftedSetting, withLogs } from "./support.ts"

// The ttl of these locks is 9 s and their guard gap 0.9 s, and they are renewed every 3 s.

describe("Leader.status", () => {
  it.effect("tells what this process does, and sends nothing", () =>
    Effect.gen(function*() {
      const { faulty, locker, one, two: second } = yield* two
      const { program } = diary()
      const status = one(Effect.map(Leader.status("role"), ({ lastConfirmedAgo, state }) =>
        [state, Option.getOrUndefined(Option.map(lastConfirmedAgo, Duration.toMillis))] as const))
      assert.deepStrictEqual(yield* status, ["idle", undefined])
      const other = yield* fork(second(Leader.run("role", Effect.never)))
      const leader = yield* fork(one(Leader.run("role", program("one", "2 seconds"))))
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* status, ["standing", undefined])
      assert.strictEqual(yield* stateOf(locker, "another"), "idle")
      yield* Fiber.interrupt(other)
      yield* TestClock.adjust("2 seconds")
      assert.deepStrictEqual(yield* status, ["leading", 2_000])
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* status, ["leading", 0])
      yield* faulty.hang("renew")
      yield* TestClock.adjust("8999 millis")
      assert.deepStrictEqual(yield* status, ["leading", 8_999])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(yield* status, ["lost", 9_000])
      const before = faulty.calls.length
      yield* status
      assert.strictEqual(faulty.calls.length, before)
      yield* faulty.hang("request")
      yield* TestClock.adjust("2 seconds")
      assert.deepStrictEqual(yield* status, ["standing", undefined])
      yield* Fiber.interrupt(leader)
      assert.deepStrictEqual(yield* status, ["idle", undefined])
    }))

  it.effect("of a layer that waits to stand again after a failure is that it stands", () =>
    withLogs(() =>
      Effect.gen(function*() {
        const { faulty, locker, one } = yield* two
        yield* one(Layer.build(Leader.layer("role", Effect.fail("a bug"))))
        for (let second = 0; second < 60; second++) {
          yield* TestClock.adjust("1 second")
          assert.strictEqual(yield* stateOf(locker), "standing")
        }
        const cause = new Error("NOAUTH")
        yield* faulty.fail("request", new LockBackendError({ operation: "acquire", retryable: false, cause }))
        yield* TestClock.adjust("1 hour")
        assert.strictEqual(yield* stateOf(locker), "standing")
      })
    ))

  it.effect("of a program that released its lock and goes on is that it lost it", () =>
    Effect.gen(function*() {
      const { locker, one } = yield* two
      const program = (lease: Lease) => Effect.andThen(lease.release, Effect.sleep("1 minute"))
      const leader = yield* fork(one(Leader.run("role", program)))
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* stateOf(locker), "lost")
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(yield* stateOf(locker), "idle")
      yield* Fiber.join(leader)
    }))

  it.effect("notices a loss before any timer does", () =>
    Effect.gen(function*() {
      const { locker, shift } = yield* shiftedSetting
      const leader = yield* fork(its(locker)(Leader.run("role", deaf("1 minute"))))
      assert.strictEqual(yield* stateOf(locker), "leading")
      shift.monotonic += 9_000
      assert.strictEqual(yield* stateOf(locker), "lost")
      yield* end(leader)
    }))

  it.effect("of several candidates tells what needs most attention", () =>
    Effect.gen(function*() {
      const { locker, one } = yield* two
      const first = yield* fork(one(Leader.run("role", Effect.never)))
      yield* fork(one(Leader.run("role", Effect.never)))
      assert.strictEqual(yield* stateOf(locker), "leading")
      yield* Fiber.interrupt(first)
      yield* TestClock.adjust(1)
      assert.strictEqual(yield* stateOf(locker), "leading")
    }))
})

describe("Leader.observe", () => {
  /** Two processes that stand, and an observer that notes what it is told, and when. */
  const observed = Effect.gen(function*() {
    const { admin, faulty, locker, memory } = yield* adminSetting({ holder: "one" })
    const second = yield* lockerOver({ ...memory }, { defaultTtl: "9 seconds", holder: "two" }, admin)
    const told: Array<string> = []
    const note = (leader: Option.Option<Leader.LeaderInfo>) =>
      Effect.map(
        Clock.currentTimeMillis,
        (now) =>
          void told.push(`${now / 1_000} ${
            Option.match(leader, {
              onNone: () => "nobody",
              onSome: ({ holder, term }) => `${holder} ${term}`
            })
          }`)
      )
    const observer = yield* fork(its(second)(Stream.runForEach(Leader.observe("role"), note)))
    yield* TestClock.adjust(1)
    return { faulty, locker, one: its(locker), two: its(second), told, observer }
  })

  it.effect("tells of each leader and of nobody, and never the same twice in a row", () =>
    Effect.gen(function*() {
      const { one, told, two: second } = yield* observed
      assert.deepStrictEqual(told, ["0 nobody"])
      const leader = yield* fork(one(Leader.run("role", Effect.never)))
      const other = yield* fork(second(Leader.run("role", Effect.never)))
      // Renewals and those who come and stand are no news.
      const third = yield* fork(second(Leader.run("role", Effect.never)))
      yield* TestClock.adjust("1 minute")
      yield* Fiber.interrupt(third)
      yield* TestClock.adjust("1 minute")
      yield* Fiber.interrupt(leader)
      yield* TestClock.adjust("1 minute")
      yield* Fiber.interrupt(other)
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(told.map((line) => line.replace(/^\S+ /, "")), ["nobody", "one 1", "two 2", "nobody"])
      const at = told.map((line) => Number(line.split(" ")[0]))
      for (const [index, due] of [0, 0, 120, 180].entries()) {
        assert.isAtLeast(at[index]!, due)
        assert.isBelow(at[index]!, due + 0.2)
      }
    }))

  it.effect("tells that a leader has died, within a second after its lock ran out", () =>
    Effect.gen(function*() {
      const { faulty, one, told } = yield* observed
      const scope = yield* Scope.make()
      yield* Effect.forkIn(one(Leader.run("role", Effect.never)), scope, { startImmediately: true })
      yield* TestClock.adjust("10 seconds")
      // It was renewed last at 9 s.
      yield* faulty.hang("renew")
      yield* faulty.hang("withdraw")
      yield* faulty.hang("request")
      yield* TestClock.adjust("20 seconds")
      const at = told.map((line) => Number(line.split(" ")[0]))
      assert.deepStrictEqual(told.map((line) => line.replace(/^\S+ /, "")), ["nobody", "one 1", "nobody"])
      assert.isAtLeast(at[2]!, 18.9)
      assert.isBelow(at[2]!, 19.9)
      yield* faulty.heal()
      yield* fork(Scope.close(scope, Exit.void))
      yield* TestClock.adjust("1 minute")
    }))

  it.effect("tells a slow consumer of nobody too, however often the lock is renewed meanwhile", () =>
    Effect.gen(function*() {
      const { admin, locker, memory } = yield* adminSetting({ defaultTtl: "1 second" })
      const other = yield* lockerOver({ ...memory }, undefined, admin)
      const told: Array<string> = []
      const slow = Stream.runForEach(Leader.observe("role"), (leader) => {
        told.push(Option.match(leader, { onNone: () => "nobody", onSome: ({ term }) => `term ${term}` }))
        return Option.isSome(leader) ? Effect.sleep("2 minutes") : Effect.void
      })
      yield* fork(its(other)(slow))
      yield* TestClock.adjust("1 second")
      const first = yield* fork(its(locker)(Leader.run("role", Effect.never)))
      yield* TestClock.adjust("1 minute")
      yield* Fiber.interrupt(first)
      yield* TestClock.adjust("1100 millis")
      yield* fork(its(locker)(Leader.run("role", Effect.never)))
      yield* TestClock.adjust("10 minutes")
      assert.deepStrictEqual(told, ["nobody", "term 1", "nobody", "term 2"])
    }))

  it.effect("reports nobody when another kind of lock has the name", () =>
    Effect.gen(function*() {
      const { locker, one, told } = yield* observed
      const semaphore = yield* its(locker)(DistributedSemaphore.make("role", { permits: 4 }))
      yield* fork(semaphore.withPermit(Effect.never))
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(told, ["0 nobody"])
      assert.isTrue(Option.isNone(yield* one(Leader.current("role"))))
      assert.strictEqual((yield* Effect.flip(one(Leader.run("role", Effect.void))))._tag, "CapacityMismatch")
    }))

  it.effect("fails with what no later attempt could mend", () =>
    Effect.gen(function*() {
      const { one } = yield* observed
      const { locker } = yield* setting()
      assert.strictEqual((yield* Effect.flip(one(Stream.runDrain(Leader.observe("")))))._tag, "InvalidLockRequest")
      assert.strictEqual((yield* Effect.flip(one(Leader.current(""))))._tag, "InvalidLockRequest")
      const unseen = yield* Effect.flip(its(locker)(Stream.runDrain(Leader.observe("role"))))
      assert.strictEqual(unseen._tag, "LockBackendError")
    }))
})

describe("Leader.current", () => {
  it.effect("tells who leads", () =>
    Effect.gen(function*() {
      const { locker } = yield* adminSetting({ holder: "one" })
      const one = its(locker)
      const current = one(Leader.current("role"))
      assert.isTrue(Option.isNone(yield* current))
      yield* TestClock.adjust("5 seconds")
      const leader = yield* fork(one(Leader.run("role", Effect.never, { metadata: { url: "here" } })))
      yield* TestClock.adjust("10 seconds")
      const found = Option.getOrThrow(yield* current)
      assert.deepStrictEqual<object>(
        { ...found, since: Option.map(found.since, DateTime.toEpochMillis) },
        { holder: "one", metadata: { url: "here" }, term: 1n, since: Option.some(5_000) }
      )
      yield* Fiber.interrupt(leader)
      assert.isTrue(Option.isNone(yield* current))
    }))
})

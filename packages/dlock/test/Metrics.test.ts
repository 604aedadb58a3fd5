import { assert, describe, it, vi } from "@effect/vitest"
import { Context, Effect, Exit, Fiber, Layer, Metric, Option, Scope } from "effect"
import {
  DistributedSemaphore,
  Leader,
  Lock,
  LockBackendError,
  Locker,
  LockMetrics,
  ReadWriteLock,
  Want
} from "effect-dlock"
import { TestClock } from "effect/testing"
import { end, its } from "./leaderSupport.ts"
import { measured, unexplained } from "./metricsSupport.ts"
import { adminSetting, fork, lockerOver, outside, setting } from "./support.ts"

const { acquired, busy, held, hold, lost, oldestWait, released, renewalFailures, storeCalls, wait, waiting } =
  LockMetrics

describe("what is counted of a call", () => {
  it.effect("a lock that is granted, held and released", () =>
    measured((metrics) =>
      Effect.gen(function*() {
        const { locker } = yield* setting()
        const section = yield* fork(locker.withLock("a", Effect.sleep("2 seconds")))
        assert.strictEqual(metrics.count(held), 1)
        assert.strictEqual(metrics.count(acquired), 1)
        assert.strictEqual(metrics.count(wait, { outcome: "granted" }), 1)
        assert.strictEqual(metrics.count(hold), 0)
        yield* TestClock.adjust("2 seconds")
        yield* Fiber.join(section)
        assert.strictEqual(metrics.count(held), 0)
        assert.strictEqual(metrics.count(released), 1)
        const taken = yield* Metric.value(Metric.withAttributes(hold, { backend: "memory", kind: "mutex" }))
        assert.deepInclude(taken, { count: 1, sum: 2_000, min: 2_000, max: 2_000 })
        assert.deepStrictEqual(taken.buckets.find(([boundary]) => boundary === 1_000), [1_000, 0])
        assert.deepStrictEqual(taken.buckets.find(([boundary]) => boundary === 2_500), [2_500, 1])
      })
    ))

  it.effect("how each wait ended: with the lock, by a timeout, by an interruption, or by an error", () =>
    measured((metrics) =>
      Effect.gen(function*() {
        const { faulty, locker } = yield* setting()
        const holder = yield* fork(locker.withLock("a", Effect.sleep("10 seconds")))
        const late = yield* fork(Effect.flip(locker.withLock("a", Effect.void, { timeout: "3 seconds" })))
        const stopped = yield* fork(locker.withLock("a", Effect.void))
        const patient = yield* fork(locker.withLock("a", Effect.void))
        assert.strictEqual(metrics.count(waiting), 3)
        yield* TestClock.adjust("4 seconds")
        assert.strictEqual((yield* Fiber.join(late))._tag, "LockTimeout")
        yield* Fiber.interrupt(stopped)
        assert.strictEqual(metrics.count(waiting), 1)
        yield* TestClock.adjust("7 seconds")
        yield* Fiber.joinAll([holder, patient])
        const no = new LockBackendError({ operation: "acquire", retryable: false, cause: "no" })
        yield* faulty.fail("request", no, 1)
        yield* Effect.flip(locker.withLock("b", Effect.void))
        assert.strictEqual(metrics.count(waiting), 0)
        for (const [outcome, count] of [["granted", 2], ["timeout", 1], ["interrupted", 1], ["failed", 1]] as const) {
          assert.strictEqual(metrics.count(wait, { outcome }), count, outcome)
        }
        const times = { backend: "memory", kind: "mutex", outcome: "granted" }
        assert.strictEqual((yield* Metric.value(Metric.withAttributes(wait, times))).sum, 10_000)
      })
    ))

  it.effect("a call that does not wait and finds the lock held is busy, and no wait", () =>
    measured((metrics) =>
      Effect.gen(function*() {
        const { locker } = yield* setting()
        yield* locker.withLock("a", outside(locker.withLockIfAvailable("a", Effect.void)))
        assert.strictEqual(metrics.count(busy), 1)
        assert.strictEqual(metrics.count(wait), 1)
        assert.strictEqual(metrics.count(waiting), 0)
      })
    ))

  it.effect("neither a call that the caller's own lock refuses nor an invalid one", () =>
    measured((metrics) =>
      Effect.gen(function*() {
        const { locker } = yield* setting()
        yield* locker.withLock("a", Effect.flip(locker.withLock("a", Effect.void)))
        yield* Effect.flip(locker.withLock("", Effect.void))
        assert.strictEqual(metrics.sum(wait), 1)
        assert.strictEqual(metrics.sum(acquired), 1)
      })
    ))

  it.effect("a lock that its holder enters again is one hold", () =>
    measured((metrics) =>
      Effect.gen(function*() {
        const { locker } = yield* setting()
        const inner = locker.withLock("a", Effect.sync(() => metrics.count(held)), { reentrant: true })
        assert.strictEqual(yield* locker.withLock("a", inner), 1)
        assert.strictEqual(metrics.count(acquired), 1)
        assert.strictEqual(metrics.count(wait), 1)
        assert.deepStrictEqual(unexplained(metrics), {})
      })
    ))

  it.effect("each of several locks, with its own kind, and permits as one hold", () =>
    measured((metrics) =>
      Effect.gen(function*() {
        const { locker } = yield* setting()
        const [api, shelf] = yield* its(locker)(Effect.all([
          DistributedSemaphore.make("api", { permits: 5 }),
          ReadWriteLock.make("shelf")
        ]))
        const holder = yield* fork(locker.withLock("a", Effect.sleep("5 seconds")))
        const all = ["a", "b", Want.permits(api, 3), Want.write(shelf)]
        const group = yield* fork(locker.withLocks(all, Effect.sleep("1 second")))
        assert.strictEqual(metrics.sum(waiting), 4)
        yield* TestClock.adjust("5 seconds")
        assert.strictEqual(metrics.sum(waiting), 0)
        assert.strictEqual(metrics.count(held), 2)
        assert.strictEqual(metrics.count(held, { kind: "semaphore" }), 1)
        assert.strictEqual(metrics.count(held, { kind: "readWrite" }), 1)
        yield* TestClock.adjust("1 second")
        yield* Fiber.joinAll([holder, group])
        assert.strictEqual(metrics.sum(released), 5)
        yield* locker.withLock("b", outside(locker.withLocksIfAvailable(["a", "b", Want.read(shelf)], Effect.void)))
        assert.strictEqual(metrics.sum(busy), 1)
        assert.strictEqual(metrics.count(busy), 1)
        assert.deepStrictEqual(unexplained(metrics), {})
      })
    ))

  it.effect("a call for several locks waits no longer when what its caller holds has ended and refuses it", () =>
    measured(({ count }) =>
      Effect.gen(function*() {
        const { locker, memory } = yield* setting()
        const other = yield* lockerOver({ ...memory })
        const holder = yield* fork(other.withLock("b", Effect.sleep("2500 millis")))
        const caller = yield* fork(Effect.scoped(Effect.gen(function*() {
          // Its cap ends it during the wait. Its claim is kept for a while, so the call can neither enter nor take the lock.
          yield* locker.scoped("a", { maxHold: "2 seconds" })
          return yield* Effect.flip(locker.withLocks(["a", "b"], Effect.void, { reentrant: true }))
        })))
        yield* TestClock.adjust("2 seconds")
        assert.strictEqual(count(waiting), 1)
        yield* TestClock.adjust("1 minute")
        assert.strictEqual((yield* Fiber.join(caller))._tag, "LockAlreadyHeld")
        yield* Fiber.join(holder)
        assert.deepStrictEqual([count(waiting), count(oldestWait)], [0, 0])
        assert.strictEqual(count(wait, { outcome: "failed" }), 1)
      })
    ))

  it.effect("a call that waits for its turn to ask the store", () =>
    measured((metrics) =>
      Effect.gen(function*() {
        const { faulty, locker } = yield* setting()
        yield* faulty.hang("request")
        const calls = yield* Effect.forEach(
          Array.from({ length: 3_000 }, (_, index) => `k${index}`),
          (key) => fork(Effect.exit(locker.withLock(key, Effect.void)))
        )
        assert.strictEqual(metrics.count(waiting), 3_000)
        assert.isBelow(faulty.calls.length, 3_000)
        yield* Fiber.interruptAll(calls.slice(2_500))
        assert.strictEqual(metrics.count(waiting), 2_500)
        yield* TestClock.adjust("1 minute")
        yield* Fiber.awaitAll(calls)
        assert.strictEqual(metrics.count(waiting), 0)
        assert.strictEqual(metrics.count(wait, { outcome: "interrupted" }), 500)
        assert.strictEqual(metrics.count(wait), 3_000)
        assert.strictEqual(metrics.count(acquired), 0)
      })
    ))
})

describe("how locks end", () => {
  it.effect("a loss is counted under its reason, from the beginning at 0", () =>
    measured((metrics) =>
      Effect.gen(function*() {
        const { faulty, locker } = yield* setting()
        const section = yield* fork(Effect.flip(locker.withLock("a", Effect.never)))
        assert.isDefined(metrics.all().find(({ attributes, id }) => id === lost.id && attributes?.reason === "Expired"))
        assert.strictEqual(metrics.count(lost), 0)
        yield* faulty.answerRenewals({ _tag: "Gone" })
        yield* TestClock.adjust("4 seconds")
        yield* Fiber.join(section)
        assert.strictEqual(metrics.count(lost, { reason: "Expired" }), 1)
        assert.strictEqual(metrics.count(lost), 1)
        assert.strictEqual(metrics.count(held), 0)
        assert.strictEqual(metrics.count(released), 0)
        assert.strictEqual(metrics.count(hold), 1)
      })
    ))

  it.effect("a lock whose program ends late after its cap is lost, and not released too", () =>
    measured((metrics) =>
      Effect.gen(function*() {
        const { locker } = yield* setting()
        const slow = Effect.onInterrupt(Effect.never, () => Effect.sleep("0.5 seconds"))
        const section = yield* fork(Effect.flip(locker.withLock("a", slow, { maxHold: "5 seconds" })))
        yield* TestClock.adjust("10 seconds")
        yield* Fiber.join(section)
        assert.strictEqual(metrics.count(lost, { reason: "MaxHold" }), 1)
        assert.strictEqual(metrics.count(released), 0)
        assert.deepStrictEqual(unexplained(metrics), {})
      })
    ))

  it.effect("the cap of a section that entered again is no loss of the lock", () =>
    measured((metrics) =>
      Effect.gen(function*() {
        const { locker } = yield* setting()
        const inner = Effect.flip(locker.withLock("a", Effect.never, { reentrant: true, maxHold: "1 second" }))
        const section = yield* fork(locker.withLock("a", inner))
        yield* TestClock.adjust("2 seconds")
        assert.strictEqual((yield* Fiber.join(section))._tag, "OwnershipLost")
        assert.strictEqual(metrics.count(lost), 0)
        assert.strictEqual(metrics.count(released), 1)
      })
    ))

  it.effect("a locker that closes loses what it holds", () =>
    measured((metrics) =>
      Effect.gen(function*() {
        const { memory } = yield* setting()
        const scope = yield* Scope.make()
        const locker = yield* Scope.provide(lockerOver(memory), scope)
        yield* locker.scoped("a")
        yield* Scope.close(scope, Exit.void)
        assert.strictEqual(metrics.count(lost, { reason: "Revoked" }), 1)
        assert.strictEqual(metrics.count(held), 0)
      })
    ))
})

describe("early warnings", () => {
  it.effect("the oldest wait grows while nothing happens, and is read when somebody looks", () =>
    measured((metrics) =>
      Effect.gen(function*() {
        const { locker } = yield* setting()
        const holder = yield* fork(locker.withLock("a", Effect.never))
        assert.strictEqual(metrics.count(oldestWait), 0)
        const first = yield* fork(locker.withLock("a", Effect.void))
        yield* TestClock.adjust("3 seconds")
        const second = yield* fork(locker.withLock("a", Effect.void))
        yield* TestClock.adjust("4 seconds")
        assert.strictEqual(metrics.count(oldestWait), 7_000)
        yield* Fiber.interrupt(first)
        assert.strictEqual(metrics.count(oldestWait), 4_000)
        yield* Fiber.interruptAll([second, holder])
        assert.strictEqual(metrics.count(oldestWait), 0)
      })
    ))

  it.effect("the oldest wait is that of a call which asks for a lock anew that it held before", () =>
    measured(({ count }) =>
      Effect.gen(function*() {
        const { locker, memory } = yield* setting()
        const other = yield* lockerOver({ ...memory })
        const shelf = yield* ReadWriteLock.make("shelf").pipe(Effect.provideService(Locker, locker))
        const theirs = yield* ReadWriteLock.make("shelf").pipe(Effect.provideService(Locker, other))
        const fibers = [yield* fork(theirs.withWriteLock(Effect.sleep("3 seconds")))]
        fibers.push(yield* fork(other.withLock("c", Effect.sleep("10 seconds"))))
        fibers.push(
          yield* fork(Effect.scoped(Effect.gen(function*() {
            const lease = yield* locker.scoped("a")
            yield* fork(
              Effect.delay(Effect.andThen(lease.release, other.withLock("a", Effect.sleep("9 seconds"))), 1_000)
            )
            yield* locker.withLocks(["a", Want.read(shelf)], Effect.void, { reentrant: true })
          })))
        )
        yield* TestClock.adjust("2 seconds")
        fibers.push(yield* fork(locker.withLock("c", Effect.void)))
        yield* TestClock.adjust("2 seconds")
        // Since the call, and not since the newer one.
        assert.deepStrictEqual([count(waiting), count(oldestWait)], [2, 4_000])
        yield* TestClock.adjust("1 minute")
        yield* Fiber.joinAll(fibers)
        assert.deepStrictEqual([count(waiting), count(oldestWait)], [0, 0])
      })
    ))

  it.effect("a candidate for a leadership is not one that waits, and is counted under the name that it stands for", () =>
    measured((metrics) =>
      Effect.gen(function*() {
        const { locker } = yield* setting()
        const stand = Leader.run("mailer", Effect.never).pipe(Effect.provideService(Locker, locker))
        const leader = yield* fork(stand)
        const candidate = yield* fork(stand)
        yield* TestClock.adjust("1 day")
        assert.strictEqual(metrics.count(waiting), 0)
        assert.strictEqual(metrics.count(oldestWait), 0)
        assert.strictEqual(metrics.count(acquired, { lock: "mailer" }), 1)
        yield* Fiber.interrupt(leader)
        assert.strictEqual(metrics.count(acquired, { lock: "mailer" }), 2)
        assert.strictEqual(metrics.count(held, { lock: "mailer" }), 1)
        const leads = () => metrics.all().filter(({ id }) => id === LockMetrics.leader.id)
        assert.strictEqual(leads().length, 1)
        yield* Fiber.interrupt(candidate)
        // Nobody stands here any more, which is no leadership without a leader.
        assert.deepStrictEqual(leads(), [])
      })
    ))

  it.effect("what was left of the ttl when a renewal was confirmed, in milliseconds and as a part", () =>
    measured((metrics) =>
      Effect.gen(function*() {
        const { faulty, locker } = yield* setting()
        yield* locker.scoped("a")
        yield* TestClock.adjust("3 seconds")
        const late = yield* faulty.holdReplies("renew")
        yield* TestClock.adjust("4 seconds")
        yield* late.release
        yield* TestClock.adjust(0)
        const attributes = { backend: "memory", kind: "mutex" }
        const slack = yield* Metric.value(Metric.withAttributes(LockMetrics.deadlineSlack, attributes))
        assert.deepInclude(slack, { count: 2, max: 6_000, min: 5_000 })
        const ratio = yield* Metric.value(Metric.withAttributes(LockMetrics.deadlineSlackRatio, attributes))
        assert.closeTo(ratio.max, 2 / 3, 0.001)
        assert.closeTo(ratio.min, 5 / 9, 0.001)
        assert.strictEqual(metrics.count(renewalFailures), 0)
      })
    ))

  it.effect("the renewals that failed, once for each lock", () =>
    measured((metrics) =>
      Effect.gen(function*() {
        const { faulty, locker } = yield* setting()
        yield* locker.scoped("a")
        yield* locker.scoped("b")
        yield* faulty.fail("renew", undefined, 1)
        yield* TestClock.adjust("3 seconds")
        assert.strictEqual(metrics.count(renewalFailures), 2)
        assert.strictEqual(metrics.sum(storeCalls, { operation: "renew", outcome: "failed" }), 1)
        yield* TestClock.adjust("3 seconds")
        assert.strictEqual(metrics.count(renewalFailures), 2)
      })
    ))

  it.effect("the calls to the store, by what they are for and how they ended", () =>
    measured((metrics) =>
      Effect.gen(function*() {
        const { faulty, locker } = yield* setting()
        const calls = (operation: string, outcome: string) =>
          metrics.sum(storeCalls, { backend: "memory", operation, outcome })
        yield* locker.withLock("a", Effect.void)
        yield* locker.withLocks(["a", "b"], Effect.void)
        assert.strictEqual(calls("acquire", "answered"), 2)
        assert.strictEqual(calls("release", "answered"), 2)
        yield* faulty.fail("request", undefined, 1)
        const again = yield* fork(locker.withLock("a", Effect.void))
        yield* TestClock.adjust("1 second")
        yield* Fiber.join(again)
        assert.strictEqual(calls("acquire", "failed"), 1)
        assert.strictEqual(calls("acquire", "answered"), 3)
        yield* faulty.hang("request", 1)
        yield* Fiber.interrupt(yield* fork(locker.withLock("a", Effect.void)))
        assert.strictEqual(calls("acquire", "interrupted"), 1)
      })
    ))

  it.effect("whether this process leads, under the name of the leadership", () =>
    measured((metrics) =>
      Effect.gen(function*() {
        const { faulty, locker } = yield* setting()
        const leads = (lock: string) => metrics.count(LockMetrics.leader, { lock })
        const first = yield* fork(its(locker)(Leader.run("role", Effect.never)))
        const other = yield* fork(its(locker)(Leader.run("role", Effect.never)))
        const none = yield* fork(its(locker)(locker.withLock("busy", its(locker)(Effect.void))))
        yield* TestClock.adjust(0)
        assert.strictEqual(leads("role"), 1)
        assert.strictEqual(leads("busy"), 0)
        yield* Fiber.join(none)
        yield* end(other)
        assert.strictEqual(leads("role"), 1)
        yield* faulty.answerRenewals({ _tag: "Replaced" }, 1)
        yield* faulty.hang("request")
        yield* TestClock.adjust("4 seconds")
        assert.strictEqual(leads("role"), 0)
        yield* faulty.heal()
        yield* end(first)
        assert.strictEqual(leads("role"), 0)
      })
    ))
})

describe("series", () => {
  it.effect("10,000 keys make no more of them than 1", () =>
    measured((metrics) =>
      Effect.gen(function*() {
        const { locker } = yield* setting()
        const use = (key: string) =>
          Effect.andThen(
            locker.withLock(key, outside(locker.withLockIfAvailable(key, Effect.void))),
            Effect.exit(locker.withLocks([key, `${key}-b`], Effect.fail("own")))
          )
        yield* use("k")
        const one = metrics.all().length
        yield* Effect.forEach(Array.from({ length: 10_000 }, (_, index) => `k${index}`), use)
        assert.strictEqual(metrics.all().length, one)
        for (const { attributes = {} } of metrics.all()) {
          assert.notInclude(JSON.stringify(attributes), "k1")
          assert.includeMembers(
            ["backend", "kind", "operation", "outcome", "reason", "time_unit"],
            Object.keys(attributes)
          )
        }
      })
    ))

  it.effect("have the name of a typed lock, and that of the call", () =>
    measured((metrics) =>
      Effect.gen(function*() {
        const { locker } = yield* setting()
        class StockLock extends Lock.Service<StockLock>()("stock", { key: (item: number) => `stock:${item}` }) {}
        class Odd extends Lock.Service<Odd>()("a {name} that metrics cannot have", { key: () => "odd" }) {}
        yield* its(locker)(StockLock.withLock(42)(Effect.void))
        yield* its(locker)(StockLock.withLock(43)(Effect.void, { name: "special" }))
        yield* its(locker)(StockLock.withOptions({ ttl: "5 seconds" }).withLock(44)(Effect.void))
        yield* its(locker)(Odd.withLock()(Effect.void))
        yield* locker.withLock("a", Effect.void, { name: "stock" })
        yield* Effect.scoped(locker.scopedIfAvailable("a", { name: "stock" }))
        const api = yield* its(locker)(DistributedSemaphore.make("api", { permits: 5 }))
        yield* api.withPermit(Effect.void, { name: "stock" })
        assert.strictEqual(metrics.count(acquired, { lock: "stock" }), 4)
        assert.strictEqual(metrics.count(acquired, { lock: "special" }), 1)
        assert.strictEqual(metrics.count(acquired, { kind: "semaphore", lock: "stock" }), 1)
        assert.strictEqual(metrics.count(acquired), 6)
        for (const name of ["", "a{b}", "x".repeat(201), "a\nb", 7 as never]) {
          const error = yield* Effect.flip(locker.withLock("a", Effect.void, { name }))
          assert.include(String(error), "name must be 1 to 200 characters")
        }
      })
    ))

  it.effect("have at most 100 names, and one more for all others", () =>
    measured((metrics) =>
      Effect.gen(function*() {
        const { locker } = yield* setting()
        for (let index = 0; index < 150; index++) yield* locker.withLock("a", Effect.void, { name: `n${index}` })
        yield* locker.withLock("a", Effect.void, { name: "n7" })
        const names = new Set(metrics.all().flatMap(({ attributes }) => attributes?.lock ?? []))
        assert.strictEqual(names.size, LockMetrics.mostNames + 1)
        assert.strictEqual(metrics.count(acquired, { lock: "other" }), 50)
        assert.strictEqual(metrics.count(acquired, { lock: "n7" }), 2)
        assert.strictEqual(metrics.count(acquired), 151)
      })
    ))

  it.effect("of two lockers with the same attributes add up, their gauges too", () =>
    measured((metrics) =>
      Effect.gen(function*() {
        const { locker, memory } = yield* setting()
        const other = yield* lockerOver(memory)
        yield* locker.scoped("a")
        yield* other.scoped("b")
        const waiters = [yield* fork(outside(other.withLock("a", Effect.void)))]
        yield* TestClock.adjust("1 second")
        waiters.push(yield* fork(outside(locker.withLock("b", Effect.void))))
        assert.strictEqual(metrics.count(held), 2)
        assert.strictEqual(metrics.count(acquired), 2)
        assert.strictEqual(metrics.count(waiting), 2)
        assert.strictEqual(metrics.count(oldestWait), 1_000)
        assert.strictEqual(metrics.all().filter(({ id }) => id === held.id).length, 1)
        yield* Fiber.interruptAll(waiters)
        assert.strictEqual(metrics.count(waiting), 0)
      })
    ))

  it.effect("of two copies of this library add up too", () =>
    measured(({ count }) =>
      Effect.gen(function*() {
        const { locker } = yield* setting()
        yield* locker.withLock("k", Effect.void)
        vi.resetModules()
        const copy = yield* Effect.promise(() => import("effect-dlock"))
        assert.notStrictEqual(copy.Locker, Locker)
        const theirs = Context.get(yield* Layer.build(copy.Locker.layerMemory), copy.Locker)
        const holders = [yield* fork(theirs.withLock("k", Effect.sleep("3 seconds")))]
        holders.push(yield* fork(locker.withLock("k", Effect.sleep("3 seconds"))))
        const waiter = yield* fork(theirs.withLock("k", Effect.void))
        yield* TestClock.adjust("2 seconds")
        assert.deepStrictEqual([count(acquired), count(released), count(held)], [3, 1, 2])
        assert.deepStrictEqual([count(waiting), count(oldestWait)], [1, 2_000])
        yield* TestClock.adjust("2 seconds")
        yield* Fiber.joinAll([...holders, waiter])
        assert.deepStrictEqual([count(acquired), count(released), count(held)], [4, 4, 0])
      })
    ))

  it.effect("are in the registry, and have the attributes, of where the locker was made", () =>
    measured((outer) =>
      Effect.gen(function*() {
        const made = lockerOver((yield* setting()).memory).pipe(
          Effect.provideService(Metric.CurrentMetricAttributes, { service: "shop" })
        )
        const locker = yield* made
        yield* measured(({ all }) =>
          Effect.andThen(
            locker.withLock("a", Effect.void),
            Effect.sync(() => assert.deepStrictEqual(all(), []))
          )
        )
        assert.strictEqual(outer.count(acquired, { service: "shop" }), 1)
      })
    ))

  it.effect("of a store that does not say its name are those of a custom backend", () =>
    measured((metrics) =>
      Effect.gen(function*() {
        const { backend, ...nameless } = (yield* setting()).memory
        assert.strictEqual(backend, "memory")
        yield* (yield* lockerOver(nameless)).withLock("a", Effect.void)
        yield* (yield* lockerOver({ ...nameless, backend: "mine" })).withLock("a", Effect.void)
        assert.strictEqual(metrics.sum(acquired, { backend: "custom" }), 1)
        assert.strictEqual(metrics.sum(acquired, { backend: "mine" }), 1)
      })
    ))
})

it.effect("a revoked lock is lost by revocation", () =>
  measured((metrics) =>
    Effect.gen(function*() {
      const { locker, operator } = yield* adminSetting()
      const section = yield* fork(Effect.flip(locker.withLock("a", Effect.never)))
      const { holders } = yield* operator.inspect("a")
      yield* operator.revoke("a", { token: holders[0]!.token })
      yield* Fiber.join(section)
      assert.strictEqual(metrics.count(lost, { reason: "Revoked" }), 1)
      assert.deepStrictEqual(unexplained(metrics), {})
    })
  ))

it.effect("Locker.layerMemory is measured as any other", () =>
  measured((metrics) =>
    Effect.gen(function*() {
      const locker = Context.get(yield* Layer.build(Locker.layerMemory), Locker)
      assert.isTrue(Option.isSome(yield* locker.withLockIfAvailable("a", Effect.void)))
      assert.strictEqual(metrics.count(wait, { outcome: "granted" }), 1)
    })
  ))

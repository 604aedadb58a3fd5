import { assert, describe, it } from "@effect/vitest"
import { Cause, Clock, Deferred, Duration, Effect, Exit, Fiber, Option, Scope } from "effect"
import { LockBackendError, type Locker, LockStore, MemoryLockStore } from "effect-dlock"
import { FaultyLockStore } from "effect-dlock/testing"
import { TestClock } from "effect/testing"
import { fork, lockerOver, setting, shiftedClock, shiftedSetting, withLogs } from "./support.ts"

describe("an acquire", () => {
  it.effect("that times out names the holder, its metadata and the length of the queue", () =>
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

  it.effect("with a timeout of zero asks once and does not wait", () =>
    Effect.gen(function*() {
      const { locker, sent } = yield* setting()
      yield* locker.scoped("k")
      const waiting = yield* fork(Effect.flip(Effect.scoped(locker.scoped("k", { timeout: 0 }))))
      yield* TestClock.adjust(0)
      assert.strictEqual((yield* Fiber.join(waiting))._tag, "LockTimeout")
      assert.strictEqual(sent("withdraw").length, 1)
      assert.strictEqual(yield* locker.withLock("free", Effect.succeed(42), { timeout: 0 }), 42)
    }))

  it.effect("tells an error that no repetition mends soon, and withdraws the claim", () =>
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

  it.effect("repeats under the same id what failed with an error that may pass", () =>
    Effect.gen(function*() {
      const { faulty, locker, sent } = yield* setting()
      yield* faulty.fail("request", undefined, 3)
      const taking = yield* fork(locker.withLock("k", Effect.succeed(42)))
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* Fiber.join(taking), 42)
      assert.strictEqual(sent("request").length, 4)
      assert.strictEqual(new Set(sent("request").map((call) => call.claims[0]!.id)).size, 1)
    }))

  it.effect("asks under fresh ids for three seconds where the store gives each grant up, and then fails", () =>
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

  it.effect("fails with LockBackendError within two thirds of the ttl where the backend stays silent", () =>
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

  it.effect("fails with LockBackendError where its wait fails, and withdraws the claim", () =>
    Effect.gen(function*() {
      const { faulty, locker, sent } = yield* setting()
      yield* locker.scoped("k")
      yield* faulty.fail("wait", undefined, 1)
      const error = yield* Effect.flip(Effect.scoped(Effect.scoped(locker.scoped("k", { timeout: "1 minute" }))))
      assert(error._tag === "LockBackendError")
      assert.deepStrictEqual([error.operation, error.key], ["wait", "k"])
      assert.strictEqual(sent("withdraw").length, 1)
    }))

  it.effect("that does not wait and finds the lock held sends nothing after its request", () =>
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
  it.effect("of 500 is served in order, and each waiter sends its own calls only", () =>
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

  it.effect("passes over waiters that gave up, at the front, in the middle and at the end", () =>
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

  it.effect("gives each waiter a larger token than the holder before it had", () =>
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

describe("a waiter", () => {
  it.effect("is granted a lease that is still held, although the wall clock was set during its wait", () =>
    Effect.gen(function*() {
      const { locker, memory, shift } = yield* shiftedSetting
      const other = yield* lockerOver(memory)
      const gate = yield* Deferred.make<void>()
      yield* fork(other.withLock("k", Deferred.await(gate)))
      const waiting = yield* fork(locker.withLock("k", (lease) => Effect.as(lease.ensureHeld, "held")))
      shift.wall = 60_000
      yield* Deferred.succeed(gate, undefined)
      assert.strictEqual(yield* Fiber.join(waiting), "held")
    }))

  it.effect("names a holder that is not one of this library as the backend describes it, when it times out", () =>
    Effect.gen(function*() {
      const { locker, memory } = yield* setting()
      yield* memory.request({
        id: "stranger",
        key: "dlock:k",
        prefix: "dlock:",
        kind: "mutex",
        permits: 1,
        capacity: 1,
        ttl: Duration.seconds(9),
        guardGap: Duration.zero,
        holder: `elsewhere {"attempt":1}`
      }, "try")
      const error = yield* Effect.flip(locker.withLock("k", Effect.void, { timeout: 0 }))
      assert(error._tag === "LockTimeout")
      assert.deepStrictEqual([error.holder, error.metadata], [`elsewhere {"attempt":1}`, undefined])
    }))
})

type Disturb = (faulty: FaultyLockStore.FaultyLockStore) => Effect.Effect<void>

/** Ways in which a backend does not answer, as the core meets them. */
const silences: ReadonlyArray<readonly [name: string, disturb: Disturb]> = [
  ["never answers", (faulty) => Effect.andThen(faulty.hang("request"), faulty.hang("withdraw"))],
  ["refuses connections", (faulty) => Effect.andThen(faulty.fail("request"), faulty.fail("withdraw"))],
  ["loses its answers", (faulty) => Effect.andThen(faulty.dropReplies("request"), faulty.dropReplies("withdraw"))]
]

/** A setting whose store limits its own calls, or does not. */
const kinds = [
  ["", setting()],
  [
    ", of a store that limits its own calls",
    Effect.gen(function*() {
      const { faulty, memory, sent } = yield* setting()
      const limited = <A>(call: Effect.Effect<A, LockBackendError>) =>
        Effect.timeoutOrElse(call, {
          duration: "2 seconds",
          orElse: () =>
            Effect.fail(
              new LockBackendError({ operation: "acquire", retryable: true, cause: new Error("no answer") })
            )
        })
      const store = LockStore.of({
        ...faulty.store,
        request: (claim, mode) => limited(faulty.store.request(claim, mode)),
        withdraw: (claim) => limited(faulty.store.withdraw(claim)),
        bounded: true
      })
      const locker = yield* lockerOver(store, { defaultTtl: "9 seconds" })
      return { faulty, locker, memory, sent }
    })
  ]
] as const

const millisOf = Effect.map(TestClock.testClockWith((clock) => clock.currentTimeMillis), Number)

/** The milliseconds that an effect takes, and how it ends. */
const timed = <A, E>(effect: Effect.Effect<A, E>) =>
  Effect.gen(function*() {
    const start = yield* millisOf
    const fiber = yield* fork(Effect.exit(effect))
    for (let i = 0; i < 2_000 && fiber.pollUnsafe() === undefined; i++) yield* TestClock.adjust(5)
    return { took: (yield* millisOf) - start, exit: yield* Fiber.join(fiber) }
  })

/** Ends what goes on behind, which the end of the locker would wait for. */
const settled = (faulty: FaultyLockStore.FaultyLockStore) => Effect.andThen(faulty.heal(), TestClock.adjust("1 minute"))

const failure = <A, E>(exit: Exit.Exit<A, E>): E => {
  assert(Exit.isFailure(exit))
  return Option.getOrThrow(Cause.findErrorOption(exit.cause))
}

describe("an acquire in its caller's time", () => {
  for (const [kind, made] of kinds) {
    for (const [name, disturb] of silences) {
      it.effect(`a timeout is kept where the backend ${name}${kind}`, () =>
        Effect.gen(function*() {
          const { faulty, locker } = yield* made
          yield* disturb(faulty)
          for (const timeout of [0, 50, 500, 2_000]) {
            const { exit, took } = yield* timed(locker.withLock("k", Effect.void, { timeout }))
            const error = failure(exit)
            assert.strictEqual(error._tag, "LockBackendError")
            assert.isAtMost(took, timeout + 100, `${timeout} ms`)
          }
          yield* settled(faulty)
        }))

      it.effect(`an Effect.timeout is kept where the backend ${name}${kind}`, () =>
        Effect.gen(function*() {
          const { faulty, locker } = yield* made
          yield* disturb(faulty)
          const { exit, took } = yield* timed(Effect.timeout(locker.withLock("k", Effect.void), "500 millis"))
          assert.strictEqual(failure(exit)._tag, "TimeoutError")
          assert.isAtMost(took, 600)
          yield* settled(faulty)
        }))
    }
  }

  for (const [name, disturb] of silences) {
    it.effect(`a try ends within a second where the backend ${name}`, () =>
      Effect.gen(function*() {
        const { faulty, locker } = yield* setting()
        yield* disturb(faulty)
        const { exit, took } = yield* timed(locker.withLockIfAvailable("k", Effect.void))
        assert.strictEqual(failure(exit)._tag, "LockBackendError")
        assert.isAtMost(took, 1_000)
        yield* settled(faulty)
      }))
  }

  it.effect("a try ends within a second however often it is told to ask again", () =>
    Effect.gen(function*() {
      const { memory } = yield* setting()
      const error = new LockBackendError({ operation: "acquire", retryable: true, cause: new Error("too few") })
      const locker = yield* lockerOver(LockStore.of({
        ...memory,
        bounded: true,
        request: () => Effect.delay(Effect.succeed({ _tag: "Gone", error }), "500 millis")
      }))
      const { exit, took } = yield* timed(locker.withLockIfAvailable("k", Effect.void))
      assert.strictEqual(failure(exit)._tag, "LockBackendError")
      assert.isAtMost(took, 1_000)
    }))

  it.effect("a waiter whose backend falls silent times out in time, and is told that the backend is to blame", () =>
    Effect.gen(function*() {
      const { faulty, locker, memory } = yield* setting()
      const other = yield* lockerOver(memory)
      yield* other.scoped("k", { ttl: "1 hour" })
      const waiting = timed(locker.withLock("k", Effect.void, { timeout: "3 seconds" }))
      const waiter = yield* fork(waiting)
      yield* faulty.hang("withdraw")
      yield* faulty.hang("request")
      const { exit, took } = yield* Fiber.join(waiter)
      assert.strictEqual(failure(exit)._tag, "LockBackendError")
      assert.isAtLeast(took, 3_000)
      assert.isAtMost(took, 3_100)
      yield* settled(faulty)
    }))

  it.effect("a waiter is told of a timeout where the backend answered a moment ago, or answers the withdrawal", () =>
    Effect.gen(function*() {
      const { faulty, locker, memory } = yield* setting()
      const other = yield* lockerOver(memory)
      yield* other.scoped("k", { ttl: "1 hour" })
      const well = yield* timed(locker.withLock("k", Effect.void, { timeout: "3 seconds" }))
      assert.strictEqual(failure(well.exit)._tag, "LockTimeout")
      yield* faulty.hang("withdraw")
      const silent = yield* timed(locker.withLock("k", Effect.void, { timeout: "500 millis" }))
      assert.strictEqual(failure(silent.exit)._tag, "LockTimeout")
      assert.isAtMost(silent.took, 600)
      yield* settled(faulty)
    }))

  it.effect("is given up a fixed time after its first failure, however long it waited for its turn before", () =>
    Effect.gen(function*() {
      const memory = yield* MemoryLockStore.make
      let calls = 0
      const locker = yield* lockerOver({
        ...memory,
        bounded: true,
        request: (claim, mode) =>
          ++calls === 1
            ? Effect.delay(
              Effect.fail(new LockBackendError({ operation: "acquire", retryable: true, cause: new Error("cut") })),
              "20 seconds"
            )
            : memory.request(claim, mode)
      })
      const taking = yield* fork(locker.withLock("k", Effect.succeed("in"), { ttl: "1 minute" }))
      yield* TestClock.adjust("21 seconds")
      assert.strictEqual(yield* Fiber.join(taking), "in")
    }))
})

describe("an acquire whose answer is in doubt", () => {
  for (const [kind, made] of kinds) {
    it.effect(`is interrupted without waiting for an answer, and gives back a grant that comes late${kind}`, () =>
      Effect.gen(function*() {
        const { faulty, locker, memory, sent } = yield* made
        for (const hold of ["holdCalls", "holdReplies"] as const) {
          const held = yield* faulty[hold]("request")
          const withdrawal = yield* faulty.holdCalls("withdraw")
          const taking = yield* fork(locker.withLock("k", Effect.die("it ran")))
          yield* held.caught
          const { took } = yield* timed(Fiber.interrupt(taking))
          assert.isAtMost(took, 100)
          assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(taking)))
          yield* held.release
          yield* withdrawal.release
          yield* TestClock.adjust(0)
          const answer = yield* memory.request({ ...sent("request")[0]!.claims[0]!, id: `after ${hold}` }, "try")
          assert.strictEqual(answer._tag, "Granted", hold)
          yield* memory.withdraw({ ...sent("request")[0]!.claims[0]!, id: `after ${hold}` })
        }
      }))
  }

  it.effect("sends a later request for the same key behind the withdrawal, and one for another key at once", () =>
    Effect.gen(function*() {
      const { faulty, locker, sent } = yield* setting()
      const held = yield* faulty.holdReplies("request")
      const withdrawal = yield* faulty.holdCalls("withdraw")
      const taking = yield* fork(locker.withLock("k", Effect.void))
      yield* held.caught
      yield* timed(Fiber.interrupt(taking))
      yield* held.release
      yield* fork(locker.withLock("another", Effect.void))
      assert.strictEqual(sent("request").length, 2)
      const next = yield* fork(locker.withLock("k", Effect.succeed("in")))
      const attempt = yield* fork(locker.withLockIfAvailable("k", Effect.succeed("in")))
      yield* TestClock.adjust("500 millis")
      assert.strictEqual(sent("request").filter((call) => call.claims[0]!.key.endsWith("k")).length, 1)
      yield* withdrawal.release
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* Fiber.join(next), "in")
      assert.isTrue(Option.isSome(yield* Fiber.join(attempt)))
    }))

  it.effect("fails an acquire of the same key in time where the withdrawal is not answered, and sends no request for it", () =>
    Effect.gen(function*() {
      const { faulty, locker, sent } = yield* setting()
      yield* faulty.hang("request", 1)
      yield* faulty.hang("withdraw")
      const taking = yield* fork(locker.withLock("k", Effect.void))
      yield* timed(Fiber.interrupt(taking))
      for (
        const bounds of [{ most: 1_000, take: locker.withLockIfAvailable("k", Effect.void) }, {
          most: 600,
          take: locker.withLock("k", Effect.void, { timeout: "500 millis" })
        }, { most: 3_100, take: locker.withLock("k", Effect.void) }]
      ) {
        const { exit, took } = yield* timed(bounds.take as Effect.Effect<unknown, { readonly _tag: string }>)
        assert.strictEqual(failure(exit)._tag, "LockBackendError")
        assert.isAtMost(took, bounds.most)
      }
      assert.strictEqual(sent("request").length, 1)
      assert.strictEqual(new Set(sent("withdraw").map((call) => call.claims[0]!.id)).size, 1)
      yield* settled(faulty)
    }))

  it.effect("leaves a later request the rest of its caller's time where the withdrawal takes part of it", () =>
    Effect.gen(function*() {
      for (
        const [most, take] of [
          [1_000, (locker: Locker["Service"]) => locker.withLockIfAvailable("k", Effect.void)],
          [700, (locker: Locker["Service"]) => locker.withLock("k", Effect.void, { timeout: "600 millis" })]
        ] as const
      ) {
        const { faulty, locker } = yield* setting()
        yield* faulty.hang("request")
        const withdrawal = yield* faulty.holdCalls("withdraw")
        const taking = yield* fork(locker.withLock("k", Effect.void))
        yield* timed(Fiber.interrupt(taking))
        yield* fork(Effect.delay(withdrawal.release, "500 millis"))
        const { exit, took } = yield* timed(take(locker) as Effect.Effect<unknown, { readonly _tag: string }>)
        assert.strictEqual(failure(exit)._tag, "LockBackendError")
        assert.isAtMost(took, most)
        yield* settled(faulty)
      }
    }))

  it.effect("is waited for by a locker that closes, for no longer than a release is", () =>
    Effect.gen(function*() {
      for (const [answers, least, most] of [[true, 1_000, 1_000], [false, 1_950, 2_100]] as const) {
        const { faulty } = yield* setting()
        const scope = yield* Scope.make()
        const locker = yield* Scope.provide(lockerOver(faulty.store), scope)
        const held = yield* faulty.holdReplies("request")
        const withdrawal = yield* faulty.holdCalls("withdraw")
        const taking = yield* fork(locker.withLock("k", Effect.void))
        yield* held.caught
        yield* timed(Fiber.interrupt(taking))
        if (answers) yield* fork(Effect.delay(withdrawal.release, "1 second"))
        const { took } = yield* timed(Scope.close(scope, Exit.void))
        assert.isAtLeast(took, least - 10)
        assert.isAtMost(took, most)
      }
    }))

  it.effect("leaves nothing that keeps the same fiber from the lock when it tries at once: 1,000 interrupts", () =>
    Effect.gen(function*() {
      const memory = yield* MemoryLockStore.make
      const slow = <A, E>(effect: Effect.Effect<A, E>) => Effect.andThen(Effect.yieldNow, effect)
      const locker = yield* lockerOver(LockStore.of({
        ...memory,
        request: (claim, mode) => Effect.tap(slow(memory.request(claim, mode)), () => Effect.yieldNow),
        withdraw: (claim) => slow(slow(memory.withdraw(claim)))
      }))
      for (let i = 0; i < 1_000; i++) {
        const taking = yield* fork(locker.withLock("k", Effect.never))
        for (let steps = 0; steps < i % 7; steps++) yield* Effect.yieldNow
        yield* Fiber.interrupt(taking)
        assert.isTrue(Option.isSome(yield* locker.withLockIfAvailable("k", Effect.void)), `${i}`)
      }
    }))
})

// All found by the simulation: a process stands still past a caller's time, and nothing is wrong with the backend.
describe("a process that stood still past its caller's time", () => {
  it.effect("reads the answers that came meanwhile before it says that there was none", () =>
    Effect.gen(function*() {
      const { faulty, locker, shift } = yield* shiftedSetting
      const answer = yield* faulty.holdReplies("request")
      const taking = yield* fork(locker.withLock("k", Effect.succeed("in"), { timeout: "100 millis" }))
      yield* answer.caught
      shift.monotonic += 2_000
      yield* TestClock.adjust("100 millis")
      yield* answer.release
      yield* TestClock.adjust("10 millis")
      assert.strictEqual(yield* Fiber.join(taking), "in")
    }))

  it.effect("asks once more where the lock was granted too long ago", () =>
    Effect.gen(function*() {
      for (const attempt of [false, true]) {
        const { clock, shift } = yield* shiftedClock
        const shifted = Effect.provideService(Clock.Clock, clock)
        const faulty = yield* FaultyLockStore.make(yield* shifted(MemoryLockStore.make))
        const locker = yield* shifted(lockerOver(faulty.store, { defaultTtl: "9 seconds" }))
        const answer = yield* faulty.holdReplies("request")
        const taking: Effect.Effect<unknown, unknown> = attempt
          ? locker.withLockIfAvailable("k", Effect.succeed("in"))
          : locker.withLock("k", Effect.succeed("in"), { timeout: "1 second" })
        const taken = yield* fork(shifted(Effect.exit(taking)))
        yield* answer.caught
        shift.monotonic += 20_000
        yield* answer.release
        yield* TestClock.adjust("1 second")
        const exit = taken.pollUnsafe()
        assert.strictEqual(exit?._tag === "Success" ? exit.value._tag : exit, "Success", String(exit))
      }
    }))

  it.effect("times out with LockTimeout for the holder, not for a backend that it had no time to ask", () =>
    Effect.gen(function*() {
      const { faulty, locker, memory, shift } = yield* shiftedSetting
      const other = yield* lockerOver(memory)
      yield* other.scoped("k", { ttl: "1 hour" })
      const waiting = yield* fork(Effect.flip(locker.withLock("k", Effect.void, { timeout: "1 second" })))
      const withdrawal = yield* faulty.holdReplies("withdraw")
      shift.monotonic += 5_000
      yield* TestClock.adjust("1100 millis")
      assert.strictEqual((yield* Fiber.join(waiting))._tag, "LockTimeout")
      yield* withdrawal.release
      yield* TestClock.adjust("1 second")
    }))

  it.effect("times out with LockTimeout where the backend had answered, and had no time for another answer", () =>
    Effect.gen(function*() {
      const { clock, shift } = yield* shiftedClock
      const shifted = Effect.provideService(Clock.Clock, clock)
      const faulty = yield* FaultyLockStore.make(yield* shifted(MemoryLockStore.make))
      const locker = yield* shifted(lockerOver(faulty.store, { defaultTtl: "9 seconds" }))
      const answer = yield* faulty.holdReplies("request")
      const taking = locker.withLock("k", Effect.void, { timeout: "9 seconds" })
      const taken = yield* fork(shifted(Effect.flip(taking)))
      yield* answer.caught
      // The grant is too old to be believed, and the caller's time is over by so much that nearly nothing is left.
      shift.monotonic += 9_070
      const again = yield* faulty.holdReplies("request")
      yield* answer.release
      yield* again.caught
      yield* TestClock.adjust("200 millis")
      assert.strictEqual((yield* Fiber.join(taken))._tag, "LockTimeout")
      yield* again.release
      yield* TestClock.adjust("1 second")
    }))
})

describe("a grant that is too old to count", () => {
  it.effect("is given back where its caller has no time for another", () =>
    Effect.gen(function*() {
      const { clock, shift } = yield* shiftedClock
      const memory = yield* MemoryLockStore.make
      const faulty = yield* FaultyLockStore.make(memory)
      const locker = yield* Effect.provideService(lockerOver(faulty.store), Clock.Clock, clock)
      const other = yield* lockerOver(memory)
      const held = yield* faulty.holdReplies("request")
      const asking = yield* fork(Effect.flip(locker.withLock("k", Effect.void, { ttl: "1 minute", timeout: 100 })))
      shift.wall = 61_000
      shift.monotonic = 100
      // What is asked once more has no answer.
      yield* faulty.hang("request")
      yield* held.release
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* Fiber.join(asking))._tag, "LockBackendError")
      assert.strictEqual(yield* other.withLock("k", Effect.succeed(42), { timeout: 0 }), 42)
    }))
})

describe("an acquire beside others of its locker that keep giving up", () => {
  it.effect("waits only for the withdrawals that began before it came", () =>
    Effect.gen(function*() {
      const memory = yield* MemoryLockStore.make
      let isSlow = true
      const locker = yield* lockerOver({
        ...memory,
        withdraw: (claim) => isSlow ? Effect.delay(memory.withdraw(claim), "300 millis") : memory.withdraw(claim)
      })
      yield* fork(locker.withLock("k", Effect.never))
      // One gives up every tenth of a second, so that there is always a withdrawal in flight.
      for (let nth = 0; nth < 60; nth++) {
        yield* fork(Effect.ignore(locker.withLock("k", Effect.void, { timeout: 100 * (nth + 1) })))
      }
      yield* TestClock.adjust("1 second")
      const attempt = yield* fork(locker.withLockIfAvailable("k", Effect.void))
      const waiter = yield* fork(Effect.flip(locker.withLock("k", Effect.void, { timeout: "4 seconds" })))
      yield* TestClock.adjust("800 millis")
      assert.deepStrictEqual(yield* Fiber.join(attempt), Option.none())
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual((yield* Fiber.join(waiter))._tag, "LockTimeout")
      isSlow = false
    }))
})

describe("an observer that throws when its program ends", () => {
  it.effect("is logged by the loggers of the program that made the locker, with the key", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        const { locker } = yield* setting()
        yield* fork(locker.withLock("k", Effect.sleep("1 second")))
        const waiter = yield* fork(locker.withLock("k", Effect.void))
        throwing(waiter)
        yield* TestClock.adjust("1 second")
        assert.strictEqual(lines.length, 1)
        assert.match(lines[0]!.message, /^A callback at the end of a fiber threw an error/)
        assert.deepStrictEqual(lines[0]!.annotations, { component: "dlock", key: "dlock:k" })
      })
    ))

  const throwing = (fiber: Fiber.Fiber<unknown, unknown>) =>
    fiber.addObserver(() => {
      throw new Error("on purpose")
    })

  it.effect("costs the other acquires of a crowd neither their turn nor their lock", () =>
    Effect.gen(function*() {
      const memory = yield* MemoryLockStore.make
      const open = yield* Deferred.make<void>()
      const locker = yield* lockerOver({
        ...memory,
        request: (claim, mode) => Effect.andThen(Deferred.await(open), memory.request(claim, mode))
      })
      const crowd = yield* Effect.forEach(
        Array.from({ length: 4_000 }, (_, index) => `k${index}`),
        (key) => fork(Effect.exit(locker.withLock(key, Effect.void)))
      )
      throwing(crowd[2_000]!)
      yield* Deferred.succeed(open, undefined)
      yield* TestClock.adjust("10 seconds")
      const exits = yield* Effect.forEach(crowd, Fiber.join)
      assert.isTrue(exits.every(({ _tag }) => _tag === "Success"))
    }))
})

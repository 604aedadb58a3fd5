import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber, Option, Scope } from "effect"
import { LockBackendError, type Locker, LockStore, MemoryLockStore } from "effect-dlock"
import type { FaultyLockStore } from "effect-dlock/testing"
import { TestClock } from "effect/testing"
import { fork, lockerOver, setting } from "./support.ts"

type Disturb = (faulty: FaultyLockStore.FaultyLockStore) => Effect.Effect<void>

/** Ways in which a backend does not answer, as the core meets them. */
const silences: ReadonlyArray<readonly [name: string, disturb: Disturb]> = [
  ["never answers", (faulty) => Effect.andThen(faulty.hang("request"), faulty.hang("withdraw"))],
  ["refuses connections", (faulty) => Effect.andThen(faulty.fail("request"), faulty.fail("withdraw"))],
  ["loses its answers", (faulty) => Effect.andThen(faulty.dropReplies("request"), faulty.dropReplies("withdraw"))]
]

/** A setting whose store limits its own calls, or does not. */
const settings = [
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

describe("the caller's time is the caller's", () => {
  for (const [kind, made] of settings) {
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

  it.effect("patience counts from the first failure: a call may have waited for its turn before", () =>
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

describe("what is in doubt is withdrawn behind the caller's back", () => {
  for (const [kind, made] of settings) {
    it.effect(`an interrupt does not wait for an answer, and a grant that comes late is given back${kind}`, () =>
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

  it.effect("a later request of the key is sent behind the withdrawal, and one of another key is not", () =>
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

  it.effect("where the withdrawal is not answered, a try ends within its second, and has sent nothing", () =>
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

  it.effect("where the withdrawal takes part of the time, the request has the rest of it", () =>
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

  it.effect("a locker that closes waits for it, and for no longer than for a release", () =>
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

  it.effect("an interrupt and at once a try, many times: never none by one's own leavings, and nothing is left", () =>
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

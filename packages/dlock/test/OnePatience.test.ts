import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Exit, Fiber, Scope } from "effect"
import { LockStore, MemoryLockStore } from "effect-dlock"
import { TestClock } from "effect/testing"
import { fork, lockerOver, setting, withLogs } from "./support.ts"

/** The milliseconds that an effect takes on the test clock. */
const took = <A, E>(effect: Effect.Effect<A, E>) =>
  Effect.gen(function*() {
    const start = yield* Clock.currentTimeMillis
    const fiber = yield* fork(effect)
    for (let i = 0; i < 2_000 && fiber.pollUnsafe() === undefined; i++) yield* TestClock.adjust(25)
    yield* Fiber.join(fiber)
    return (yield* Clock.currentTimeMillis) - start
  })

describe("one patience a locker for its releases", () => {
  for (const renewing of [false, true]) {
    it.effect(`a scope of 100 leases closes in one patience${renewing ? ", while they are being renewed" : ""}`, () =>
      withLogs(() =>
        Effect.gen(function*() {
          const { faulty } = yield* setting()
          const layer = yield* Scope.make()
          const locker = yield* Scope.provide(lockerOver(faulty.store, { defaultTtl: "5 minutes" }), layer)
          const scope = yield* Scope.make()
          for (let i = 0; i < 100; i++) yield* Scope.provide(locker.scoped(`k${i}`), scope)
          yield* faulty.hang("renew")
          yield* faulty.hang("withdraw")
          if (renewing) yield* TestClock.adjust("101 seconds")
          const leases = yield* took(Scope.close(scope, Exit.void))
          assert.isAtLeast(leases, 1_900)
          assert.isAtMost(leases + (yield* took(Scope.close(layer, Exit.void))), 2_500)
        })
      ))
  }

  it.effect("six sections inside one another end in one patience", () =>
    withLogs(() =>
      Effect.gen(function*() {
        const { faulty, locker } = yield* setting({ defaultTtl: "5 minutes" })
        yield* faulty.hang("withdraw")
        const nested = (depth: number): Effect.Effect<number, unknown> =>
          depth === 0 ? Effect.succeed(42) : locker.withLock(`k${depth}`, nested(depth - 1))
        assert.isAtMost(yield* took(Effect.orDie(nested(6))), 2_500)
      })
    ))

  it.effect("is not had again for what a store answers by itself, of a claim that was never sent", () =>
    withLogs(() =>
      Effect.gen(function*() {
        const { faulty } = yield* setting()
        const store = LockStore.of({
          ...faulty.store,
          request: (claim, mode) => claim.key === "unsent" ? Effect.never : faulty.store.request(claim, mode),
          withdraw: (claim) => claim.key === "unsent" ? Effect.succeed("notSent") : faulty.store.withdraw(claim)
        })
        const locker = yield* lockerOver(store, { prefix: "", defaultTtl: "5 minutes" })
        const scope = yield* Scope.make()
        const leases = yield* Effect.forEach(["a", "b", "c"], (key) => Scope.provide(locker.scoped(key), scope))
        yield* faulty.hang("withdraw")
        let whole = 0
        for (const lease of leases) {
          whole += yield* took(lease.release)
          yield* took(Effect.flip(locker.withLock("unsent", Effect.void, { timeout: "100 millis" })))
        }
        yield* faulty.heal()
        yield* TestClock.adjust("1 minute")
        assert.isAtMost(whole, 2_500)
      })
    ))

  it.effect("releases that were not waited for go on, and one after the backend's return is waited for again", () =>
    withLogs(() =>
      Effect.gen(function*() {
        const { faulty, locker, sent } = yield* setting({ defaultTtl: "5 minutes" })
        yield* faulty.hang("withdraw")
        for (const key of ["a", "b", "c"]) yield* took(Effect.orDie(locker.withLock(key, Effect.void)))
        yield* faulty.heal()
        yield* TestClock.adjust("5 seconds")
        const released = sent("withdraw").filter((call) => call.answer === "released")
        assert.strictEqual(new Set(released.map((call) => call.claims[0]!.key)).size, 3)
        const held = yield* faulty.holdCalls("withdraw")
        const section = yield* fork(locker.withLock("d", Effect.void))
        yield* TestClock.adjust("1 second")
        assert.isUndefined(section.pollUnsafe())
        yield* held.release
        yield* Fiber.join(section)
      })
    ))
})

describe("closing a locker", () => {
  const closing = Effect.fnUntraced(function*(windsDownIn: number) {
    const memory = yield* MemoryLockStore.make
    const scope = yield* Scope.make()
    const locker = yield* Scope.provide(lockerOver(LockStore.of({ ...memory })), scope)
    const other = yield* lockerOver(memory)
    const start = yield* Clock.currentTimeMillis
    const at = Effect.map(Clock.currentTimeMillis, (now) => now - start)
    const events: Array<string> = []
    const note = (what: string) => Effect.map(at, (now) => void events.push(`${what} ${now}`))
    const program = Effect.onInterrupt(
      Effect.never,
      () => Effect.andThen(note("interrupted"), Effect.andThen(Effect.sleep(windsDownIn), note("ended")))
    )
    const options = { ttl: "30 seconds", guardGap: "3 seconds" } as const
    return { locker, other, events, note, options, program, close: Scope.close(scope, Exit.void) }
  })

  for (
    const [what, windsDownIn, expected] of [
      ["until they have ended", 500, ["interrupted 0", "ended 500", "next 500"]],
      ["until their guard gap is over", 60_000, ["interrupted 0", "next 3000"]]
    ] as const
  ) {
    it.effect(`interrupts its sections and waits for them, ${what}, before others are in`, () =>
      withLogs(() =>
        Effect.gen(function*() {
          const { close, events, locker, note, options, other, program } = yield* closing(windsDownIn)
          const section = yield* fork(Effect.exit(locker.withLock("k", program, options)))
          const next = yield* fork(other.withLock("k", note("next")))
          const closed = yield* fork(close)
          yield* TestClock.adjust("10 seconds")
          assert.isDefined(closed.pollUnsafe())
          yield* Fiber.join(next)
          assert.deepStrictEqual(events, Array.from(expected))
          yield* TestClock.adjust("1 minute")
          const exit = yield* Fiber.join(section)
          assert(Exit.isFailure(exit))
          assert.include(String(exit.cause), "OwnershipLost")
        })
      ))
  }

  it.effect("waits for what runs under a lease of a scope, and not for one under which nothing runs", () =>
    withLogs(() =>
      Effect.gen(function*() {
        const { close, events, locker, note, options, other, program } = yield* closing(500)
        yield* locker.scoped("idle", options)
        const lease = yield* locker.scoped("k", options)
        yield* fork(Effect.exit(lease.whileHeld(program)))
        const next = yield* fork(other.withLock("k", note("next")))
        yield* fork(other.withLock("idle", note("idle")))
        yield* fork(close)
        yield* TestClock.adjust("10 seconds")
        yield* Fiber.join(next)
        assert.deepStrictEqual(events.toSorted(), ["ended 500", "idle 0", "interrupted 0", "next 500"])
      })
    ))
})

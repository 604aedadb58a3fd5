import { assert, describe, it } from "@effect/vitest"
import { Clock, Deferred, Effect, Exit, Fiber, Scope } from "effect"
import { type Lease, LockBackendError, Locker, LockStore, MemoryLockStore, withLock } from "effect-dlock"
import { TestClock } from "effect/testing"
import { fork, lockerOver, setting, shiftedClock, withLogs } from "./support.ts"

const finalizers = (scope: Scope.Scope): number => scope.state._tag === "Open" ? scope.state.finalizers?.size ?? 1 : 0

/** The milliseconds that an effect takes on the test clock. */
const took = <A, E>(effect: Effect.Effect<A, E>) =>
  Effect.gen(function*() {
    const start = yield* Clock.currentTimeMillis
    const fiber = yield* fork(effect)
    for (let i = 0; i < 2_000 && fiber.pollUnsafe() === undefined; i++) yield* TestClock.adjust(25)
    yield* Fiber.join(fiber)
    return (yield* Clock.currentTimeMillis) - start
  })

describe("the finalizer does its duty", () => {
  const recorded = Effect.gen(function*() {
    const memory = yield* MemoryLockStore.make
    const events: Array<string> = []
    const event = (name: string) => Effect.sync(() => events.push(name))
    const store = LockStore.of({
      ...memory,
      request: (claim, mode) => Effect.tap(memory.request(claim, mode), () => event("acquire")),
      withdraw: (claim) => Effect.andThen(event("release"), memory.withdraw(claim))
    })
    const program = Effect.andThen(Effect.acquireRelease(event("open"), () => event("close")), event("work"))
    return { events, program, locker: yield* lockerOver(store) }
  })
  const order = ["acquire", "open", "work", "close", "release"]

  it.effect("what the program opens is closed before the release, in withLock(key, program)", () =>
    Effect.gen(function*() {
      const { events, locker, program } = yield* recorded
      yield* Effect.provideService(withLock("k", program), Locker, locker)
      assert.deepStrictEqual(events, order)
    }))

  it.effect("what the program opens is closed before the release, in Effect.scoped(withLock(key, program))", () =>
    Effect.gen(function*() {
      const { events, locker, program } = yield* recorded
      yield* Effect.provideService(Effect.scoped(withLock("k", program)), Locker, locker)
      assert.deepStrictEqual(events, order)
    }))

  it.effect("what the program opens is closed before the release, in program.pipe(withLock(key)), also where it fails or is interrupted", () =>
    Effect.gen(function*() {
      const { events, locker, program } = yield* recorded
      yield* Effect.exit(
        program.pipe(Effect.andThen(Effect.fail("own")), withLock("k"), Effect.provideService(Locker, locker))
      )
      const fiber = yield* fork(locker.withLock("k", Effect.andThen(program, Effect.never)))
      yield* Fiber.interrupt(fiber)
      assert.deepStrictEqual(events, [...order, ...order])
    }))

  it.effect("what the program leaves running has been stopped before the release", () =>
    Effect.gen(function*() {
      const { events, locker } = yield* recorded
      const child = Effect.onInterrupt(Effect.never, () => Effect.sync(() => events.push("child stopped")))
      yield* locker.withLock("k", Effect.andThen(fork(child), Effect.forkScoped(child, { startImmediately: true })))
      assert.deepStrictEqual(events, ["acquire", "child stopped", "child stopped", "release"])
    }))

  it.effect("a renewal that is under way is waited for before the release is sent", () =>
    Effect.gen(function*() {
      const { faulty, locker, sent } = yield* setting()
      const scope = yield* Scope.make()
      yield* Scope.provide(locker.scoped("k"), scope)
      const held = yield* faulty.holdReplies("renew")
      yield* TestClock.adjust("3 seconds")
      const closing = yield* fork(Scope.close(scope, Exit.void))
      yield* TestClock.adjust("1 second")
      assert.strictEqual(sent("renew").length, 1)
      assert.strictEqual(sent("withdraw").length, 0)
      yield* held.release
      yield* Fiber.join(closing)
      assert.deepStrictEqual(faulty.calls.map((call) => call.operation), ["request", "renew", "withdraw"])
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(sent("renew").length, 1)
    }))

  it.effect("a release waits for a renewal no longer than for the release itself", () =>
    Effect.gen(function*() {
      const { faulty, locker, sent } = yield* setting()
      const scope = yield* Scope.make()
      yield* Scope.provide(locker.scoped("k"), scope)
      yield* faulty.hang("renew")
      yield* TestClock.adjust("3 seconds")
      const closing = yield* fork(Scope.close(scope, Exit.void))
      yield* TestClock.adjust("3 seconds")
      assert.isDefined(closing.pollUnsafe())
      assert.strictEqual(sent("withdraw").length, 1)
    }))

  it.effect("no renewal is sent after the release has begun", () =>
    Effect.gen(function*() {
      const { faulty, locker } = yield* setting()
      const scope = yield* Scope.make()
      yield* Scope.provide(locker.scoped("k"), scope)
      yield* TestClock.adjust("2900 millis")
      const held = yield* faulty.holdCalls("withdraw")
      const closing = yield* fork(Scope.close(scope, Exit.void))
      yield* TestClock.adjust("1900 millis")
      yield* held.release
      yield* Fiber.join(closing)
      assert.deepStrictEqual(faulty.calls.map((call) => call.operation), ["request", "withdraw"])
    }))

  it.effect("a release that is never answered is given up in time, with a warning, and keeps the program's result", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        const { faulty, locker } = yield* setting()
        yield* faulty.hang("withdraw")
        const fiber = yield* fork(locker.withLock("k", Effect.succeed(42)))
        assert.isUndefined(fiber.pollUnsafe())
        yield* TestClock.adjust("3 seconds")
        assert.deepStrictEqual(fiber.pollUnsafe(), Exit.succeed(42))
        assert.deepStrictEqual(
          lines.map(({ annotations, level }) => [level, annotations.component, annotations.key]),
          [["Warn", "dlock", "k"]]
        )
      })
    ))

  it.effect("a release with a long ttl is given up after two seconds, and not before", () =>
    withLogs(() =>
      Effect.gen(function*() {
        const { faulty, locker } = yield* setting({ defaultTtl: "10 minutes" })
        yield* faulty.hang("withdraw")
        const fiber = yield* fork(locker.withLock("k", Effect.succeed(42)))
        yield* TestClock.adjust("1990 millis")
        assert.isUndefined(fiber.pollUnsafe())
        yield* TestClock.adjust("20 millis")
        assert.isDefined(fiber.pollUnsafe())
      })
    ))

  it.effect("a release that was given up goes on behind, so that an outage does not cost others a whole ttl", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        const { faulty, locker, sent } = yield* setting({ defaultTtl: "10 minutes" })
        yield* faulty.hang("withdraw")
        const fiber = yield* fork(locker.withLock("k", Effect.succeed(42)))
        yield* TestClock.adjust("20 seconds")
        assert.strictEqual(yield* Fiber.join(fiber), 42)
        yield* faulty.heal("withdraw")
        const next = yield* fork(locker.withLock("k", Effect.succeed("in")))
        yield* TestClock.adjust("3 seconds")
        assert.deepStrictEqual(next.pollUnsafe(), Exit.succeed("in"))
        const withdrawals = sent("withdraw").length
        yield* TestClock.adjust("1 hour")
        assert.strictEqual(sent("withdraw").length, withdrawals, "once is enough")
        assert.deepStrictEqual(lines.map((line) => line.level), ["Warn", "Info"], "gone, and back")
      })
    ))

  it.effect("a release that goes on behind the program ends with the time to live of its claim", () =>
    withLogs(() =>
      Effect.gen(function*() {
        const { faulty, locker, sent } = yield* setting()
        yield* faulty.fail("withdraw")
        yield* fork(locker.withLock("k", Effect.void))
        yield* TestClock.adjust("1 minute")
        const withdrawals = sent("withdraw").length
        assert.isAbove(withdrawals, 10)
        yield* TestClock.adjust("1 hour")
        assert.strictEqual(sent("withdraw").length, withdrawals)
      })
    ))

  it.effect("a release that is refused is told once, keeps nobody, and is repeated behind, as credentials may be put right", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        const { faulty, locker, memory, sent } = yield* setting({ defaultTtl: "10 minutes" })
        const other = yield* lockerOver(memory, { warnAfter: "Infinity" })
        const refused = new LockBackendError({ operation: "release", retryable: false, cause: new Error("WRONGPASS") })
        yield* faulty.fail("withdraw", refused)
        assert.strictEqual(yield* Effect.flip(locker.withLock("k", Effect.fail("own"))), "own")
        assert.strictEqual(sent("withdraw").length, 1)
        yield* faulty.fail("request", refused, 1)
        const mine = yield* fork(Effect.flip(locker.withLock("k", Effect.void)))
        assert.isFalse(
          (mine.pollUnsafe() as Exit.Success<LockBackendError>).value.retryable,
          "at once, with the reason"
        )
        const next = yield* fork(other.withLock("k", Effect.succeed("in")))
        yield* TestClock.adjust("20 seconds")
        assert.isUndefined(next.pollUnsafe())
        yield* faulty.heal("withdraw")
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(next.pollUnsafe(), Exit.succeed("in"))
        const withdrawals = sent("withdraw").length
        yield* TestClock.adjust("1 hour")
        assert.strictEqual(sent("withdraw").length, withdrawals)
        assert.deepStrictEqual(lines.map((line) => line.level), ["Warn"])
      })
    ))

  it.effect("a release that fails in passing is repeated until it is answered", () =>
    Effect.gen(function*() {
      const { faulty, locker, sent } = yield* setting()
      yield* faulty.fail("withdraw", undefined, 2)
      const fiber = yield* fork(locker.withLock("k", Effect.succeed(42)))
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* Fiber.join(fiber), 42)
      assert.deepStrictEqual(sent("withdraw").map((call) => call.answer), ["failed", "failed", "released"])
    }))

  it.effect("an interruption does not cut a release short", () =>
    Effect.gen(function*() {
      const { faulty, locker, sent } = yield* setting()
      for (const form of ["scoped", "section"]) {
        const held = yield* faulty.holdCalls("withdraw")
        const fiber = yield* fork(
          form === "scoped"
            ? Effect.flatMap(locker.scoped(form), (lease) => lease.release)
            : locker.withLock(form, (lease) => lease.release)
        )
        yield* held.caught
        const interrupting = yield* fork(Fiber.interrupt(fiber))
        yield* TestClock.adjust("1 second")
        assert.isUndefined(interrupting.pollUnsafe())
        yield* held.release
        yield* Fiber.join(interrupting)
        assert.strictEqual(sent("withdraw").at(-1)!.answer, "released")
      }
      assert.strictEqual(sent("withdraw").length, 2)
    }))
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

  it.effect("is not granted again for an answer that the store gives by itself, about a claim that was never sent", () =>
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

describe("a lease that has been released", () => {
  it.effect("leaves no finalizer in a scope that stays open", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      for (let turn = 0; turn < 10; turn++) {
        const lease = yield* Scope.provide(Locker.scoped("k"), scope)
        yield* lease.release
      }
      assert.strictEqual(finalizers(scope), 0)
    }).pipe(Effect.provide(Locker.layerMemory)))

  const observed = (lease: Lease) =>
    Effect.sync(() => {
      lease.renewal.addObserver(() => {
        throw new Error("on purpose")
      })
    })

  it.effect("is withdrawn although an observer of its fiber throws", () =>
    Effect.gen(function*() {
      const { locker, sent } = yield* setting()
      assert.strictEqual(yield* locker.withLock("k", (lease) => Effect.as(observed(lease), 42)), 42)
      assert.strictEqual(sent("withdraw").length, 1)
    }))

  const throwing = (fiber: Fiber.Fiber<unknown, unknown>) =>
    fiber.addObserver(() => {
      throw new Error("on purpose")
    })

  it.effect("costs no lease that is renewed in the call it waited for, although an observer of its program throws", () =>
    Effect.gen(function*() {
      const { faulty, locker } = yield* setting()
      const kept = yield* locker.scoped("kept")
      const section = yield* fork(locker.withLock("k", Effect.sleep("3001 millis")))
      throwing(section)
      const held = yield* faulty.holdReplies("renew")
      yield* TestClock.adjust("3100 millis")
      assert.isUndefined(section.pollUnsafe())
      yield* held.release
      yield* TestClock.adjust("1 milli")
      assert.isDefined(section.pollUnsafe())
      yield* kept.ensureHeld
    }))
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

describe("a locker that has been closed", () => {
  const closing = Effect.gen(function*() {
    const memory = yield* MemoryLockStore.make
    const scope = yield* Scope.make()
    const locker = yield* Scope.provide(lockerOver(memory), scope)
    return { memory, locker, close: Scope.close(scope, Exit.void) }
  })

  it.effect("grants nothing, since without its timers nobody would notice that a lease has ended", () =>
    Effect.gen(function*() {
      const { close, locker } = yield* closing
      yield* close
      const error = yield* Effect.flip(locker.withLock("k", Effect.die("it ran")))
      assert(error._tag === "LockBackendError")
      assert.deepStrictEqual([error.operation, error.key, error.retryable], ["acquire", "k", false])
    }))

  it.effect("gives back a lease that had been lost just before, which the backend may still keep", () =>
    Effect.gen(function*() {
      const { clock, shift } = yield* shiftedClock
      const memory = yield* MemoryLockStore.make
      const scope = yield* Scope.make()
      const locker = yield* Effect.provideService(Scope.provide(lockerOver(memory), scope), Clock.Clock, clock)
      const other = yield* lockerOver(memory)
      const lease = yield* locker.scoped("k", { ttl: "5 minutes", guardGap: "3 seconds" })
      shift.wall = 301_000
      assert.strictEqual((yield* Effect.flip(lease.ensureHeld))._tag, "OwnershipLost")
      yield* fork(Scope.close(scope, Exit.void))
      const next = yield* fork(other.withLock("k", Effect.void))
      yield* TestClock.adjust("3 seconds")
      assert.isDefined(next.pollUnsafe())
    }))

  it.effect("gives back a lock that is granted to a waiter after the locker has closed", () =>
    Effect.gen(function*() {
      const { close, locker, memory } = yield* closing
      const other = yield* lockerOver(memory)
      const gate = yield* Deferred.make<void>()
      yield* fork(other.withLock("k", Deferred.await(gate)))
      const waiting = yield* fork(Effect.flip(locker.withLock("k", Effect.die("it ran"))))
      yield* close
      yield* Deferred.succeed(gate, undefined)
      assert.strictEqual((yield* Fiber.join(waiting))._tag, "LockBackendError")
      assert.strictEqual(yield* other.withLock("k", Effect.succeed("free"), { timeout: 0 }), "free")
    }))
})

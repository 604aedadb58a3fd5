import { assert, describe, it } from "@effect/vitest"
import { Cause, Clock, Duration, Effect, Exit, Fiber, Layer, Option, Scope, Stream } from "effect"
import { type Lease, Locker, LockStore, MemoryLockStore, type OwnershipLost } from "effect-dlock"
import { FaultyLockStore } from "effect-dlock/testing"
import { TestClock } from "effect/testing"
import { fork, lockerOver, millis, setting, shiftedSetting, withLogs } from "./support.ts"

const lostBy = (error: { readonly _tag: string }): OwnershipLost => {
  assert.strictEqual(error._tag, "OwnershipLost")
  return error as OwnershipLost
}

const finalizers = (scope: Scope.Scope): number => scope.state._tag === "Open" ? scope.state.finalizers?.size ?? 1 : 0

describe("a holder is out before the next one is in", () => {
  it.effect("a grant counts from when its request was sent, not from its reply", () =>
    Effect.gen(function*() {
      const { faulty, locker } = yield* setting()
      const held = yield* faulty.holdReplies("request")
      const taking = yield* fork(locker.scoped("k"))
      yield* held.caught
      yield* TestClock.adjust("2 seconds")
      yield* faulty.hang("renew")
      yield* held.release
      const lease = yield* Fiber.join(taking)
      assert.strictEqual(yield* millis(lease.remaining), 7000)
      yield* TestClock.adjust("6999 millis")
      yield* lease.ensureHeld
      yield* TestClock.adjust("1 milli")
      assert.strictEqual(lostBy(yield* Effect.flip(lease.ensureHeld)).reason, "Unreachable")
    }))

  it.effect("a renewal counts from when it was sent, not from its answer", () =>
    Effect.gen(function*() {
      const { faulty, locker, sent } = yield* setting()
      const lease = yield* locker.scoped("k")
      const held = yield* faulty.holdReplies("renew")
      yield* TestClock.adjust("4 seconds")
      assert.strictEqual(sent("renew").length, 1)
      yield* faulty.hang("renew")
      yield* held.release
      yield* TestClock.adjust(0)
      // Sent at 3 s, answered at 4 s: it stands until 12 s.
      assert.strictEqual(yield* millis(lease.remaining), 8000)
      yield* TestClock.adjust(7999)
      yield* lease.ensureHeld
      yield* TestClock.adjust(1)
      const lost = lostBy(yield* Effect.flip(lease.ensureHeld))
      assert.strictEqual(lost.reason, "Unreachable")
      assert.strictEqual(Duration.toMillis(lost.lastConfirmedAgo), 9000)
    }))

  it.effect.each([["hangs", "hang"], ["fails", "fail"], ["loses its answers", "dropReplies"]] as const)(
    "the program is interrupted at the deadline to the millisecond when the backend %s",
    ([, disturb]) =>
      Effect.gen(function*() {
        const { faulty, locker } = yield* setting()
        let stoppedAt = 0
        yield* faulty[disturb]("renew")
        const fiber = yield* Effect.never.pipe(
          Effect.onInterrupt(() => Effect.map(Clock.currentTimeMillis, (now) => stoppedAt = now)),
          (program) => locker.withLock("k", program),
          Effect.flip,
          fork
        )
        yield* TestClock.adjust("8999 millis")
        assert.isUndefined(fiber.pollUnsafe())
        yield* TestClock.adjust("1 milli")
        const lost = lostBy(yield* Fiber.join(fiber))
        assert.deepStrictEqual([lost.key, lost.reason, stoppedAt], ["k", "Unreachable", 9000])
      })
  )

  it.effect("an odd ttl ends within a millisecond", () =>
    Effect.gen(function*() {
      const { faulty, locker } = yield* setting({ defaultTtl: 1001 })
      yield* faulty.hang("renew")
      const lease = yield* locker.scoped("k")
      yield* TestClock.adjust(1000)
      yield* lease.ensureHeld
      assert.isUndefined(lease.renewal.pollUnsafe())
      // Its parts are no whole milliseconds, and timers are.
      yield* TestClock.adjust(2)
      assert.isDefined(lease.renewal.pollUnsafe())
    }))

  it.effect("nobody else is granted before the holder is out", () =>
    Effect.gen(function*() {
      const { faulty, locker, memory } = yield* setting()
      yield* faulty.hang("renew")
      // Not even told to let go: only the backend's own expiry ends the claim.
      yield* faulty.hang("withdraw")
      const lease = yield* locker.scoped("k")
      const claim = { ...faulty.calls[0]!.claims[0]!, id: "another" }
      const answer = yield* memory.request(claim, "queue")
      assert(answer._tag === "Queued")
      const waiting = yield* fork(answer.granted)
      yield* TestClock.adjust("9 seconds")
      assert.strictEqual((yield* Effect.flip(lease.ensureHeld))._tag, "OwnershipLost")
      yield* TestClock.adjust("899 millis")
      assert.isUndefined(waiting.pollUnsafe())
      yield* TestClock.adjust("1 milli")
      assert.isDefined(waiting.pollUnsafe())
    }))

  it.effect("a confirmation that is read after the deadline does not count", () =>
    Effect.gen(function*() {
      const { faulty, locker, shift } = yield* shiftedSetting
      const lease = yield* locker.scoped("k")
      const held = yield* faulty.holdReplies("renew")
      yield* TestClock.adjust("3 seconds")
      // It would have confirmed until 12 s; it was not heard until 10 s, when the lock had been over since 9 s.
      shift.monotonic = 7000
      yield* held.release
      yield* TestClock.adjust(0)
      const exit = lease.renewal.pollUnsafe()
      assert(exit !== undefined && Exit.isFailure(exit))
      assert.strictEqual((yield* Effect.flip(lease.ensureHeld))._tag, "OwnershipLost")
      shift.monotonic = 0
      assert.strictEqual((yield* Effect.flip(lease.ensureHeld))._tag, "OwnershipLost")
    }))

  it.effect("a grant that is heard of after its own deadline is not believed, and asked for again", () =>
    Effect.gen(function*() {
      const { faulty, locker, shift } = yield* shiftedSetting
      const held = yield* faulty.holdReplies("request")
      const taking = yield* fork(locker.scoped("k"))
      yield* held.caught
      shift.monotonic = 9000
      yield* held.release
      yield* TestClock.adjust(0)
      shift.monotonic = 0
      const lease = yield* Fiber.join(taking)
      yield* lease.ensureHeld
      const ids = faulty.calls.filter((call) => call.operation === "request").map((call) => call.claims[0]!.id)
      assert.isAbove(ids.length, 1)
      assert.strictEqual(new Set(ids).size, 1)
    }))

  it.effect("a success that was reached after the deadline is OwnershipLost, as Stalled", () =>
    Effect.gen(function*() {
      const { locker, shift } = yield* shiftedSetting
      const lost = lostBy(
        yield* Effect.flip(locker.withLock(
          "k",
          Effect.sync(() => {
            shift.monotonic = 9000
            return 42
          })
        ))
      )
      assert.strictEqual(lost.reason, "Stalled")
      assert.strictEqual(Duration.toMillis(lost.lastConfirmedAgo), 9000)
    }))

  it.effect("a success that was reached right before the deadline stays a success", () =>
    Effect.gen(function*() {
      const { locker, shift } = yield* shiftedSetting
      const result = yield* locker.withLock(
        "k",
        Effect.sync(() => {
          shift.monotonic = 8999
          return 42
        })
      )
      assert.strictEqual(result, 42)
    }))

  it.effect.each([
    ["failure", Effect.fail("own"), Cause.fail("own")] as const,
    ["defect", Effect.die("own"), Cause.die("own")] as const
  ])(
    "the program's own %s after the deadline is kept, and the loss joins it",
    ([, end, own]) =>
      Effect.gen(function*() {
        const { locker, shift } = yield* shiftedSetting
        const exit = yield* Effect.exit(locker.withLock(
          "k",
          Effect.suspend(() => {
            shift.monotonic = 9000
            return end as Effect.Effect<never, string>
          })
        ))
        assert(Exit.isFailure(exit))
        assert.strictEqual(exit.cause.reasons.length, 2)
        assert.deepStrictEqual(exit.cause.reasons[0]!._tag, own.reasons[0]!._tag)
        const loss = exit.cause.reasons[1]!
        assert(Cause.isFailReason(loss))
        assert.strictEqual((loss.error as OwnershipLost).reason, "Stalled")
      })
  )

  it.effect("a program that fails while it is interrupted for a loss keeps its failure, and the loss joins it", () =>
    Effect.gen(function*() {
      const { faulty, locker } = yield* setting()
      const fiber = yield* fork(Effect.exit(
        locker.withLock("k", Effect.onInterrupt(Effect.never, () => Effect.die("no time to clean up")))
      ))
      yield* faulty.answerRenewals({ _tag: "Gone" })
      yield* TestClock.adjust("3 seconds")
      const exit = yield* Fiber.join(fiber)
      assert(Exit.isFailure(exit))
      assert.isTrue(Cause.hasDies(exit.cause))
      const loss = Cause.findErrorOption(exit.cause)
      assert(Option.isSome(loss))
      assert.strictEqual(lostBy(loss.value).reason, "Expired")
      assert.isFalse(Cause.hasInterrupts(exit.cause))
    }))

  it.effect("a program that cannot be interrupted delays the report, not the loss", () =>
    Effect.gen(function*() {
      const { faulty, locker } = yield* setting()
      yield* faulty.hang("renew")
      let remaining: Effect.Effect<Duration.Duration> = Effect.succeed(Duration.zero)
      let lost: Effect.Effect<never, OwnershipLost> = Effect.never
      const fiber = yield* fork(Effect.flip(locker.withLock("k", (lease) => {
        remaining = lease.remaining
        lost = lease.lost
        return Effect.uninterruptible(Effect.sleep("20 seconds"))
      })))
      const watching = yield* fork(Effect.flip(lost))
      yield* TestClock.adjust("8999 millis")
      assert.strictEqual(yield* millis(remaining), 1)
      assert.isUndefined(watching.pollUnsafe())
      yield* TestClock.adjust("1 milli")
      assert.strictEqual(yield* millis(remaining), 0)
      assert.strictEqual(lostBy(yield* Fiber.join(watching)).reason, "Unreachable")
      assert.isUndefined(fiber.pollUnsafe())
      yield* TestClock.adjust("11 seconds")
      assert.strictEqual(Duration.toMillis(lostBy(yield* Fiber.join(fiber)).lastConfirmedAgo), 9000)
    }))

  it.effect("wall time that runs ahead by more than the ttl ends the lease; smaller steps and steps back do not", () =>
    Effect.gen(function*() {
      const { locker, shift } = yield* shiftedSetting
      const lease = yield* locker.scoped("k")
      shift.wall = 9000
      yield* lease.ensureHeld
      shift.wall = -1_000_000
      yield* lease.ensureHeld
      // What was a step back at the last renewal is where the next step is measured from.
      yield* TestClock.adjust("3 seconds")
      shift.wall = -1_000_000 + 9000
      yield* lease.ensureHeld
      shift.wall += 1
      assert.strictEqual(lostBy(yield* Effect.flip(lease.ensureHeld)).reason, "Stalled")
    }))

  it.effect("the reason is Stalled where no renewal was sent since the last confirmation, and Unreachable where one was not answered", () =>
    Effect.gen(function*() {
      const { faulty, locker, shift } = yield* shiftedSetting
      const reason = (lease: Lease) => Effect.map(Effect.flip(lease.ensureHeld), (error) => lostBy(error).reason)
      const confirmed = yield* locker.scoped("a")
      yield* TestClock.adjust("3 seconds")
      shift.monotonic = 9100
      assert.strictEqual(yield* reason(confirmed), "Stalled")
      shift.monotonic = 0

      const [asked, late] = yield* Effect.all([locker.scoped("b"), locker.scoped("c")])
      yield* faulty.hang("renew")
      yield* TestClock.adjust("3 seconds")
      shift.monotonic = 6100
      assert.strictEqual(yield* reason(asked), "Unreachable")
      shift.monotonic = 60_000
      assert.strictEqual(yield* reason(late), "Stalled")
      shift.monotonic = 0
    }))

  it.effect("the reason is Stalled where the timer itself comes long after the deadline", () =>
    Effect.gen(function*() {
      const { locker, shift } = yield* shiftedSetting
      const lease = yield* locker.scoped("k")
      shift.monotonic = 60_000
      yield* TestClock.adjust("3 seconds")
      assert.strictEqual(lostBy(yield* Effect.flip(lease.lost)).reason, "Stalled")
    }))
})

describe("a lock whose backend has gone is lost when its ttl has passed on the test clock, and not before", () => {
  const lengths = [
    ...Array.from({ length: 60 }, (_, index) => (index + 1) * 1_000),
    // The same for each run, half of them with a fraction.
    ...Array.from(
      { length: 100 },
      (_, index) => 100 + (index * 7_919) % 59_900 + (index % 2) * ((index * 37) % 1_000) / 1_000
    )
  ]

  for (const silence of ["hang", "fail", "dropReplies"] as const) {
    it.effect(`where renewals ${silence}`, () =>
      Effect.gen(function*() {
        const { faulty, locker } = yield* setting()
        yield* faulty[silence]("renew")
        for (const ttl of lengths) {
          const section = yield* fork(Effect.flip(locker.withLock("k", Effect.never, { ttl })))
          yield* TestClock.adjust(ttl - 1)
          assert.isUndefined(section.pollUnsafe(), `held until ${ttl} ms`)
          yield* TestClock.adjust(1)
          assert.isDefined(section.pollUnsafe(), `lost after ${ttl} ms`)
          assert.strictEqual((yield* Fiber.join(section))._tag, "OwnershipLost")
          // Until it has been paid back.
          yield* TestClock.adjust(ttl)
        }
      }))
  }
})

describe("a holder winds down within the guard gap", () => {
  const lossIn = Effect.gen(function*() {
    const { faulty, locker, memory, sent } = yield* setting()
    yield* faulty.hang("renew")
    const other = yield* lockerOver(memory)
    const events: Array<string> = []
    const note = (event: string) => Effect.sync(() => void events.push(event))
    return { locker, other, events, note, sent }
  })

  it.effect("nobody is let in while an interrupted program closes what it opened, and somebody is right after", () =>
    Effect.gen(function*() {
      const { events, locker, note, other } = yield* lossIn
      const windingDown = Effect.onExit(Effect.never, () => Effect.andThen(Effect.sleep(500), note("out")))
      yield* fork(Effect.exit(locker.withLock("k", windingDown)))
      const next = yield* fork(other.withLock("k", note("in")))
      yield* TestClock.adjust(9_499)
      assert.deepStrictEqual(events, [])
      yield* TestClock.adjust(1)
      yield* Fiber.join(next)
      assert.deepStrictEqual(events, ["out", "in"])
    }))

  it.effect("a lost lease of a scope is withdrawn when the scope closes, or when the gap is over", () =>
    Effect.gen(function*() {
      const { locker, sent } = yield* lossIn
      const scope = yield* Scope.make()
      yield* Scope.provide(locker.scoped("one"), scope)
      yield* locker.scoped("two")
      yield* TestClock.adjust(9_100)
      assert.strictEqual(sent("withdraw").length, 0)
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(sent("withdraw").map(({ claims }) => claims[0]!.key), ["dlock:one"])
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(sent("withdraw").map(({ claims }) => claims[0]!.key), ["dlock:one", "dlock:two"])
    }))
})

describe("a loss has a type and a reason", () => {
  it.effect.each([["Gone", "Expired", 0], ["Replaced", "Replaced", 0], ["Revoked", "Revoked", 1]] as const)(
    "a renewal that is answered by %s is a loss as %s, at once",
    ([answer, reason, withdrawals]) =>
      Effect.gen(function*() {
        const { faulty, locker, sent } = yield* setting()
        yield* faulty.answerRenewals({ _tag: answer })
        const fiber = yield* fork(Effect.flip(locker.withLock("k", Effect.never)))
        yield* TestClock.adjust("3 seconds")
        const lost = lostBy(yield* Fiber.join(fiber))
        assert.deepStrictEqual([lost.key, lost.fencingToken, lost.reason], ["k", 1n, reason])
        assert.strictEqual(Duration.toMillis(lost.lastConfirmedAgo), 3000)
        yield* TestClock.adjust("1 minute")
        // A claim that is never extended again still keeps others out.
        assert.strictEqual(sent("withdraw").length, withdrawals)
        assert.strictEqual(sent("renew").length, 1)
      })
  )

  it.effect("a hint of a loss ends the lease at once, and one about a stranger does nothing", () =>
    Effect.gen(function*() {
      const { faulty, locker, sent } = yield* setting()
      const fiber = yield* fork(Effect.flip(locker.withLock("k", Effect.never)))
      yield* faulty.lose("somebody", "Revoked")
      yield* TestClock.adjust(0)
      assert.isUndefined(fiber.pollUnsafe())
      yield* faulty.lose(faulty.calls[0]!.claims[0]!.id, "Revoked")
      yield* TestClock.adjust(0)
      assert.strictEqual(lostBy(yield* Fiber.join(fiber)).reason, "Revoked")
      assert.strictEqual(sent("withdraw").length, 0)
    }))

  it.effect("a lease that is lost for want of an answer is withdrawn once, so that others need not wait for its expiry", () =>
    Effect.gen(function*() {
      const { faulty, locker, memory, sent } = yield* setting()
      yield* faulty.hang("renew")
      const fiber = yield* fork(Effect.flip(locker.withLock("k", Effect.never)))
      yield* TestClock.adjust("9 seconds")
      assert.strictEqual(lostBy(yield* Fiber.join(fiber)).reason, "Unreachable")
      assert.strictEqual(sent("withdraw").length, 1)
      const answer = yield* memory.request({ ...faulty.calls[0]!.claims[0]!, id: "another" }, "try")
      assert.strictEqual(answer._tag, "Granted")
    }))

  it.effect("a lost lease stays lost", () =>
    Effect.gen(function*() {
      const { faulty, locker } = yield* setting()
      const lease = yield* locker.scoped("k")
      yield* faulty.answerRenewals({ _tag: "Gone" }, 1)
      yield* TestClock.adjust("3 seconds")
      yield* faulty.lose(faulty.calls[0]!.claims[0]!.id, "Revoked")
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(lostBy(yield* Effect.flip(lease.ensureHeld)).reason, "Expired")
      assert.strictEqual(lostBy(yield* Effect.flip(lease.lost)).reason, "Expired")
    }))
})

describe("the loss of many locks", () => {
  it.effect.each([1, 3, 10_000])("of %i at once is one line", (count) =>
    withLogs((lines) =>
      Effect.gen(function*() {
        const { faulty, locker } = yield* setting()
        yield* Effect.forEach(Array.from({ length: count }), (_, index) => locker.scoped(`k${index}`), {
          discard: true
        })
        yield* faulty.answerRenewals({ _tag: "Gone" })
        yield* TestClock.adjust("1 minute")
        // The test clock says so when a step of it takes long.
        const ours = lines.filter((line) => line.annotations.component === "dlock")
        assert.deepStrictEqual(ours.map((line) => [line.level, line.annotations.key]), [["Warn", "k0"]])
        if (count > 4) assert.include(ours[0]!.message, "and 9995 others")
      })
    ))

  it.effect("each at its own deadline is a line a second", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        const { faulty, locker } = yield* setting()
        for (let index = 0; index < 200; index++) {
          yield* locker.scoped(`k${index}`)
          yield* TestClock.adjust("10 millis")
        }
        const before = lines.length
        yield* faulty.hang("renew")
        yield* TestClock.adjust("1 minute")
        const losses = lines.slice(before).filter((line) => line.message.includes("Lost the lock"))
        assert.isAtLeast(losses.length, 1)
        assert.isAtMost(losses.length, 4)
      })
    ))

  it.effect("is told when the locker goes, if it has not been before", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        const { faulty, locker } = yield* setting()
        const leases = yield* Effect.forEach(["a", "b"], (key) => locker.scoped(key))
        for (const [index, lease] of leases.entries()) {
          yield* faulty.lose(faulty.calls[index]!.claims[0]!.id, "Revoked")
          yield* Effect.flip(lease.lost)
          yield* TestClock.adjust(1)
        }
        assert.strictEqual(lines.length, 1)
      }).pipe(
        Effect.scoped,
        Effect.andThen(Effect.sync(() => {
          const told = lines.map((line) => line.message).join("\n")
          for (const key of ["a", "b"]) assert.include(told, `"${key}"`)
        }))
      )
    ))
})

describe("an observer of a lease's fiber that throws", () => {
  const observed = (lease: Lease) =>
    Effect.sync(() => {
      lease.renewal.addObserver(() => {
        throw new Error("on purpose")
      })
    })

  it.effect("stops neither the loss of its own lease nor the deadlines of other leases", () =>
    Effect.gen(function*() {
      const { faulty, locker } = yield* setting()
      yield* faulty.hang("renew")
      const one = yield* fork(
        Effect.flip(locker.withLock("one", (lease) => Effect.andThen(observed(lease), Effect.never)))
      )
      const two = yield* fork(Effect.flip(locker.withLock("two", Effect.never)))
      yield* TestClock.adjust("9 seconds")
      for (const fiber of [one, two]) assert.strictEqual((yield* Fiber.join(fiber))._tag, "OwnershipLost")
    }))
})

describe("a lease that is lost", () => {
  for (const answer of ["Gone", "Unknown"] as const) {
    it.effect(`leaves no finalizer in a scope that stays open: ${answer}`, () =>
      Effect.gen(function*() {
        const faulty = yield* FaultyLockStore.make(yield* LockStore)
        const context = yield* Layer.build(
          Locker.layer({ defaultTtl: "3 seconds" }).pipe(Layer.provide(Layer.succeed(LockStore, faulty.store)))
        )
        const scope = yield* Scope.make()
        const lease = yield* Locker.scoped("k").pipe(Scope.provide(scope), Effect.provideContext(context))
        if (answer === "Gone") yield* faulty.answerRenewals({ _tag: "Gone" })
        else yield* faulty.hang("renew")
        yield* TestClock.adjust("4 seconds")
        assert.strictEqual((yield* Effect.flip(lease.ensureHeld))._tag, "OwnershipLost")
        assert.strictEqual(finalizers(scope), 0)
      }).pipe(Effect.provide(MemoryLockStore.layer)))
  }

  it.effect("is found by renewals as before where the stream of losses dies, and the defect is logged", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        const memory = yield* MemoryLockStore.make
        const locker = yield* lockerOver({ ...memory, losses: Stream.die(new Error("a bug in the store")) })
        const lease = yield* locker.scoped("k", { ttl: "9 seconds" })
        yield* TestClock.adjust("1 minute")
        yield* lease.ensureHeld
        assert.deepStrictEqual(lines.map((line) => line.level), ["Error"])
      })
    ))
})

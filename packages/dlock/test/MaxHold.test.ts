import { assert, describe, it } from "@effect/vitest"
import { Cause, Clock, type Duration, Effect, Exit, Fiber, Option, Scope } from "effect"
import {
  DistributedSemaphore,
  Lease,
  Locker,
  type LockOptions,
  type OwnershipLost,
  ReadWriteLock,
  Want
} from "effect-dlock"
import { TestClock } from "effect/testing"
import { HoldCaps } from "../src/internal/lease/holdCaps.ts"
import * as Time from "../src/internal/scheduling/time.ts"
import { Events } from "../src/internal/telemetry/events.ts"
import * as Log from "../src/internal/telemetry/log.ts"
import { Meters } from "../src/internal/telemetry/meters.ts"
import { Outage } from "../src/internal/telemetry/outage.ts"
import { fork, lockerOver, millis, outside, setting, shiftedSetting, withLogs } from "./support.ts"

// The ttl of these locks is 9 s and their guard gap 0.9 s, and they are renewed every 3 s.

const lostBy = (error: { readonly _tag: string }): OwnershipLost => {
  assert.strictEqual(error._tag, "OwnershipLost")
  return error as OwnershipLost
}

const now = Clock.currentTimeMillis

/** A program that notes when it was interrupted, and takes a while to end then. */
const endingIn = (duration: Duration.Input, noted: { at?: number }) =>
  Effect.onInterrupt(Effect.never, () => Effect.andThen(Effect.map(now, (at) => noted.at = at), Effect.sleep(duration)))

/** A program that cannot be interrupted. It ends in real time too, so that a test that fails does not hang. */
const deaf = (duration: Duration.Input) =>
  Effect.uninterruptible(Effect.raceFirst(Effect.sleep(duration), TestClock.withLive(Effect.sleep("3 seconds"))))

/** When another caller gets the lock. */
const grantedAt = (locker: Locker["Service"], key = "k") => fork(outside(locker.withLock(key, now)))

describe("a section that is held for as long as its maxHold", () => {
  it.effect("is interrupted to the millisecond, and others are in only after it has ended", () =>
    Effect.gen(function*() {
      const { locker, sent } = yield* setting()
      const interrupted: { at?: number } = {}
      const held = yield* fork(
        Effect.flip(locker.withLock("k", endingIn("800 millis", interrupted), { maxHold: "20 seconds" }))
      )
      const other = yield* grantedAt(locker)
      yield* TestClock.adjust(19_999)
      assert.isUndefined(interrupted.at)
      yield* TestClock.adjust(1)
      assert.strictEqual(interrupted.at, 20_000)
      assert.strictEqual(sent("withdraw").length, 0)
      yield* TestClock.adjust(799)
      assert.isUndefined(other.pollUnsafe())
      yield* TestClock.adjust(1)
      assert.strictEqual(lostBy(yield* Fiber.join(held)).reason, "MaxHold")
      assert.strictEqual(yield* Fiber.join(other), 20_800)
      assert.strictEqual(sent("withdraw").length, 2)
    }))

  it.effect("is renewed while its program ends", () =>
    Effect.gen(function*() {
      const { locker, sent } = yield* setting()
      const program = endingIn("29 seconds", {})
      const held = yield* fork(
        Effect.flip(locker.withLock("k", program, { maxHold: "20 seconds", guardGap: "30 seconds" }))
      )
      const other = yield* grantedAt(locker)
      yield* TestClock.adjust("20 seconds")
      assert.strictEqual(sent("renew").length, 6)
      yield* TestClock.adjust("29 seconds")
      assert.strictEqual(sent("renew").length, 16)
      assert.strictEqual(lostBy(yield* Fiber.join(held)).reason, "MaxHold")
      assert.strictEqual(yield* Fiber.join(other), 49_000)
    }))

  it.effect("that does not end within the guard gap is renewed no more, and runs out: the bound on a hold", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        const { locker, sent } = yield* setting({ warnAfter: "Infinity" })
        const held = yield* fork(Effect.flip(locker.withLock("k", deaf("100 seconds"), { maxHold: "20.5 seconds" })))
        const other = yield* grantedAt(locker)
        yield* TestClock.adjust(21_399)
        // Within the guard gap it was renewed once more, at 21 s.
        assert.strictEqual(sent("renew").length, 7)
        yield* TestClock.adjust(1)
        assert.strictEqual(
          lines.at(-1)?.message,
          "The lock was not released within 0.9 s after its maxHold, so it is renewed no more and runs out in 9.5 s: does its program ignore the interruption?"
        )
        yield* TestClock.adjust(9499)
        assert.isUndefined(other.pollUnsafe())
        yield* TestClock.adjust(1)
        // Nobody waits longer than maxHold + guardGap + ttl + guardGap, here 31.3 s.
        assert.strictEqual(yield* Fiber.join(other), 30_900)
        assert.strictEqual(sent("renew").length, 7)
        assert.isUndefined(held.pollUnsafe())
        yield* TestClock.adjust("70 seconds")
        assert.strictEqual(lostBy(yield* Fiber.join(held)).reason, "MaxHold")
        assert.deepStrictEqual(lines.map(({ level }) => level), ["Warn", "Warn", "Warn"])
      })
    ))

  it.effect("that does not end is withdrawn when it would run out, for a store that keeps it for another reason", () =>
    Effect.gen(function*() {
      const { faulty, locker, sent } = yield* setting()
      const held = yield* fork(Effect.flip(locker.withLock("k", deaf("1 minute"), { maxHold: "20 seconds" })))
      yield* TestClock.adjust(27_899)
      assert.strictEqual(sent("withdraw").length, 0)
      yield* TestClock.adjust(1)
      assert.strictEqual(sent("withdraw").length, 1)
      assert.strictEqual(faulty.calls.at(-1)?.claims[0]?.key, "dlock:k")
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(lostBy(yield* Fiber.join(held)).reason, "MaxHold")
      assert.strictEqual(sent("withdraw").length, 1)
    }))

  it.effect("that ends after the guard gap leaves at once", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting()
      yield* fork(Effect.flip(locker.withLock("k", deaf("23 seconds"), { maxHold: "20 seconds" })))
      const other = yield* grantedAt(locker)
      yield* TestClock.adjust("23 seconds")
      assert.strictEqual(yield* Fiber.join(other), 23_000)
    }))

  it.effect("keeps its result if it ends by itself before", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        const { locker, sent } = yield* setting()
        const fiber = yield* fork(
          locker.withLock("k", Effect.as(Effect.sleep("15 seconds"), 42), { maxHold: "20 seconds" })
        )
        yield* TestClock.adjust("1 minute")
        assert.strictEqual(yield* Fiber.join(fiber), 42)
        assert.strictEqual(sent("withdraw").length, 1)
        assert.deepStrictEqual(lines, [])
      })
    ))

  it.effect("fails, though its program cannot be interrupted and ends well after the cap", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting()
      const held = yield* fork(Effect.flip(locker.withLock("k", deaf("20.1 seconds"), { maxHold: "20 seconds" })))
      yield* TestClock.adjust("21 seconds")
      assert.strictEqual(lostBy(yield* Fiber.join(held)).reason, "MaxHold")
    }))

  it.effect("that fails while it ends keeps its failure, and the loss joins it", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting()
      const program = Effect.onInterrupt(Effect.never, () => Effect.die("a bug"))
      const held = yield* fork(Effect.exit(locker.withLock("k", program, { maxHold: "20 seconds" })))
      yield* TestClock.adjust("20 seconds")
      const exit = yield* Fiber.join(held)
      assert(Exit.isFailure(exit))
      assert.isTrue(Cause.hasDies(exit.cause))
      assert.strictEqual(lostBy(Option.getOrThrow(Cause.findErrorOption(exit.cause))).reason, "MaxHold")
    }))

  it.effect("is warned of after four fifths, in one line for all at that time", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        const { locker } = yield* setting()
        yield* fork(
          Effect.forEach(["a", "b", "c"], (key) => locker.withLock(key, Effect.never, { maxHold: "20 seconds" }), {
            concurrency: "unbounded"
          })
        )
        yield* TestClock.adjust(15_999)
        assert.deepStrictEqual(lines, [])
        yield* TestClock.adjust(2)
        assert.deepStrictEqual(lines.map(({ message }) => message), [
          "The lock \"a\" has been held for 16 s of its maxHold of 20 s, and is lost in 4 s; also: \"c\", \"b\""
        ])
        assert.deepInclude(lines[0]?.annotations, { component: "dlock", key: "a" })
      })
    ))

  it.effect("leaves no timer when it has ended", () =>
    Effect.gen(function*() {
      const time = yield* Time.make
      const context = yield* Effect.context<never>()
      const fork = Effect.runForkWith(context)
      const log = yield* Log.make
      const events = new Events(log, new Outage(log, time, ""), time, new Meters(time, context, ""), fork)
      const caps = new HoldCaps(time, events, log, fork)
      let checked = 0
      const ends: Array<() => void> = []
      const lease = {
        key: "k",
        check: () => checked++ >= 0,
        outstay: () => {},
        whenEnded: (observer: () => void) => ends.push(observer)
      }
      caps.add(lease, 20_000)
      caps.add(lease, 30_000)
      ends[0]!()
      yield* TestClock.adjust("20 seconds")
      assert.strictEqual(checked, 0)
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(checked, 2)
    }))

  it.effect("counts from the grant, not from the call", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting()
      yield* fork(locker.withLock("k", Effect.sleep("30 seconds")))
      const interrupted: { at?: number } = {}
      yield* fork(Effect.flip(outside(locker.withLock("k", endingIn(0, interrupted), { maxHold: "20 seconds" }))))
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(interrupted.at, 50_000)
    }))
})

describe("the cap and a loss", () => {
  it.effect("a loss at the same moment goes first, since others may be in", () =>
    Effect.gen(function*() {
      const { faulty, locker } = yield* setting()
      yield* faulty.hang("renew")
      const held = yield* fork(Effect.flip(locker.withLock("k", Effect.never, { maxHold: "9 seconds" })))
      yield* TestClock.adjust("9 seconds")
      assert.strictEqual(lostBy(yield* Fiber.join(held)).reason, "Unreachable")
    }))

  it.effect("a pause of the process past the cap ends the section afterwards", () =>
    Effect.gen(function*() {
      const { locker, shift } = yield* shiftedSetting
      const held = yield* fork(Effect.flip(locker.withLock("k", Effect.never, { maxHold: "2 seconds" })))
      shift.monotonic = 5000
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual(lostBy(yield* Fiber.join(held)).reason, "MaxHold")
    }))

  it.effect("a pause past the cap and the deadline is a stall", () =>
    Effect.gen(function*() {
      const { locker, shift } = yield* shiftedSetting
      const held = yield* fork(Effect.flip(locker.withLock("k", Effect.never, { maxHold: "2 seconds" })))
      shift.monotonic = 10_000
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual(lostBy(yield* Fiber.join(held)).reason, "Stalled")
    }))

  it.effect("a lock that is lost while its program ends is left as any lost lock", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        const { faulty, locker, sent } = yield* setting()
        yield* faulty.hang("renew")
        const held = yield* fork(
          Effect.flip(locker.withLock("k", deaf("1 minute"), { maxHold: "8 seconds", guardGap: "5 seconds" }))
        )
        yield* TestClock.adjust("9 seconds")
        assert.strictEqual(
          lines.at(-1)?.message,
          "The lock was lost (Unreachable) while its program ended after its maxHold"
        )
        yield* TestClock.adjust(4999)
        assert.strictEqual(sent("withdraw").length, 0)
        yield* TestClock.adjust(1)
        assert.strictEqual(sent("withdraw").length, 1)
        yield* TestClock.adjust("1 minute")
        assert.strictEqual(lostBy(yield* Fiber.join(held)).reason, "MaxHold")
      })
    ))

  it.effect("a lock that the backend has lost while its program ends is not withdrawn", () =>
    Effect.gen(function*() {
      const { faulty, locker, memory, sent } = yield* setting()
      const held = yield* fork(
        Effect.flip(locker.withLock("k", deaf("5 seconds"), { maxHold: "2 seconds", guardGap: "5 seconds" }))
      )
      yield* TestClock.adjust("2 seconds")
      yield* memory.withdraw(faulty.calls[0]!.claims[0]!)
      yield* TestClock.adjust("3 seconds")
      assert.strictEqual(lostBy(yield* Fiber.join(held)).reason, "MaxHold")
      assert.strictEqual(sent("withdraw").length, 0)
    }))

  it.effect("a locker that closes while a program ends waits for it, and withdraws the lock", () =>
    Effect.gen(function*() {
      const { faulty, sent } = yield* setting()
      const scope = yield* Scope.make()
      const locker = yield* Scope.provide(lockerOver(faulty.store, { defaultTtl: "9 seconds" }), scope)
      yield* fork(Effect.flip(locker.withLock("k", endingIn("800 millis", {}), { maxHold: "2 seconds" })))
      yield* TestClock.adjust("2 seconds")
      const closing = yield* fork(Scope.close(scope, Exit.void))
      yield* TestClock.adjust(799)
      assert.strictEqual(sent("withdraw").length, 0)
      yield* TestClock.adjust(1)
      yield* Fiber.join(closing)
      assert.isAtLeast(sent("withdraw").length, 1)
    }))
})

describe("the cap of a lock in a scope", () => {
  it.effect("ends the lease as a loss does", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting()
      const lease = yield* locker.scoped("k", { maxHold: "20 seconds" })
      const lost = yield* fork(Effect.flip(lease.lost))
      const work = yield* fork(Effect.flip(lease.whileHeld(Effect.never)))
      yield* TestClock.adjust(19_999)
      yield* lease.ensureHeld
      assert.isUndefined(work.pollUnsafe())
      yield* TestClock.adjust(1)
      for (const error of [yield* Fiber.join(lost), yield* Fiber.join(work), yield* Effect.flip(lease.ensureHeld)]) {
        assert.strictEqual(lostBy(error).reason, "MaxHold")
      }
      assert.strictEqual(yield* millis(lease.remaining), 0)
      assert.isTrue(Exit.isFailure(yield* Fiber.await(lease.renewal)))
    }))

  it.effect("releases it when the scope closes within the guard gap", () =>
    Effect.gen(function*() {
      const { locker, sent } = yield* setting()
      const scope = yield* Scope.make()
      yield* Scope.provide(locker.scoped("k", { maxHold: "20 seconds" }), scope)
      const other = yield* grantedAt(locker)
      yield* TestClock.adjust("20.5 seconds")
      assert.isUndefined(other.pollUnsafe())
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(yield* Fiber.join(other), 20_500)
      assert.strictEqual(sent("withdraw").length, 2)
    }))

  it.effect("leaves it to run out while the scope stays open, and the scope keeps nothing of it", () =>
    Effect.gen(function*() {
      const { locker, sent } = yield* setting()
      const scope = yield* Scope.make()
      yield* Scope.provide(locker.scoped("k", { maxHold: "20 seconds" }), scope)
      const other = yield* grantedAt(locker)
      yield* TestClock.adjust(27_899)
      assert.isUndefined(other.pollUnsafe())
      yield* TestClock.adjust(1)
      assert.strictEqual(yield* Fiber.join(other), 27_900)
      assert.strictEqual(scope.state._tag, "Empty")
      const before = sent("withdraw").length
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(sent("withdraw").length, before)
    }))

  it.effect("is over with an early release", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        const { locker } = yield* setting()
        const lease = yield* locker.scoped("k", { maxHold: "20 seconds" })
        yield* TestClock.adjust("5 seconds")
        yield* lease.release
        yield* TestClock.adjust("1 minute")
        assert.strictEqual((yield* Effect.flip(lease.ensureHeld))._tag, "LockNotHeld")
        assert.deepStrictEqual(lines, [])
      })
    ))
})

describe("the cap of sections inside sections", () => {
  it.effect("an outer cap ends the inner section first", () =>
    Effect.gen(function*() {
      const { faulty, locker } = yield* setting()
      const inner = locker.withLock("inner", endingIn("500 millis", {}))
      const held = yield* fork(Effect.flip(locker.withLock("outer", inner, { maxHold: "20 seconds" })))
      yield* TestClock.adjust("21 seconds")
      assert.strictEqual(lostBy(yield* Fiber.join(held)).key, "outer")
      const withdrawn = faulty.calls.filter(({ operation }) => operation === "withdraw")
      assert.deepStrictEqual(withdrawn.map(({ claims }) => claims[0]?.key), ["dlock:inner", "dlock:outer"])
    }))

  it.effect("an inner cap is a typed error of the outer program, which goes on", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting()
      const inner = Effect.flip(locker.withLock("inner", Effect.never, { maxHold: "2 seconds" }))
      const held = yield* fork(
        locker.withLock("outer", Effect.tap(inner, () => Effect.flatMap(Lease, (lease) => lease.ensureHeld)))
      )
      yield* TestClock.adjust("2 seconds")
      const lost = lostBy(yield* Fiber.join(held))
      assert.deepStrictEqual([lost.key, lost.reason], ["inner", "MaxHold"])
    }))

  it.effect("a program that asks for its own lock while it ends is told at once that it holds it", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting()
      let told: string | undefined
      const again = Effect.flip(locker.withLock("k", Effect.void))
      const program = Effect.onInterrupt(Effect.never, () => Effect.map(again, ({ _tag }) => told = _tag))
      yield* fork(Effect.flip(locker.withLock("k", program, { maxHold: "2 seconds" })))
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual(told, "LockAlreadyHeld")
    }))

  it.effect("the cap of a reader inside a reader ends the inner section alone", () =>
    Effect.gen(function*() {
      const { locker, sent } = yield* setting()
      const lock = yield* Effect.provideService(ReadWriteLock.make("k"), Locker, locker)
      const inner = Effect.flip(lock.withReadLock(Effect.never, { maxHold: "2 seconds" }))
      const held = yield* fork(lock.withReadLock((lease) => Effect.tap(inner, () => lease.ensureHeld)))
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual(lostBy(yield* Fiber.join(held)).reason, "MaxHold")
      assert.strictEqual(sent("request").length, 1)
      assert.strictEqual(sent("withdraw").length, 1)
    }))

  it.effect("a reader inside a reader in a scope is lost at its cap", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting()
      const lock = yield* Effect.provideService(ReadWriteLock.make("k"), Locker, locker)
      const outer = yield* lock.readLock()
      const inner = yield* lock.readLock({ maxHold: "2 seconds" })
      const lost = yield* fork(Effect.flip(inner.lost))
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual(lostBy(yield* Fiber.join(lost)).reason, "MaxHold")
      assert.strictEqual(lostBy(yield* Effect.flip(inner.ensureHeld)).reason, "MaxHold")
      yield* outer.ensureHeld
    }))
})

describe("the cap of every kind of lock", () => {
  const capped = { maxHold: "20 seconds" } satisfies LockOptions

  it.effect("a write lock's counts from its grant, over a downgrade", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting()
      const lock = yield* Effect.provideService(ReadWriteLock.make("k"), Locker, locker)
      const held = yield* fork(Effect.flip(lock.withWriteLock(
        (write) =>
          Effect.sleep("5 seconds").pipe(Effect.andThen(write.downgrade), Effect.andThen(endingIn("500 millis", {}))),
        capped
      )))
      const writer = yield* fork(outside(lock.withWriteLock(now)))
      yield* TestClock.adjust("21 seconds")
      assert.strictEqual(lostBy(yield* Fiber.join(held)).reason, "MaxHold")
      assert.strictEqual(yield* Fiber.join(writer), 20_500)
    }))

  it.effect("permits, and every form that does not wait", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting()
      const semaphore = yield* Effect.provideService(DistributedSemaphore.make("s", { permits: 2 }), Locker, locker)
      const lock = yield* Effect.provideService(ReadWriteLock.make("rw"), Locker, locker)
      const sections = yield* fork(Effect.all([
        Effect.flip(Effect.never.pipe(semaphore.withPermits(2, capped))),
        Effect.flip(locker.withLockIfAvailable("a", Effect.never, capped)),
        Effect.flip(lock.withReadLockIfAvailable(Effect.never, capped)),
        Effect.flip(locker.withLocksIfAvailable(["b", "c"], Effect.never, capped))
      ], { concurrency: "unbounded" }))
      const lease = Option.getOrThrow(yield* locker.scopedIfAvailable("d", capped))
      yield* TestClock.adjust("20 seconds")
      for (const error of yield* Fiber.join(sections)) assert.strictEqual(lostBy(error as any).reason, "MaxHold")
      assert.strictEqual(lostBy(yield* Effect.flip(lease.ensureHeld)).reason, "MaxHold")
    }))

  it.effect("several locks have one cap, from the grant of the last, and are released together", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        const { locker, sent } = yield* setting()
        yield* fork(locker.withLock("b", Effect.sleep("30 seconds")))
        const interrupted: { at?: number } = {}
        const held = yield* fork(
          Effect.flip(outside(locker.withLocks(["a", "b"], endingIn("500 millis", interrupted), capped)))
        )
        const others = [yield* grantedAt(locker, "a"), yield* grantedAt(locker, "b")]
        yield* TestClock.adjust("50 seconds")
        assert.strictEqual(interrupted.at, 50_000)
        yield* TestClock.adjust("1 second")
        assert.strictEqual(lostBy(yield* Fiber.join(held)).reason, "MaxHold")
        for (const other of others) assert.strictEqual(yield* Fiber.join(other), 50_500)
        const together = sent("withdraw").filter(({ claims }) => claims.length === 2)
        assert.strictEqual(together.length, 1)
        assert.include(lines.at(-1)?.message, "Lost the lock \"a\" (MaxHold)")
      })
    ))

  it.effect("several locks in a scope, of which the caller had one", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting()
      const lock = yield* Effect.provideService(ReadWriteLock.make("rw"), Locker, locker)
      const outer = yield* lock.readLock()
      const leases = yield* locker.scopedAll(["a", Want.read(lock)], { maxHold: "2 seconds" })
      const lost = yield* fork(Effect.flip(leases.lost))
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual(lostBy(yield* Fiber.join(lost)).reason, "MaxHold")
      yield* outer.ensureHeld
    }))

  it.effect("the locker's own is for calls that name none, and a call may lift it", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting({ maxHold: "20 seconds" })
      const usual = yield* fork(Effect.flip(locker.withLock("a", Effect.never)))
      const shorter = yield* fork(Effect.flip(locker.withLock("b", Effect.never, { maxHold: "10 seconds" })))
      const lifted = yield* fork(locker.withLock("c", Effect.never, { maxHold: "Infinity" }))
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(lostBy(yield* Fiber.join(shorter)).reason, "MaxHold")
      assert.isUndefined(usual.pollUnsafe())
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(lostBy(yield* Fiber.join(usual)).reason, "MaxHold")
      yield* TestClock.adjust("10 minutes")
      assert.isUndefined(lifted.pollUnsafe())
    }))
})

describe("the cap of a locker", () => {
  it.effect("is that of the outer call, not of one that re-enters it", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting({ maxHold: "10 seconds" })
      const inner = locker.withLock("k", Effect.as(Effect.sleep("20 seconds"), "done"), { reentrant: true })
      const outer = yield* fork(locker.withLock("k", inner, { maxHold: "Infinity" }))
      for (let second = 0; second < 21; second++) yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* Fiber.join(outer), "done")
    }))
})

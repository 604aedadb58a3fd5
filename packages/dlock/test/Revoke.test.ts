import { assert, describe, it } from "@effect/vitest"
import { Clock, Duration, Effect, Exit, Fiber, FiberSet, Schema, Scope, Stream } from "effect"
import {
  DistributedSemaphore,
  type InvalidLockRequest,
  type Lease,
  type Leases,
  LockBackendError,
  Locker,
  OwnershipLost,
  type Revocation,
  type SharedLease
} from "effect-dlock"
import { TestClock } from "effect/testing"
import { Revocations } from "../src/internal/lease/revocations.ts"
import * as Time from "../src/internal/scheduling/time.ts"
import { Events } from "../src/internal/telemetry/events.ts"
import * as Log from "../src/internal/telemetry/log.ts"
import { Meters } from "../src/internal/telemetry/meters.ts"
import { Outage } from "../src/internal/telemetry/outage.ts"
import { adminSetting, fork, lockerOver, millis, outside, withLogs } from "./support.ts"

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

const tokenOf = (locker: Locker["Service"], key = "k") =>
  Effect.map(locker.inspect(key), ({ holders }) => holders[0]!.token)

/** Revokes the present hold. */
const revoke = (locker: Locker["Service"], grace: Duration.Input = 0, why?: string, key = "k") =>
  Effect.flatMap(tokenOf(locker, key), (token) => fork(locker.revoke(key, { token, grace, why })))

const revocationIn = (told: ReadonlyArray<Revocation>) => told.map(({ by, why }) => [by, why])

describe("a holder that is asked to leave", () => {
  it.effect("reads by whom, why and for how long, and hands the lock over when it leaves", () =>
    Effect.gen(function*() {
      const { locker, operator, sent } = yield* adminSetting()
      let lease: Lease | undefined
      const held = yield* fork(locker.withLock("k", (mine) => {
        lease = mine
        return Effect.flatMap(mine.revocation, (revocation) => Effect.as(Effect.sleep(500), revocation))
      }))
      const other = yield* grantedAt(operator)
      yield* TestClock.adjust("1 second")
      const revoking = yield* revoke(operator, "2 seconds", "maintenance")
      yield* TestClock.adjust(499)
      assert.isUndefined(held.pollUnsafe())
      const late = yield* lease!.revocation
      assert.deepStrictEqual([late.by, late.why, yield* millis(Effect.succeed(late.grace))], [
        "operator",
        "maintenance",
        1_501
      ])
      yield* TestClock.adjust(1)
      const first = yield* Fiber.join(held)
      assert.deepStrictEqual([first.by, first.why, yield* millis(Effect.succeed(first.grace))], [
        "operator",
        "maintenance",
        2_000
      ])
      assert.strictEqual(yield* Fiber.join(other), 1_500)
      yield* TestClock.adjust(50)
      assert.strictEqual(yield* Fiber.join(revoking), "released")
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(sent("renew").length, 0)
      assert.strictEqual(sent("withdraw").length, 1)
      assert.strictEqual((yield* lease!.revocation).by, "operator")
    }))

  it.effect("and stays is interrupted when its grace is over, and others are in only after it has ended", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        const { locker, operator, sent } = yield* adminSetting()
        const interrupted: { at?: number } = {}
        const held = yield* fork(Effect.flip(locker.withLock("k", endingIn("800 millis", interrupted))))
        const other = yield* grantedAt(operator)
        const revoking = yield* revoke(operator, "2 seconds", "maintenance")
        yield* TestClock.adjust(1_999)
        assert.isUndefined(interrupted.at)
        yield* TestClock.adjust(1)
        assert.strictEqual(interrupted.at, 2_000)
        yield* TestClock.adjust(799)
        assert.isUndefined(other.pollUnsafe())
        assert.isUndefined(revoking.pollUnsafe())
        assert.strictEqual(sent("withdraw").length, 0)
        yield* TestClock.adjust(1)
        assert.strictEqual(yield* Fiber.join(other), 2_800)
        const lost = lostBy(yield* Fiber.join(held))
        assert.deepStrictEqual([lost.reason, lost.revocation], ["Revoked", { by: "operator", why: "maintenance" }])
        assert.strictEqual(lost.message, "Lost the lock \"k\" (Revoked): it was revoked by operator: maintenance")
        yield* TestClock.adjust("1 second")
        assert.strictEqual(yield* Fiber.join(revoking), "released")
        assert.deepStrictEqual(lines.map(({ message }) => message), [
          "The holder of the lock \"k\" is asked to leave within 2 s by operator: maintenance",
          lost.message
        ])
        assert.strictEqual(sent("withdraw").length, 1)
        assert.strictEqual(sent("renew").length, 0)
      })
    ))

  it.effect("and does not end runs out a ttl and a guard gap after its last renewal, and nobody is in before", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        const { locker, operator, sent } = yield* adminSetting({ warnAfter: "Infinity" })
        const held = yield* fork(Effect.flip(locker.withLock("k", deaf("100 seconds"))))
        const other = yield* grantedAt(operator)
        yield* TestClock.adjust("10 seconds")
        const revoking = yield* revoke(operator, "1.5 seconds")
        yield* TestClock.adjust(2_399)
        assert.isUndefined(revoking.pollUnsafe())
        yield* TestClock.adjust(1)
        assert.strictEqual(yield* Fiber.join(revoking), "running")
        // It was renewed last at 9 s.
        yield* TestClock.adjust(6_499)
        assert.isUndefined(other.pollUnsafe())
        assert.strictEqual(sent("renew").length, 3)
        yield* TestClock.adjust(1)
        assert.strictEqual(yield* Fiber.join(other), 18_900)
        assert.isUndefined(held.pollUnsafe())
        yield* TestClock.adjust("90 seconds")
        assert.strictEqual(lostBy(yield* Fiber.join(held)).reason, "Revoked")
        assert.strictEqual(sent("renew").length, 3)
        assert.strictEqual(sent("withdraw").length, 1)
        assert.match(lines.at(-1)!.message, /not released before it ran out, and others get it in 0\.9 s/)
        assert.strictEqual(lines.length, 3)
      })
    ))

  it.effect("and ends between its grace and its deadline leaves at once", () =>
    Effect.gen(function*() {
      const { locker, operator } = yield* adminSetting()
      const held = yield* fork(Effect.flip(locker.withLock("k", deaf("7 seconds"))))
      const other = yield* grantedAt(operator)
      yield* revoke(operator)
      yield* TestClock.adjust("6.9 seconds")
      assert.isUndefined(other.pollUnsafe())
      yield* TestClock.adjust(100)
      assert.strictEqual(yield* Fiber.join(other), 7_000)
      assert.strictEqual(lostBy(yield* Fiber.join(held)).reason, "Revoked")
    }))

  it.effect("is told at its next renewal if the notice was lost: within the grace", () =>
    Effect.gen(function*() {
      const { admin, memory, operator } = yield* adminSetting()
      const deafened = yield* lockerOver({ ...memory, losses: Stream.empty }, { defaultTtl: "9 seconds" }, admin)
      const interrupted: { at?: number } = {}
      const held = yield* fork(Effect.flip(deafened.withLock("k", (lease) =>
        Effect.andThen(
          Effect.flatMap(
            lease.revocation,
            ({ grace }) => Effect.map(millis(Effect.succeed(grace)), (left) => assert.strictEqual(left, 7_100))
          ),
          endingIn(0, interrupted)
        ))))
      yield* TestClock.adjust("3.1 seconds")
      yield* revoke(operator, "10 seconds", "maintenance")
      yield* TestClock.adjust(9_999)
      assert.isUndefined(interrupted.at)
      yield* TestClock.adjust(1)
      assert.strictEqual(interrupted.at, 13_100)
      assert.deepStrictEqual(lostBy(yield* Fiber.join(held)).revocation, { by: "operator", why: "maintenance" })
    }))

  it.effect("is told at its next renewal if the notice was lost: after the grace", () =>
    Effect.gen(function*() {
      const { admin, memory, operator } = yield* adminSetting()
      const deafened = yield* lockerOver({ ...memory, losses: Stream.empty }, { defaultTtl: "9 seconds" }, admin)
      const told: Array<Revocation> = []
      const held = yield* fork(Effect.flip(deafened.withLock("k", (lease) =>
        Effect.andThen(
          Effect.map(lease.revocation, (one) => told.push(one)),
          deaf("100 seconds")
        ))))
      const other = yield* grantedAt(operator)
      yield* TestClock.adjust("3.1 seconds")
      yield* revoke(operator, "1 second")
      yield* TestClock.adjust("2.8 seconds")
      assert.strictEqual(told.length, 0)
      yield* TestClock.adjust("0.1 seconds")
      assert.deepStrictEqual(revocationIn(told), [["operator", undefined]])
      // It was confirmed last at 3 s.
      yield* TestClock.adjust(6_899)
      assert.isUndefined(other.pollUnsafe())
      yield* TestClock.adjust(1)
      assert.strictEqual(yield* Fiber.join(other), 12_900)
      yield* TestClock.adjust("100 seconds")
      assert.deepStrictEqual(lostBy(yield* Fiber.join(held)).revocation, { by: "operator" })
    }))

  it.effect("is not saved by a confirmation that arrives after its grace", () =>
    Effect.gen(function*() {
      const { faulty, locker, operator, sent } = yield* adminSetting()
      const held = yield* fork(Effect.flip(locker.withLock("k", deaf("100 seconds"))))
      yield* TestClock.adjust("8 seconds")
      const replies = yield* faulty.holdReplies("renew")
      yield* TestClock.adjust("1 second")
      yield* replies.caught
      yield* revoke(operator, "0.5 seconds")
      yield* TestClock.adjust("0.6 seconds")
      yield* replies.release
      const other = yield* grantedAt(operator)
      // The last confirmation that came in time was that of 6 s.
      yield* TestClock.adjust(6_299)
      assert.isUndefined(other.pollUnsafe())
      yield* TestClock.adjust(1)
      assert.strictEqual(yield* Fiber.join(other), 15_900)
      assert.strictEqual(sent("renew").length, 3)
      yield* TestClock.adjust("100 seconds")
      assert.strictEqual(lostBy(yield* Fiber.join(held)).reason, "Revoked")
    }))

  it.effect("gets less time from a second revocation, and never more", () =>
    Effect.gen(function*() {
      for (const [first, second, why] of [["8 seconds", "2 seconds", "2"], ["2 seconds", "8 seconds", "1"]] as const) {
        const { locker, operator } = yield* adminSetting()
        const interrupted: { at?: number } = {}
        const held = yield* fork(Effect.flip(locker.withLock("k", endingIn(0, interrupted))))
        const start = yield* now
        yield* revoke(operator, first, "1")
        yield* revoke(operator, second, "2")
        yield* TestClock.adjust(1_999)
        assert.isUndefined(interrupted.at)
        yield* TestClock.adjust(1)
        assert.strictEqual(interrupted.at, start + 2_000)
        assert.strictEqual(lostBy(yield* Fiber.join(held)).revocation?.why, why)
      }
    }))

  it.effect("believes the shortest grace that it was told, in whatever order notices arrive", () =>
    Effect.gen(function*() {
      const { faulty, locker } = yield* adminSetting()
      const interrupted: { at?: number } = {}
      const held = yield* fork(Effect.flip(locker.withLock("k", endingIn(0, interrupted))))
      const { id } = faulty.calls[0]!.claims[0]!
      for (const seconds of [5, 2, 8, 1, 3]) {
        yield* faulty.revoke(id, { by: `${seconds}`, grace: Duration.seconds(seconds) })
        yield* faulty.revoke("somebody", { by: "nobody", grace: Duration.zero })
      }
      yield* TestClock.adjust(999)
      assert.isUndefined(interrupted.at)
      yield* TestClock.adjust(1)
      assert.strictEqual(interrupted.at, 1_000)
      assert.deepStrictEqual(lostBy(yield* Fiber.join(held)).revocation, { by: "1" })
    }))

  it.effect("that releases in time has lost nothing, and its next hold is not concerned", () =>
    Effect.gen(function*() {
      const { locker, operator } = yield* adminSetting()
      const held = yield* fork(locker.withLock("k", Effect.as(Effect.sleep("1 second"), "done")))
      yield* revoke(operator, "2 seconds")
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* Fiber.join(held), "done")
      const again = yield* fork(locker.withLock("k", Effect.as(Effect.sleep("20 seconds"), "done")))
      yield* TestClock.adjust("20 seconds")
      assert.strictEqual(yield* Fiber.join(again), "done")
    }))

  it.effect("and is interrupted by its caller releases as always", () =>
    Effect.gen(function*() {
      const { locker, operator, sent } = yield* adminSetting()
      const held = yield* fork(locker.withLock("k", Effect.never))
      const other = yield* grantedAt(operator)
      const revoking = yield* revoke(operator, "2 seconds")
      yield* TestClock.adjust("1 second")
      yield* Fiber.interrupt(held)
      assert.strictEqual(yield* Fiber.join(other), 1_000)
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(yield* Fiber.join(revoking), "released")
      assert.strictEqual(sent("withdraw").length, 1)
    }))

  it.effect("and loses its lock in the grace is told the reason of that", () =>
    Effect.gen(function*() {
      const { faulty, locker, operator } = yield* adminSetting()
      const held = yield* fork(Effect.flip(locker.withLock("k", Effect.never)))
      yield* revoke(operator, "2 seconds")
      yield* TestClock.adjust("1 second")
      yield* faulty.lose(faulty.calls[0]!.claims[0]!.id, "Expired")
      yield* TestClock.adjust("2 seconds")
      const lost = lostBy(yield* Fiber.join(held))
      assert.deepStrictEqual([lost.reason, lost.revocation], ["Expired", undefined])
    }))

  it.effect("while its program ends after its maxHold is renewed no more, and runs out", () =>
    Effect.gen(function*() {
      const { locker, operator, sent } = yield* adminSetting()
      const options = { maxHold: "10 seconds", guardGap: "30 seconds" } as const
      const held = yield* fork(Effect.flip(locker.withLock("k", deaf("200 seconds"), options)))
      const other = yield* grantedAt(operator)
      yield* TestClock.adjust("13 seconds")
      yield* revoke(operator, "0.5 seconds")
      yield* TestClock.adjust("3 seconds")
      // The renewal at 15 s is refused, so that of 12 s was the last one.
      assert.strictEqual(sent("renew").length, 5)
      yield* TestClock.adjust(34_999)
      assert.isUndefined(other.pollUnsafe())
      yield* TestClock.adjust(1)
      assert.strictEqual(yield* Fiber.join(other), 51_000)
      assert.strictEqual(sent("renew").length, 5)
      yield* TestClock.adjust("200 seconds")
      assert.strictEqual(lostBy(yield* Fiber.join(held)).reason, "MaxHold")
    }))

  it.effect("and reaches its maxHold in the grace is lost because of that, and one whose grace is over first is not", () =>
    Effect.gen(function*() {
      for (const [maxHold, reason] of [["1 second", "MaxHold"], ["3 seconds", "Revoked"]] as const) {
        const { locker, operator, sent } = yield* adminSetting()
        const held = yield* fork(Effect.flip(locker.withLock("k", endingIn("0.5 seconds", {}), { maxHold })))
        yield* revoke(operator, "2 seconds")
        yield* TestClock.adjust("10 seconds")
        assert.strictEqual(lostBy(yield* Fiber.join(held)).reason, reason)
        assert.strictEqual(sent("withdraw").length, 1)
      }
    }))

  it.effect("finds its lock held when it asks for it once more while it ends", () =>
    Effect.gen(function*() {
      const { locker, operator } = yield* adminSetting()
      let found: string | undefined
      const program = Effect.onInterrupt(Effect.never, () =>
        Effect.map(
          Effect.exit(locker.withLock("k", Effect.void)),
          (exit) => found = Exit.isFailure(exit) ? String(exit.cause) : "entered"
        ))
      const held = yield* fork(Effect.flip(locker.withLock("k", program)))
      yield* revoke(operator)
      yield* TestClock.adjust("1 second")
      assert.strictEqual(lostBy(yield* Fiber.join(held)).reason, "Revoked")
      assert.match(found!, /LockAlreadyHeld/)
    }))
})

describe("a locker that closes", () => {
  it.effect.each([["in the grace", 500], ["after the grace", 3_000]] as const)(
    "%s gives the lock back when its program has ended, or the guard gap is over",
    ([, after]) =>
      Effect.gen(function*() {
        for (const [ends, free] of [["1 second", "early"], ["100 seconds", "late"]] as const) {
          const { admin, memory, operator } = yield* adminSetting()
          const scope = yield* Scope.make()
          const locker = yield* Scope.provide(lockerOver({ ...memory }, { defaultTtl: "9 seconds" }, admin), scope)
          const start = yield* now
          const ended = Effect.onInterrupt(Effect.never, () => Effect.sleep(ends))
          const held = yield* fork(Effect.flip(locker.withLock("k", ended)))
          const other = yield* grantedAt(operator)
          yield* revoke(operator, "2 seconds")
          yield* TestClock.adjust(after)
          const closing = yield* fork(Scope.close(scope, Exit.void))
          yield* TestClock.adjust(free === "early" && after > 2_000 ? 0 : 900)
          const exit = closing.pollUnsafe()
          assert.isDefined(exit)
          assert.isTrue(Exit.isSuccess(exit!))
          assert.isAtMost(yield* Fiber.join(other), start + after + 900)
          yield* TestClock.adjust("200 seconds")
          assert.strictEqual(lostBy(yield* Fiber.join(held)).reason, "Revoked")
        }
      })
  )
})

it.effect("a lease that has ended is forgotten, however long its grace was", () =>
  Effect.gen(function*() {
    const real = yield* Time.make
    let timers = 0
    const time: Time.Time = {
      ...real,
      sleep: (millis) =>
        Effect.suspend(() => {
          timers++
          return Effect.ensuring(real.sleep(millis), Effect.sync(() => void timers--))
        })
    }
    const run = yield* FiberSet.makeRuntime<never>()
    const log = yield* Log.make
    const meters = new Meters(time, yield* Effect.context<never>(), "memory")
    const events = new Events(log, new Outage(log, time, "the store"), time, meters, run)
    const revocations = new Revocations(time, events, log, run)
    const ended: Array<() => void> = []
    const lease = {
      key: "k",
      state: "held" as const,
      host: { time },
      revoke: () => assert.fail("not yet"),
      whenEnded: (observer: () => void) => ended.push(observer)
    }
    yield* TestClock.adjust("1 second")
    const before = timers
    revocations.ask(lease, { by: "operator", grace: Duration.hours(1) })
    yield* TestClock.adjust("5 seconds")
    assert.strictEqual(timers - before, 1)
    for (const observer of ended) observer()
    yield* TestClock.adjust("1 second")
    assert.strictEqual(timers - before, 0)
  }))

describe("every kind of lease", () => {
  it.effect("of a scope is lost, tells it everywhere, and keeps others out until the scope closes", () =>
    Effect.gen(function*() {
      const { locker, operator } = yield* adminSetting()
      const scope = yield* Scope.make()
      const lease = yield* Scope.provide(locker.scoped("k"), scope)
      const working = yield* fork(Effect.flip(lease.whileHeld(Effect.never)))
      const losing = yield* fork(Effect.flip(lease.lost))
      const asked = yield* fork(lease.revocation)
      const other = yield* grantedAt(operator)
      yield* revoke(operator, "2 seconds", "maintenance")
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* Fiber.join(asked)).why, "maintenance")
      yield* lease.ensureHeld
      yield* TestClock.adjust("1 second")
      const errors = [
        yield* Fiber.join(working),
        yield* Fiber.join(losing),
        yield* Effect.flip(Fiber.join(lease.renewal)),
        yield* Effect.flip(lease.ensureHeld)
      ]
      for (const error of errors) assert.strictEqual(lostBy(error).revocation?.by, "operator")
      assert.strictEqual(yield* millis(lease.remaining), 0)
      yield* TestClock.adjust("1 second")
      assert.isUndefined(other.pollUnsafe())
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(yield* Fiber.join(other), 3_000)
    }))

  it.effect("of several locks is lost with the one that is revoked, and all are kept until the program has ended", () =>
    Effect.gen(function*() {
      const { locker, operator, sent } = yield* adminSetting()
      const told: Array<Revocation> = []
      const held = yield* fork(
        Effect.flip(locker.withLocks(["a", "b"], (leases: Leases) =>
          Effect.andThen(
            Effect.map(leases.revocation, (one) => told.push(one)),
            endingIn("0.5 seconds", {})
          )))
      )
      const others = [yield* grantedAt(operator, "a"), yield* grantedAt(operator, "b")]
      const revoking = yield* revoke(operator, "2 seconds", "maintenance", "b")
      yield* TestClock.adjust("2.4 seconds")
      assert.deepStrictEqual(revocationIn(told), [["operator", "maintenance"]])
      assert.deepStrictEqual(others.map((fiber) => fiber.pollUnsafe()), [undefined, undefined])
      yield* TestClock.adjust(100)
      for (const other of others) assert.strictEqual(yield* Fiber.join(other), 2_500)
      const lost = lostBy(yield* Fiber.join(held))
      assert.deepStrictEqual([lost.key, lost.reason], ["b", "Revoked"])
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(yield* Fiber.join(revoking), "released")
      assert.strictEqual(sent("withdraw").length, 1)
    }))

  it.effect("that re-enters is told and ends with the outer one", () =>
    Effect.gen(function*() {
      const { locker, operator } = yield* adminSetting()
      const told: Array<Revocation> = []
      const inner = locker.withLock(
        "k",
        (lease) => Effect.andThen(Effect.map(lease.revocation, (one) => told.push(one)), endingIn(200, {})),
        { reentrant: true }
      )
      const held = yield* fork(Effect.flip(locker.withLock("k", inner)))
      const other = yield* grantedAt(operator)
      yield* revoke(operator, "2 seconds")
      yield* TestClock.adjust("2 seconds")
      assert.deepStrictEqual(revocationIn(told), [["operator", undefined]])
      yield* TestClock.adjust(200)
      assert.strictEqual(yield* Fiber.join(other), 2_200)
      assert.strictEqual(lostBy(yield* Fiber.join(held)).revocation?.by, "operator")
    }))

  it.effect("of permits is told alone: the other holders go on", () =>
    Effect.gen(function*() {
      const { locker, operator } = yield* adminSetting()
      const semaphore = yield* Effect.provideService(
        DistributedSemaphore.make("s", { permits: 3 }),
        Locker,
        locker
      )
      const told: Array<string> = []
      const holding = (name: string) =>
        fork(Effect.flip(outside(semaphore.withPermit((lease: SharedLease) =>
          Effect.andThen(
            Effect.map(lease.revocation, () => told.push(name)),
            Effect.never
          )
        ))))
      const fibers = [yield* holding("a"), yield* holding("b"), yield* holding("c")]
      const { holders } = yield* operator.inspect("s")
      const revoking = yield* fork(operator.revoke("s", { token: holders[1]!.token, grace: "2 seconds" }))
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(told, ["b"])
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(yield* Fiber.join(revoking), "released")
      assert.deepStrictEqual(
        fibers.map((fiber) => fiber.pollUnsafe() !== undefined),
        [false, true, false]
      )
      assert.strictEqual((yield* operator.inspect("s")).permitsHeld, 2)
    }))

  it.effect("of which nobody is asked to leave never completes its revocation", () =>
    Effect.gen(function*() {
      const { locker } = yield* adminSetting()
      const scope = yield* Scope.make()
      const lease = yield* Scope.provide(locker.scoped("k"), scope)
      const waiting = yield* fork(lease.revocation)
      yield* Scope.close(scope, Exit.void)
      const late = yield* fork(lease.revocation)
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual([waiting.pollUnsafe(), late.pollUnsafe()], [undefined, undefined])
    }))

  it.effect("costs no call and no wait more where nobody revokes", () =>
    Effect.gen(function*() {
      const { faulty, locker } = yield* adminSetting()
      for (let time = 0; time < 3; time++) yield* locker.withLock("k", Effect.void)
      assert.deepStrictEqual(
        faulty.calls.map(({ operation }) => operation),
        Array.from({ length: 3 }, () => ["request", "withdraw"]).flat()
      )
    }))
})

describe("revoke", () => {
  it.effect("of another hold does nothing", () =>
    Effect.gen(function*() {
      const { locker, operator } = yield* adminSetting()
      yield* locker.withLock("k", Effect.void)
      const held = yield* fork(locker.withLock("k", Effect.as(Effect.sleep("20 seconds"), "done")))
      const token = yield* tokenOf(operator)
      for (const other of [token - 1n, token + 1n, 0n, -1n]) {
        assert.strictEqual(yield* operator.revoke("k", { token: other }), "notHeld")
        assert.strictEqual(yield* operator.breakLock("k", { token: other }), false)
      }
      assert.strictEqual(yield* operator.revoke("free", { token }), "notHeld")
      yield* TestClock.adjust("20 seconds")
      assert.strictEqual(yield* Fiber.join(held), "done")
    }))

  it.effect("finds out that the hold has ended without a hint, and among very many holders", () =>
    Effect.gen(function*() {
      const { admin, locker, memory } = yield* adminSetting()
      const { changes: _, ...silent } = admin
      const operator = yield* lockerOver(memory, { defaultTtl: "9 seconds" }, silent)
      const semaphore = yield* Effect.provideService(DistributedSemaphore.make("s", { permits: 200 }), Locker, locker)
      const grants: Array<bigint> = []
      const holding = fork(Effect.exit(outside(semaphore.withPermit((lease: SharedLease) => {
        const ends = grants.push(lease.grant) === 141 ? "0.5 seconds" : 0
        return Effect.onInterrupt(Effect.never, () => Effect.sleep(ends))
      }))))
      for (let count = 0; count < 150; count++) yield* holding
      const { holderCount, holders } = yield* operator.inspect("s")
      assert.deepStrictEqual([holderCount, holders.length], [150, 100])
      const revoking = yield* fork(operator.revoke("s", { token: grants[140]! }))
      yield* TestClock.adjust("0.5 seconds")
      assert.isUndefined(revoking.pollUnsafe())
      yield* TestClock.adjust("0.4 seconds")
      assert.strictEqual(yield* Fiber.join(revoking), "released")
      assert.strictEqual((yield* operator.inspect("s")).holderCount, 149)
    }))

  it.effect("asks again where the backend has lost the mark, and gives no more time", () =>
    Effect.gen(function*() {
      const { admin, locker, memory } = yield* adminSetting()
      const graces: Array<number> = []
      const operator = yield* lockerOver(memory, { defaultTtl: "9 seconds" }, {
        ...admin,
        // A server that failed before a replica had the mark.
        revoke: (on, request) =>
          Effect.suspend(() => graces.push(request.grace) === 1 ? Effect.succeed("asked") : admin.revoke(on, request))
      })
      const noted: { at?: number } = {}
      const begun = yield* now
      yield* fork(Effect.exit(outside(locker.withLock("k", endingIn(0, noted)))))
      const token = yield* tokenOf(operator)
      const revoking = yield* fork(operator.revoke("k", { token, grace: "1 second" }))
      yield* TestClock.adjust("1.1 seconds")
      assert.strictEqual(noted.at! - begun, 1_000)
      assert.deepStrictEqual(revoking.pollUnsafe(), Exit.succeed("released"))
      assert.isAtMost(graces.length, 2)
    }))

  it.effect("waits no longer for a backend that falls silent", () =>
    Effect.gen(function*() {
      const { faulty, locker, operator } = yield* adminSetting()
      yield* fork(Effect.exit(outside(operator.withLock("k", deaf("1 minute")))))
      const token = yield* tokenOf(locker)
      yield* faulty.hang("inspect")
      const revoking = yield* fork(locker.revoke("k", { token, grace: "1 second" }))
      yield* TestClock.adjust(1_900)
      assert.deepStrictEqual(revoking.pollUnsafe(), Exit.succeed("running"))
      const again = yield* fork(locker.revoke("k", { token, grace: 0 }))
      yield* TestClock.adjust(1_000)
      assert.deepStrictEqual(again.pollUnsafe(), Exit.succeed("running"))
      yield* faulty.heal()
      yield* TestClock.adjust("1 minute")
    }))

  it.effect("asks a bounded number of times about a lock that changes all the time", () =>
    Effect.gen(function*() {
      const { faulty, locker, memory, sent } = yield* adminSetting()
      const busy = Stream.fromEffectRepeat(Effect.sleep(1))
      const admin = { ...faulty.admin!, changes: () => busy }
      const operator = yield* lockerOver(memory, { defaultTtl: "9 seconds" }, admin)
      yield* fork(Effect.exit(outside(locker.withLock("k", deaf("1 minute")))))
      const token = yield* tokenOf(operator)
      const before = sent("inspect").length
      const revoking = yield* fork(operator.revoke("k", { token, grace: "1.1 seconds" }))
      for (let time = 0; time < 2_000; time++) yield* TestClock.adjust(1)
      assert.strictEqual(yield* Fiber.join(revoking), "running")
      assert.isAtMost(sent("inspect").length - before, 82)
      yield* TestClock.adjust("1 minute")
    }))

  it.effect("that looks for one of very many holders hears nothing of its own questions", () =>
    Effect.gen(function*() {
      const { locker, operator, sent } = yield* adminSetting()
      const semaphore = yield* Effect.provideService(DistributedSemaphore.make("s", { permits: 200 }), Locker, operator)
      const grants: Array<bigint> = []
      const holding = fork(Effect.exit(outside(semaphore.withPermit((lease: SharedLease) => {
        grants.push(lease.grant)
        return Effect.never
      }))))
      for (let count = 0; count < 150; count++) yield* holding
      const revoking = yield* fork(locker.revoke("s", { token: grants[140]!, grace: "10 seconds" }))
      for (let time = 0; time < 200; time++) yield* TestClock.adjust(50)
      assert.strictEqual(yield* Fiber.join(revoking), "released")
      assert.isAtMost(sent("inspect").length, 25)
    }))

  it.effect("tells that a client of another library runs on, and waits for nothing", () =>
    Effect.gen(function*() {
      const { admin, memory } = yield* adminSetting()
      const operator = yield* lockerOver(memory, {}, { ...admin, revoke: () => Effect.succeed("foreign") })
      assert.strictEqual(yield* operator.revoke("k", { token: 1n, grace: "1 hour" }), "running")
    }))

  it.effect("that cannot see how it ends says that the program may run", () =>
    Effect.gen(function*() {
      const { faulty, locker, operator } = yield* adminSetting()
      yield* fork(Effect.exit(outside(operator.withLock("k", deaf("1 minute")))))
      const token = yield* tokenOf(locker)
      yield* faulty.fail("inspect")
      const revoking = yield* fork(locker.revoke("k", { token, grace: "1 second" }))
      yield* TestClock.adjust(1_899)
      assert.isUndefined(revoking.pollUnsafe())
      yield* TestClock.adjust(1)
      assert.strictEqual(yield* Fiber.join(revoking), "running")
      const cause = new Error("no permission")
      yield* faulty.fail("inspect", new LockBackendError({ operation: "inspect", retryable: false, cause }))
      const error = (yield* Effect.flip(locker.revoke("k", { token }))) as LockBackendError
      assert.deepStrictEqual([error._tag, error.key], ["LockBackendError", "k"])
      yield* faulty.fail("revoke")
      assert.strictEqual((yield* Effect.flip(locker.revoke("k", { token })))._tag, "LockBackendError")
      yield* TestClock.adjust("1 minute")
    }))

  it.effect("refuses what nobody can mean, before anything is sent", () =>
    Effect.gen(function*() {
      const { locker, sent } = yield* adminSetting()
      const wrong: ReadonlyArray<readonly [parameter: string, options: unknown, key?: string]> = [
        ["key", { token: 1n }, ""],
        ["options", undefined],
        ["token", {}],
        ["token", { token: 1 }],
        ["token", { token: "1" }],
        ["grace", { token: 1n, grace: -1 }],
        ["grace", { token: 1n, grace: "Infinity" }],
        ["grace", { token: 1n, grace: "soon" }],
        ["why", { token: 1n, why: 7 }],
        ["why", { token: 1n, why: "a\0b" }],
        ["why", { token: 1n, why: "é".repeat(513) }],
        ["wy", { token: 1n, wy: "because" }]
      ]
      for (const [parameter, options, key = "k"] of wrong) {
        const error = (yield* Effect.flip(locker.revoke(key, options as never))) as InvalidLockRequest
        assert.deepStrictEqual([error._tag, error.parameter], ["InvalidLockRequest", parameter])
      }
      const error = (yield* Effect.flip(locker.breakLock("k", { token: 1 as never }))) as InvalidLockRequest
      assert.strictEqual(error.parameter, "token")
      assert.deepStrictEqual([sent("revoke").length, sent("breakLock").length], [0, 0])
      assert.strictEqual(yield* locker.revoke("k", { token: 1n, why: "é".repeat(512) }), "notHeld")
    }))
})

describe("breakLock", () => {
  it.effect("lets the next in at once, and the holder finds that out at its next renewal", () =>
    Effect.gen(function*() {
      const { locker, operator, sent } = yield* adminSetting()
      const interrupted: { at?: number } = {}
      const held = yield* fork(Effect.flip(locker.withLock("k", endingIn(0, interrupted))))
      const other = yield* fork(
        outside(operator.withLock("k", Effect.andThen(now, (at) => Effect.as(Effect.sleep("5 seconds"), at))))
      )
      yield* TestClock.adjust("1 second")
      assert.isTrue(yield* operator.breakLock("k", { token: yield* tokenOf(operator) }))
      yield* TestClock.adjust("2 seconds")
      const lost = lostBy(yield* Fiber.join(held))
      assert.deepStrictEqual([lost.reason, interrupted.at, lost.revocation], ["Replaced", 3_000, undefined])
      yield* TestClock.adjust("3 seconds")
      assert.strictEqual(yield* Fiber.join(other), 1_000)
      assert.strictEqual(sent("withdraw").length, 0)
    }))
})

describe("OwnershipLost by a revocation", () => {
  it("survives the round trip through JSON", () => {
    for (const revocation of [{ by: "operator", why: "maintenance" }, { by: "operator" }, undefined]) {
      const lost = new OwnershipLost({
        key: "k",
        fencingToken: 7n,
        reason: "Revoked",
        lastConfirmedAgo: Schema.decodeSync(Schema.DurationFromMillis)(5),
        ...(revocation !== undefined && { revocation })
      })
      const text = JSON.parse(JSON.stringify(lost))
      const decoded = Schema.decodeUnknownSync(OwnershipLost)(text)
      assert.deepStrictEqual(decoded.revocation, revocation)
      assert.strictEqual(decoded.message, lost.message)
    }
  })
})

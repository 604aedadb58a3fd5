import { assert, describe, it } from "@effect/vitest"
import { Clock, type Duration, Effect, Fiber, type Scope } from "effect"
import { Leader, type Lease, type OwnershipLost } from "effect-dlock"
import { TestClock } from "effect/testing"
import { checkFree, deaf, diary, end, its, lostBy, stateOf, two } from "./leaderSupport.ts"
import { adminSetting, fork, lockerOver, setting, shiftedSetting, withLogs } from "./support.ts"

// The ttl of these locks is 9 s and their guard gap 0.9 s, and they are renewed every 3 s.

describe("Leader.resign", () => {
  it.effect("steps down when the program has ended, and stands again after the cool-down", () =>
    Effect.gen(function*() {
      const { one, two: second } = yield* two
      const { lines, note, program } = diary()
      const resigning = Effect.andThen(Effect.sleep("5 seconds"), Leader.resign).pipe(
        Effect.onInterrupt(() => Effect.andThen(Effect.sleep("20 seconds"), note("one ends")))
      )
      const leader = yield* fork(
        one(Leader.run("role", Effect.andThen(note("one begins"), resigning), { cooldown: "10 seconds" }))
      )
      const other = yield* fork(second(Leader.run("role", program("two"))))
      yield* TestClock.adjust("27 seconds")
      assert.deepStrictEqual(lines, ["0 one begins", "25 one ends", "25 two begins term 2"])
      // It is not elected while it cools down, also if nobody leads.
      yield* Fiber.interrupt(other)
      yield* TestClock.adjust("7999 millis")
      assert.strictEqual(lines.length, 4)
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(lines.slice(3), ["27 two ends", "35 one begins"])
      yield* end(leader)
    }))

  it.effect("cools down for the ttl, unless told otherwise", () =>
    Effect.gen(function*() {
      const { one } = yield* two
      const { lines, note } = diary()
      const resigns = (options: Leader.LeaderOptions) =>
        Effect.gen(function*() {
          const leader = yield* fork(one(Leader.run("role", Effect.andThen(note("begins"), Leader.resign), options)))
          yield* TestClock.adjust("20 seconds")
          yield* Fiber.interrupt(leader)
          return lines.splice(0).map((line) => Number(line.split(" ")[0]))
        })
      assert.deepStrictEqual(yield* resigns({}), [0, 9, 18])
      assert.deepStrictEqual(yield* resigns({ ttl: "15 seconds" }), [20, 35])
    }))

  it.effect("with restart: \"never\" ends the call", () =>
    Effect.gen(function*() {
      const { locker, one } = yield* two
      const error = lostBy(yield* Effect.flip(one(Leader.run("role", Leader.resign, { restart: "never" }))))
      assert.deepInclude(error, { key: "role", fencingToken: 1n, reason: "Revoked" })
      assert.deepStrictEqual(error.revocation, { by: "one", why: "it resigned" })
      assert.isTrue(yield* checkFree(locker))
    }))

  it.effect("works in a child, in the section of another lock, and where nothing can be interrupted", () =>
    Effect.gen(function*() {
      const { locker, one } = yield* two
      const resigns = (program: Effect.Effect<unknown, unknown, Lease | Scope.Scope>) =>
        Effect.gen(function*() {
          const run = one(Leader.run("role", program, { restart: "never" }))
          const leader = yield* fork(Effect.flip(run))
          yield* TestClock.adjust("1 second")
          assert.strictEqual(lostBy((yield* Fiber.join(leader)) as OwnershipLost).key, "role")
          assert.isTrue(yield* checkFree(locker))
        })
      yield* resigns(Effect.all([Effect.never, Effect.andThen(Effect.sleep(100), Leader.resign)], {
        concurrency: "unbounded"
      }))
      yield* resigns(Effect.andThen(Effect.forkChild(Leader.resign), Effect.never))
      yield* resigns(locker.withLock("x", Leader.resign))
      yield* resigns(locker.withLock("x", Effect.andThen(Effect.sleep(100), locker.withLock("y", Leader.resign))))
      yield* resigns(Effect.uninterruptible(Leader.resign))
    }))

  it.effect("is a defect under a lock that is no leadership", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting()
      const exit = yield* Effect.exit(locker.withLock("role", Leader.resign))
      assert.match(String(exit), /Leader.resign/)
    }))
})

describe("the health of a leader's program", () => {
  /** When the program of a leader was interrupted, by a clock that begins with the program. */
  const steppedDownAt = (
    healthy: (at: number) => Effect.Effect<boolean, unknown>,
    cooldown: Duration.Input = "1 hour"
  ) =>
    Effect.gen(function*() {
      const { locker, one } = yield* two
      const { lines, program } = diary()
      const start = yield* Clock.currentTimeMillis
      const check = Effect.flatMap(Clock.currentTimeMillis, (now) => healthy(now - start))
      const leader = yield* fork(one(Leader.run("role", program("one"), { healthy: check, cooldown })))
      yield* TestClock.adjust("5 minutes")
      const free = yield* checkFree(locker)
      yield* Fiber.interrupt(leader)
      const end = lines.find((line) => line.endsWith("ends"))
      const at = end === undefined ? 0 : Number(end.split(" ")[0]) - start / 1_000
      assert.strictEqual(free, at < 300)
      return at
    })

  it.effect("ends its leadership when it was not well for a ttl: no, silence, a failure and a defect are all the same", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* steppedDownAt(() => Effect.succeed(false)), 9)
      assert.strictEqual(yield* steppedDownAt(() => Effect.never), 9)
      assert.strictEqual(yield* steppedDownAt(() => Effect.fail("no")), 9)
      assert.strictEqual(yield* steppedDownAt(() => Effect.die("a bug")), 9)
      assert.strictEqual(yield* steppedDownAt(() => Effect.succeed("yes" as never)), 9)
      // It was asked at 3, 6, …, 60.
      assert.strictEqual(yield* steppedDownAt((at) => Effect.succeed(at <= 61_000)), 69)
    }))

  it.effect("may be bad for a while", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* steppedDownAt(() => Effect.succeed(true)), 300)
      assert.strictEqual(yield* steppedDownAt((at) => Effect.succeed(at % 12_000 < 4_000)), 300)
      assert.strictEqual(yield* steppedDownAt((at) => at % 12_000 < 9_000 ? Effect.succeed(true) : Effect.never), 300)
    }))

  it.effect("is asked once more after a pause of this process", () =>
    Effect.gen(function*() {
      const { locker, shift } = yield* shiftedSetting
      const { lines, program } = diary()
      let asked = 0
      const healthy = Effect.andThen(Effect.sleep(100), Effect.sync(() => ++asked !== 2))
      yield* fork(its(locker)(Leader.run("role", program("one"), { ttl: "21 seconds", healthy })))
      // Its last yes was at 7 s, and the lock was confirmed at 14 s.
      yield* TestClock.adjust("15 seconds")
      shift.monotonic += 13_000
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(lines.length, 1)
      assert.isAbove(asked, 5)
    }))

  it.effect("is told of, and the process cools down while another one leads", () =>
    withLogs((logged) =>
      Effect.gen(function*() {
        const { one, two: second } = yield* two
        const { lines, program } = diary()
        const leader = yield* fork(
          one(Leader.run("role", program("one", "5 seconds"), { healthy: Effect.succeed(false) }))
        )
        const other = yield* fork(second(Leader.run("role", program("two"))))
        yield* TestClock.adjust("15 seconds")
        yield* Fiber.interrupt(other)
        yield* TestClock.adjust("9 seconds")
        assert.deepStrictEqual(lines, [
          "0 one begins term 1",
          "14 one ends",
          "14 two begins term 2",
          "15 two ends",
          "23 one begins term 3"
        ])
        yield* end(leader)
        assert.isTrue(
          logged.some(({ message }) => message === "The leader steps down: its program was not healthy for 9 s")
        )
      })
    ))

  it.effect("of a program that ignores its interruption: it is renewed no more, and another one leads", () =>
    Effect.gen(function*() {
      const { locker, one, sent, two: second } = yield* two
      const { lines, program } = diary()
      const stuck = Effect.andThen(Effect.sleep("1 second"), deaf("100 seconds"))
      const leader = yield* fork(one(Leader.run("role", stuck, { healthy: Effect.succeed(false) })))
      yield* fork(second(Leader.run("role", program("two"))))
      yield* TestClock.adjust("9800 millis")
      assert.strictEqual(yield* stateOf(locker), "leading")
      yield* TestClock.adjust("100 millis")
      assert.strictEqual(yield* stateOf(locker), "lost")
      // It was renewed last at 9 s.
      assert.strictEqual(sent("renew").length, 3)
      yield* TestClock.adjust("8999 millis")
      assert.deepStrictEqual(lines, [])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(lines, ["18.9 two begins term 2"])
      assert.strictEqual(sent("renew").length, 3)
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(yield* stateOf(locker), "lost")
      yield* TestClock.adjust("30 seconds")
      assert.strictEqual(yield* stateOf(locker), "standing")
      yield* Fiber.interrupt(leader)
    }))

  it.effect("does not count while the call is interrupted: a slow end keeps the lock", () =>
    Effect.gen(function*() {
      const { one, two: second } = yield* two
      const { lines, program } = diary()
      let isWell = true
      const healthy = Effect.sync(() => isWell)
      const leader = yield* fork(one(Leader.run("role", program("one", "1 minute"), { healthy })))
      yield* fork(second(Leader.run("role", program("two"))))
      yield* TestClock.adjust("2 seconds")
      isWell = false
      yield* fork(Fiber.interrupt(leader))
      yield* TestClock.adjust("2 minutes")
      assert.deepStrictEqual(lines, ["0 one begins term 1", "62 one ends", "62 two begins term 2"])
    }))

  it.effect("is asked no more when the program has ended", () =>
    Effect.gen(function*() {
      const { one } = yield* two
      let asked = 0
      const healthy = Effect.sync(() => ++asked > 0)
      const leader = yield* fork(one(Leader.run("role", Effect.sleep("10 seconds"), { healthy })))
      yield* TestClock.adjust("10 seconds")
      yield* Fiber.join(leader)
      assert.strictEqual(asked, 3)
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(asked, 3)
    }))

  it.effect("whose check ignores its interruption delays nothing", () =>
    Effect.gen(function*() {
      const { locker, one } = yield* two
      const leader = yield* fork(
        one(Leader.run("role", Effect.sleep("5 seconds"), { healthy: deaf("1 hour") as never }))
      )
      yield* TestClock.adjust("5 seconds")
      yield* Fiber.join(leader)
      assert.isTrue(yield* checkFree(locker))
    }))
})

describe("a leader that is revoked", () => {
  const revoking = Effect.gen(function*() {
    const { admin, locker, memory } = yield* adminSetting({ holder: "one" })
    const second = yield* lockerOver({ ...memory }, { defaultTtl: "9 seconds", holder: "two" }, admin)
    return { locker, one: its(locker), two: its(second), second }
  })

  it.effect("leaves after the grace, cools down while another one leads, and then stands again", () =>
    Effect.gen(function*() {
      const { locker, one, second, two } = yield* revoking
      const { lines, program } = diary()
      yield* fork(one(Leader.run("role", program("one"))))
      const other = yield* fork(two(Leader.run("role", program("two"))))
      yield* TestClock.adjust("5 seconds")
      const revoked = yield* fork(second.revoke("role", { token: 1n, grace: "2 seconds", why: "maintenance" }))
      yield* TestClock.adjust("3 seconds")
      assert.strictEqual(yield* Fiber.join(revoked), "released")
      assert.deepStrictEqual(lines, ["0 one begins term 1", "7 one ends", "7 two begins term 2"])
      yield* Fiber.interrupt(other)
      yield* TestClock.adjust("7999 millis")
      assert.strictEqual(lines.length, 4)
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(lines.slice(3), ["8 two ends", "16 one begins term 3"])
      assert.strictEqual(yield* stateOf(locker), "leading")
    }))

  it.effect("is the last in the queue, whatever its cool-down", () =>
    Effect.gen(function*() {
      const { one, second, two } = yield* revoking
      const { lines, program } = diary()
      yield* fork(one(Leader.run("role", program("one"), { cooldown: 0 })))
      yield* fork(two(Leader.run("role", program("two"))))
      yield* TestClock.adjust("5 seconds")
      yield* fork(second.revoke("role", { token: 1n }))
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(lines, ["0 one begins term 1", "5 one ends", "5 two begins term 2"])
    }))

  it.effect("with restart: \"never\" fails, and says by whom and why", () =>
    Effect.gen(function*() {
      const { one, second } = yield* revoking
      const leader = yield* fork(Effect.flip(one(Leader.run("role", Effect.never, { restart: "never" }))))
      yield* fork(second.revoke("role", { token: 1n, why: "maintenance" }))
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(lostBy(yield* Fiber.join(leader)).revocation, { by: "two", why: "maintenance" })
    }))
})

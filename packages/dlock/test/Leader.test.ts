import { assert, describe, it } from "@effect/vitest"
import { Cause, Clock, DateTime, Deferred, Duration, Effect, Exit, Fiber, Layer, Option, Scope, Stream } from "effect"
import {
  DistributedSemaphore,
  type InvalidLockRequest,
  Leader,
  Lease,
  LockBackendError,
  Locker,
  type OwnershipLost
} from "effect-dlock"
import { TestClock } from "effect/testing"
import { adminSetting, fork, lockerOver, outside, setting, shiftedSetting, withLogs } from "./support.ts"

// The ttl of these locks is 9 s and their guard gap 0.9 s, and they are renewed every 3 s.

const its = (locker: Locker["Service"]) => Effect.provideService(Locker, locker)

/** Programs that tell when they began and ended, by their names. They run until they are interrupted. */
const diary = () => {
  const lines: Array<string> = []
  const note = (text: string) =>
    Effect.flatMap(Clock.currentTimeMillis, (now) => Effect.sync(() => void lines.push(`${now / 1_000} ${text}`)))
  const program = (name: string, ending: Duration.Input = 0) =>
    Effect.flatMap(
      Lease,
      ({ fencingToken }) =>
        Effect.andThen(note(`${name} begins term ${fencingToken}`), Effect.never).pipe(
          Effect.onInterrupt(() =>
            Effect.andThen(ending === 0 ? Effect.void : Effect.sleep(ending), note(`${name} ends`))
          )
        )
    )
  return { lines, note, program }
}

/** A program that cannot be interrupted. It ends in real time too, so that a test that fails does not hang. */
const deaf = (duration: Duration.Input) =>
  Effect.uninterruptible(Effect.raceFirst(Effect.sleep(duration), TestClock.withLive(Effect.sleep("3 seconds"))))

/** Ends a leader whose program takes a while to end. */
const end = (leader: Fiber.Fiber<unknown, unknown>) =>
  Effect.andThen(fork(Fiber.interrupt(leader)), TestClock.adjust("2 minutes"))

/** Two processes: two lockers over one store. */
const two = Effect.gen(function*() {
  const { faulty, locker, memory, sent } = yield* setting({ holder: "one" })
  const other = yield* lockerOver(memory, { defaultTtl: "9 seconds", holder: "two" })
  return { faulty, sent, one: its(locker), two: its(other), locker }
})

const lostBy = (error: { readonly _tag: string }): OwnershipLost => {
  assert.strictEqual(error._tag, "OwnershipLost")
  return error as OwnershipLost
}

const checkFree = (locker: Locker["Service"]) =>
  Effect.orDie(Effect.map(outside(locker.withLockIfAvailable("role", Effect.void)), Option.isSome))

const stateOf = (locker: Locker["Service"], name = "role") =>
  its(locker)(Effect.map(Leader.status(name), ({ state }) => state))

describe("Leader.run", () => {
  it.effect("waits without limit, leads, and returns the value of its program when the lock is released", () =>
    Effect.gen(function*() {
      const { locker, memory } = yield* setting()
      const other = yield* lockerOver(memory, { defaultTimeout: "1 second" })
      const done = yield* Deferred.make<string>()
      const first = yield* fork(its(locker)(Leader.run("role", Deferred.await(done))))
      // Not even a locker whose calls have a timeout gives up.
      const second = yield* fork(
        its(other)(Leader.run("role", (lease) => Effect.succeed([lease.key, lease.fencingToken])))
      )
      yield* TestClock.adjust("1 hour")
      assert.isUndefined(second.pollUnsafe())
      yield* Deferred.succeed(done, "done")
      assert.strictEqual(yield* Fiber.join(first), "done")
      assert.deepStrictEqual(yield* Fiber.join(second), ["role", 2n])
      assert.isTrue(yield* checkFree(locker))
    }))

  it.effect("closes the scope of its program before it releases the lock, in both call forms", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting()
      const seen: Array<boolean> = []
      const program = Effect.addFinalizer(() => Effect.map(checkFree(locker), (free) => seen.push(free)))
      yield* its(locker)(Leader.run("role", program))
      yield* its(locker)(program.pipe(Leader.run("role", { ttl: "5 seconds" })))
      yield* its(locker)(program.pipe(Leader.run("role")))
      assert.deepStrictEqual(seen, [false, false, false])
      assert.isTrue(yield* checkFree(locker))
    }))

  it.effect("resigns and fails when its program fails, dies, or interrupts itself", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting()
      const exitOf = (program: Effect.Effect<never, string>) =>
        Effect.exit(its(locker)(Leader.run("role", program))).pipe(
          Effect.tap(() => Effect.map(checkFree(locker), (free) => assert.isTrue(free)))
        )
      assert.deepStrictEqual(yield* exitOf(Effect.fail("no")), Exit.fail("no"))
      const died = yield* exitOf(Effect.die("a bug"))
      assert.isTrue(Exit.isFailure(died) && Cause.hasDies(died.cause))
      const ended = yield* exitOf(Effect.interrupt)
      assert.isTrue(Exit.isFailure(ended) && Cause.hasInterruptsOnly(ended.cause))
    }))

  it.effect("does not take the failure of another lock for its own", () =>
    Effect.gen(function*() {
      const { faulty, locker } = yield* setting()
      const run = its(locker)(
        Leader.run("role", Effect.andThen(faulty.fail("request"), locker.withLock("x", Effect.void)))
      )
      const leader = yield* fork(Effect.flip(run))
      yield* TestClock.adjust("10 seconds")
      const error = yield* Fiber.join(leader)
      assert.deepInclude(error, { _tag: "LockBackendError", key: "x" })
    }))

  it.effect("when interrupted, renews until its program has ended, then releases: the next leads at once, never beside", () =>
    Effect.gen(function*() {
      const { one, sent, two: second } = yield* two
      const { lines, program } = diary()
      const leader = yield* fork(one(Leader.run("role", program("one", "20 seconds"))))
      yield* fork(second(Leader.run("role", program("two"))))
      yield* TestClock.adjust("5 seconds")
      const interrupted = yield* fork(Fiber.interrupt(leader))
      yield* TestClock.adjust("19999 millis")
      assert.deepStrictEqual(lines, ["0 one begins term 1"])
      assert.strictEqual(sent("renew").length, 8)
      assert.strictEqual(sent("withdraw").length, 0)
      yield* TestClock.adjust(1)
      yield* Fiber.join(interrupted)
      assert.deepStrictEqual(lines, ["0 one begins term 1", "25 one ends", "25 two begins term 2"])
    }))

  it.effect("that is interrupted while it stands leaves nothing in the queue", () =>
    Effect.gen(function*() {
      const { locker, one, two: second } = yield* two
      const { lines, program } = diary()
      const leader = yield* fork(one(Leader.run("role", program("one"))))
      const candidate = yield* fork(second(Leader.run("role", program("two"))))
      yield* TestClock.adjust("1 minute")
      yield* Fiber.interrupt(candidate)
      yield* Fiber.interrupt(leader)
      assert.deepStrictEqual(lines, ["0 one begins term 1", "60 one ends"])
      assert.isTrue(yield* checkFree(locker))
    }))

  it.effect("on a loss interrupts its program, waits for its end, and stands again", () =>
    Effect.gen(function*() {
      const { faulty, one, sent } = yield* two
      const { lines, program } = diary()
      const leader = yield* fork(one(Leader.run("role", program("one", "2 seconds"))))
      yield* faulty.answerRenewals({ _tag: "Replaced" }, 1)
      yield* TestClock.adjust("4999 millis")
      // Only its own program, which has not ended, keeps it from standing.
      assert.deepStrictEqual(lines, ["0 one begins term 1"])
      assert.strictEqual(sent("request").length, 1)
      yield* TestClock.adjust(1)
      assert.strictEqual(sent("request").length, 2)
      // The store kept the claim that it called replaced, until it ran out.
      yield* TestClock.adjust("20 seconds")
      assert.deepStrictEqual(lines, ["0 one begins term 1", "5 one ends", "9.9 one begins term 2"])
      yield* end(leader)
    }))

  it.effect("stands again as the last in the queue", () =>
    Effect.gen(function*() {
      const { faulty, one, two: second } = yield* two
      const { lines, program } = diary()
      yield* fork(one(Leader.run("role", program("one"))))
      const other = yield* fork(second(Leader.run("role", program("two"))))
      yield* faulty.hang("renew")
      yield* TestClock.adjust("9 seconds")
      yield* faulty.heal()
      yield* TestClock.adjust("10 minutes")
      assert.deepStrictEqual(lines, ["0 one begins term 1", "9 one ends", "9 two begins term 2"])
      yield* Fiber.interrupt(other)
      assert.deepStrictEqual(lines.slice(3), ["609 two ends", "609 one begins term 3"])
    }))

  it.effect("with restart: \"never\" fails with the loss", () =>
    Effect.gen(function*() {
      const { faulty, one } = yield* two
      const { lines, program } = diary()
      const leader = yield* fork(Effect.flip(one(Leader.run("role", program("one"), { restart: "never" }))))
      yield* faulty.answerRenewals({ _tag: "Gone" }, 1)
      yield* TestClock.adjust("3 seconds")
      assert.strictEqual(lostBy(yield* Fiber.join(leader)).reason, "Expired")
      assert.deepStrictEqual(lines, ["0 one begins term 1", "3 one ends"])
    }))

  it.effect("keeps the failure of a program that ends because of a loss, and adds the loss", () =>
    Effect.gen(function*() {
      const { faulty, one } = yield* two
      const program = Effect.onInterrupt(Effect.never, () => Effect.die("no commit"))
      const leader = yield* fork(Effect.exit(one(Leader.run("role", program))))
      yield* faulty.answerRenewals({ _tag: "Gone" }, 1)
      yield* TestClock.adjust("3 seconds")
      const exit = yield* Fiber.join(leader)
      assert(Exit.isFailure(exit))
      assert.isTrue(Cause.hasDies(exit.cause))
      assert.strictEqual(lostBy(Option.getOrThrow(Cause.findErrorOption(exit.cause))).reason, "Expired")
    }))

  it.effect("runs a program again that succeeded when the leadership was lost, and one that failed with that loss", () =>
    Effect.gen(function*() {
      const { faulty, one } = yield* two
      let runs = 0
      const program = (lease: Lease) =>
        Effect.suspend((): Effect.Effect<string, OwnershipLost> => {
          runs++
          if (runs === 1) return Effect.as(deaf("10 seconds"), "late")
          return runs === 2 ? lease.lost : Effect.succeed("in time")
        })
      yield* faulty.hang("renew")
      const leader = yield* fork(one(Leader.run("role", program)))
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(yield* Fiber.join(leader), "in time")
      assert.strictEqual(runs, 3)
    }))

  it.effect("keeps standing while the backend is away, with one warning, and leads soon after its return", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        const { faulty, one, sent } = yield* two
        const diaryOfOne = diary()
        for (const away of [faulty.hang("request"), faulty.fail("request")]) {
          const before = sent("request").length
          yield* away
          const leader = yield* fork(one(Leader.run("role", diaryOfOne.program("one"))))
          yield* TestClock.adjust("5 minutes")
          // It neither stops asking nor asks without a pause.
          assert.isAbove(sent("request").length - before, 300 / 9)
          assert.isBelow(sent("request").length - before, 300 * 20)
          assert.deepStrictEqual(lines.filter(({ level }) => level === "Warn").length, 1)
          yield* faulty.heal()
          yield* TestClock.adjust("3 seconds")
          assert.match(diaryOfOne.lines.at(-1)!, /begins/)
          yield* Fiber.interrupt(leader)
          yield* TestClock.adjust("1 minute")
          ;(lines as Array<unknown>).length = 0
        }
      })
    ))

  it.effect("keeps standing when its place in the queue is not answered for", () =>
    Effect.gen(function*() {
      const { faulty, one, two: second } = yield* two
      const { lines, program } = diary()
      const leader = yield* fork(second(Leader.run("role", program("two"))))
      yield* fork(one(Leader.run("role", program("one"))))
      yield* faulty.fail("wait")
      yield* TestClock.adjust("1 minute")
      yield* faulty.heal()
      yield* TestClock.adjust("5 seconds")
      yield* Fiber.interrupt(leader)
      yield* TestClock.adjust("3 seconds")
      assert.strictEqual(lines.length, 3)
      assert.match(lines[2]!, /one begins/)
    }))

  it.effect("fails with what no later attempt could mend", () =>
    Effect.gen(function*() {
      const { faulty, locker, one } = yield* two
      const run = Effect.flip(one(Leader.run("role", Effect.void)))
      yield* faulty.fail(
        "request",
        new LockBackendError({ operation: "acquire", retryable: false, cause: "WRONGPASS" }),
        1
      )
      assert.strictEqual((yield* run)._tag, "LockBackendError")
      assert.strictEqual((yield* locker.withLock("role", run))._tag, "LockAlreadyHeld")
    }))

  it.effect("fails at once when its locker closes, without a cool-down", () =>
    Effect.gen(function*() {
      const { memory } = yield* setting()
      const scope = yield* Scope.make()
      const locker = yield* Scope.provide(lockerOver(memory), scope)
      const { lines, program } = diary()
      const leader = yield* fork(Effect.flip(its(locker)(Leader.run("role", program("one")))))
      yield* fork(Scope.close(scope, Exit.void))
      yield* TestClock.adjust(1)
      assert.strictEqual((yield* Fiber.join(leader))._tag, "LockBackendError")
      assert.deepStrictEqual(lines, ["0 one begins term 1", "0 one ends"])
    }))

  it.effect("never stands again without a pause when its terms end at once", () =>
    Effect.gen(function*() {
      const { faulty, one } = yield* two
      let runs = 0
      const program = Effect.suspend(() => {
        runs++
        const { id } = faulty.calls.findLast(({ operation }) => operation === "request")!.claims[0]!
        return Effect.andThen(faulty.lose(id, "Unreachable"), Effect.never)
      })
      const leader = yield* fork(one(Leader.run("role", program, { ttl: "1 second" })))
      yield* TestClock.adjust("20 seconds")
      assert.isAbove(runs, 5)
      assert.isBelow(runs, 80)
      yield* Fiber.interrupt(leader)
    }))

  it.effect("that led for its maxHold lets others lead, and stands again", () =>
    Effect.gen(function*() {
      const { one, two: second } = yield* two
      const { lines, program } = diary()
      yield* fork(one(Leader.run("role", program("one"), { maxHold: "20 seconds" })))
      yield* fork(second(Leader.run("role", program("two"), { maxHold: "30 seconds" })))
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(lines, [
        "0 one begins term 1",
        "20 one ends",
        "20 two begins term 2",
        "50 two ends",
        "50 one begins term 3"
      ])
    }))

  it.effect("refuses options that it has not, before anything is sent", () =>
    Effect.gen(function*() {
      const { faulty, locker, one } = yield* two
      const refused = (options: unknown, name = "role") =>
        Effect.map(
          Effect.flip(one(Leader.run(name, Effect.void, options as Leader.LeaderOptions))),
          (error) => (error as InvalidLockRequest).parameter
        )
      assert.strictEqual(yield* refused({ restart: "sometimes" }), "restart")
      assert.strictEqual(yield* refused({ cooldown: "-1 seconds" }), "cooldown")
      assert.strictEqual(yield* refused({ cooldown: "Infinity" }), "cooldown")
      assert.strictEqual(yield* refused({ healthy: true }), "healthy")
      assert.strictEqual(yield* refused({ timeout: "1 second" }), "timeout")
      assert.strictEqual(yield* refused({ maxQueue: 1 }), "maxQueue")
      assert.strictEqual(yield* refused({ reentrant: true }), "reentrant")
      assert.strictEqual(yield* refused({ ttl: 1 }), "ttl")
      assert.strictEqual(yield* refused(null), "options")
      assert.strictEqual(yield* refused({}, ""), "key")
      const layer = Layer.build(Leader.layer("", Effect.void)).pipe(its(locker), Effect.scoped, Effect.exit)
      assert.isTrue(Cause.hasDies(Option.getOrThrow(Exit.getCause(yield* layer))))
      assert.deepStrictEqual(faulty.calls, [])
    }))
})

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

describe("Leader.layer", () => {
  it.effect("runs in the background while the layer lives, and releases when its program has ended", () =>
    Effect.gen(function*() {
      const { locker, one } = yield* two
      const { lines, program } = diary()
      const scope = yield* Scope.make()
      yield* one(Layer.buildWithScope(Leader.layer("role", program("one", "20 seconds")), scope))
      yield* TestClock.adjust("10 seconds")
      const closed = yield* fork(Scope.close(scope, Exit.void))
      yield* TestClock.adjust("19 seconds")
      assert.isFalse(yield* checkFree(locker))
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(closed)
      assert.deepStrictEqual(lines, ["0 one begins term 1", "30 one ends"])
      assert.isTrue(yield* checkFree(locker))
    }))

  it.effect("stands again after a failure, with a pause that grows, and logs it", () =>
    withLogs((logged) =>
      Effect.gen(function*() {
        const { one } = yield* two
        const { lines, note } = diary()
        let runs = 0
        const program = Effect.suspend(() => {
          const run = ++runs
          if (run === 9) {
            return Effect.andThen(note("begins"), Effect.andThen(Effect.sleep("31 seconds"), Effect.die(run)))
          }
          if (run === 11) {
            return note("succeeds")
          }
          return Effect.andThen(note("begins"), run === 3 ? Effect.interrupt : Effect.fail(run))
        })
        yield* one(Layer.build(Leader.layer("role", program)))
        yield* TestClock.adjust("10 minutes")
        const at = lines.map((line) => Number(line.split(" ")[0]))
        assert.deepStrictEqual(at.slice(1).map((time, index) => time - at[index]!), [1, 2, 4, 8, 16, 30, 30, 30, 32, 2])
        assert.match(lines.at(-1)!, /succeeds/)
        const errors = logged.filter(({ level }) => level === "Error")
        assert.strictEqual(errors.length, 10)
        assert.deepInclude(errors[1]!.annotations, { component: "dlock", key: "role" })
        assert.match(errors[1]!.message, /^The leader failed, and is tried again in 2 s/)
      })
    ))

  it.effect("goes on when the backend refused it, and ends when its locker has closed", () =>
    withLogs((logged) =>
      Effect.gen(function*() {
        const { faulty, memory } = yield* setting()
        const scope = yield* Scope.make()
        const locker = yield* Scope.provide(lockerOver(faulty.store), scope)
        const { lines, program } = diary()
        const refused = new LockBackendError({ operation: "acquire", retryable: false, cause: "WRONGPASS" })
        yield* faulty.fail("request", refused, 2)
        yield* its(locker)(Layer.build(Leader.layer("role", program("one"))))
        yield* TestClock.adjust("10 seconds")
        assert.strictEqual(lines.length, 1)
        const before = logged.filter(({ level }) => level === "Error").length
        yield* Scope.close(scope, Exit.void)
        yield* TestClock.adjust("1 hour")
        assert.strictEqual(logged.filter(({ level }) => level === "Error").length, before)
        assert.strictEqual(lines.length, 2)
        assert.isTrue(yield* checkFree(yield* lockerOver(memory)))
      })
    ))

  it.effect("with restart: \"never\" ends with the first loss, and says so", () =>
    withLogs((logged) =>
      Effect.gen(function*() {
        const { faulty, one } = yield* two
        const { lines, program } = diary()
        yield* one(Layer.build(Leader.layer("role", program("one"), { restart: "never" })))
        yield* faulty.answerRenewals({ _tag: "Gone" }, 1)
        yield* TestClock.adjust("1 hour")
        assert.strictEqual(lines.length, 2)
        assert.isTrue(
          logged.some(({ message }) => message === "The leader lost its leadership and does not stand again")
        )
      })
    ))
})

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

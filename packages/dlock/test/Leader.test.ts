import { assert, describe, it } from "@effect/vitest"
import { Cause, Deferred, Effect, Exit, Fiber, Layer, Option, Scope } from "effect"
import { type InvalidLockRequest, Leader, type Lease, LockBackendError, type OwnershipLost } from "effect-dlock"
import { TestClock } from "effect/testing"
import { checkFree, deaf, diary, end, its, lostBy, two } from "./leaderSupport.ts"
import { fork, lockerOver, setting, withLogs } from "./support.ts"

// The ttl of these locks is 9 s and their guard gap 0.9 s, and they are renewed every 3 s.

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

  it.effect("fails at once when its locker closes in its cool-down", () =>
    Effect.gen(function*() {
      const { memory } = yield* setting()
      const scope = yield* Scope.make()
      const locker = yield* Scope.provide(lockerOver(memory), scope)
      const leader = yield* fork(Effect.flip(its(locker)(Leader.run("role", Leader.resign, { cooldown: "1 hour" }))))
      yield* TestClock.adjust("1 minute")
      yield* fork(Scope.close(scope, Exit.void))
      yield* TestClock.adjust(1)
      assert.isDefined(leader.pollUnsafe())
      assert.strictEqual((yield* Fiber.join(leader))._tag, "LockBackendError")
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

  it.effect("that resigns at once, without a cool-down, stands again ten times a second at most", () =>
    Effect.gen(function*() {
      const { one, sent } = yield* two
      const resigning = yield* fork(one(Leader.run("role", Leader.resign, { cooldown: 0 })))
      yield* TestClock.adjust("10 seconds")
      assert.isAbove(sent("request").length, 90)
      assert.isBelow(sent("request").length, 110)
      yield* Fiber.interrupt(resigning)
      // A longer term is followed by none but the pause that was asked for.
      const { lines, program } = diary()
      const longer = Effect.raceFirst(program("one"), Effect.andThen(Effect.sleep("3 seconds"), Leader.resign))
      yield* fork(one(Leader.run("role", longer, { cooldown: 0 })))
      yield* TestClock.adjust("4 seconds")
      assert.deepStrictEqual(lines.map((line) => line.replace(/ term .*/, "")), [
        "10 one begins",
        "13 one ends",
        "13 one begins"
      ])
    }))

  it.effect("stands again at once after a maxHold that is shorter than a third of the ttl", () =>
    Effect.gen(function*() {
      const { one } = yield* two
      const { lines, program } = diary()
      yield* fork(one(Leader.run("role", program("one"), { maxHold: "1 second" })))
      yield* TestClock.adjust("9500 millis")
      assert.strictEqual(lines.at(-1), "9 one begins term 10")
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

  it.effect("with restart: \"never\" logs as an error how its program failed when it lost the leadership", () =>
    withLogs((logged) =>
      Effect.gen(function*() {
        const { faulty, one } = yield* two
        const program = Effect.onInterrupt(Effect.never, () => Effect.die("a bug at its end"))
        yield* one(Layer.build(Leader.layer("role", program, { restart: "never" })))
        yield* faulty.answerRenewals({ _tag: "Gone" }, 1)
        yield* TestClock.adjust("1 hour")
        const said = logged.filter(({ message }) =>
          message === "The leader lost its leadership and does not stand again"
        )
        assert.deepStrictEqual(said.map(({ level }) => level), ["Error"])
      })
    ))
})

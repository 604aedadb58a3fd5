import { assert, describe, it } from "@effect/vitest"
import { Clock, Cron, DateTime, Deferred, Duration, Effect, Exit, Fiber, Option, Scope } from "effect"
import {
  type InvalidLockRequest,
  Lease,
  LockBackendError,
  Locker,
  type LockStore,
  MemoryLockStore,
  Once
} from "effect-dlock"
import { FaultyLockStore } from "effect-dlock/testing"
import { TestClock } from "effect/testing"
import { fork, lockerOver, outside, setting, shiftedClock, withLogs } from "./support.ts"

/** A job that counts its runs, and what is there to see. */
const jobOf = () => {
  const runs: Array<number> = []
  const job = Effect.flatMap(Clock.currentTimeMillis, (now) => Effect.sync(() => void runs.push(now)))
  return { runs, job }
}

const its = (locker: Locker["Service"]) => Effect.provideService(Locker, locker)

describe("Once.within", () => {
  it.effect("runs a job once within the interval, counted from its success", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting()
      const run = its(locker)(Once.within("job", "1 hour", Effect.as(Effect.sleep("10 minutes"), "done")))
      const first = yield* fork(run)
      yield* TestClock.adjust("5 minutes")
      assert.isTrue(Option.isNone(yield* run), "it is running")
      yield* TestClock.adjust("5 minutes")
      assert.deepStrictEqual(yield* Fiber.join(first), Option.some("done"))
      yield* TestClock.adjust("59 minutes")
      assert.isTrue(Option.isNone(yield* run), "it ran 59 minutes ago")
      yield* TestClock.adjust("1 minute")
      const second = yield* fork(run)
      yield* TestClock.adjust("10 minutes")
      assert.deepStrictEqual(yield* Fiber.join(second), Option.some("done"))
    }))

  it.effect("counts from the start, whatever becomes of the run", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting()
      const run = its(locker)(
        Once.within("job", "1 hour", Effect.andThen(Effect.sleep("10 minutes"), Effect.fail("no")), { counts: "start" })
      )
      const first = yield* fork(Effect.exit(run))
      yield* TestClock.adjust("10 minutes")
      assert.deepStrictEqual(yield* Fiber.join(first), Exit.fail("no"))
      assert.isTrue(Option.isNone(yield* run))
      yield* TestClock.adjust("50 minutes")
      const second = yield* fork(Effect.exit(run))
      yield* TestClock.adjust("10 minutes")
      assert.deepStrictEqual(yield* Fiber.join(second), Exit.fail("no"))
    }))

  it.effect("does not count a run that fails, that is interrupted, or whose finalizer fails", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting()
      const { job, runs } = jobOf()
      const within = <A, E, R>(program: Effect.Effect<A, E, R>) => its(locker)(Once.within("job", "1 hour", program))
      assert.deepStrictEqual(yield* Effect.exit(within(Effect.andThen(job, Effect.fail("no")))), Exit.fail("no"))
      const interrupted = yield* fork(within(Effect.andThen(job, Effect.never)))
      yield* Fiber.interrupt(interrupted)
      const unfinished = within(Effect.andThen(job, Effect.addFinalizer(() => Effect.die("no commit"))))
      assert.isTrue(Exit.isFailure(yield* Effect.exit(unfinished)))
      assert.isTrue(Option.isSome(yield* within(job)))
      assert.isTrue(Option.isNone(yield* within(job)))
      assert.strictEqual(runs.length, 4)
    }))

  it.effect("does not count a run that lost its lock", () =>
    Effect.gen(function*() {
      const { faulty, locker } = yield* setting()
      const run = its(locker)(Once.within("job", "1 hour", Effect.sleep("5 seconds"), { ttl: "9 seconds" }))
      yield* faulty.answerRenewals({ _tag: "Revoked" })
      const first = yield* fork(Effect.flip(run))
      yield* TestClock.adjust("3 seconds")
      assert.strictEqual((yield* Fiber.join(first))._tag, "OwnershipLost")
      yield* faulty.heal()
      yield* TestClock.adjust("1 minute")
      const second = yield* fork(run)
      yield* TestClock.adjust("5 seconds")
      assert.isTrue(Option.isSome(yield* Fiber.join(second)))
    }))

  it.effect("asks the store once to find that nothing is due, and takes no lock for it", () =>
    Effect.gen(function*() {
      const { faulty, locker } = yield* setting()
      const run = its(locker)(Once.within("job", "1 hour", Effect.void))
      yield* run
      const before = faulty.calls.length
      yield* run
      assert.deepStrictEqual(faulty.calls.slice(before).map(({ operation }) => operation), ["run"])
    }))

  it.effect("repeats the record of a success until the store has answered, under the lock", () =>
    Effect.gen(function*() {
      const { faulty, locker } = yield* setting()
      const done = yield* Deferred.make<void>()
      const run = its(locker)(Once.within("job", "1 hour", Deferred.await(done), { ttl: "9 seconds" }))
      const first = yield* fork(run)
      yield* faulty.dropReplies("run", 2)
      yield* Deferred.succeed(done, undefined)
      yield* TestClock.adjust("100 millis")
      assert.isTrue(Option.isNone(yield* outside(locker.withLockIfAvailable("job", Effect.void))), "it holds the lock")
      yield* TestClock.adjust("5 seconds")
      assert.isTrue(Option.isSome(yield* Fiber.join(first)))
      assert.isTrue(Option.isNone(yield* run))
    }))

  it.effect("whose success cannot be recorded before the lock is lost fails with the loss", () =>
    Effect.gen(function*() {
      const { faulty, locker } = yield* setting()
      const done = yield* Deferred.make<void>()
      const run = its(locker)(Once.within("job", "1 hour", Deferred.await(done), { ttl: "9 seconds" }))
      const first = yield* fork(Effect.flip(run))
      yield* faulty.hang("run")
      yield* faulty.hang("renew")
      yield* Deferred.succeed(done, undefined)
      yield* TestClock.adjust("20 seconds")
      assert.strictEqual((yield* Fiber.join(first))._tag, "OwnershipLost")
    }))

  it.effect("provides the lease, and shares its lock with other sections of the key", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting()
      const run = Once.within(
        "job",
        "1 hour",
        (lease) => Effect.map(Lease, (its) => its === lease ? lease.key : "other")
      )
      assert.deepStrictEqual(yield* its(locker)(run), Option.some("job"))
      const inside = locker.withLock("next", Effect.flip(its(locker)(Once.slot("next", 1n, Effect.void))))
      assert.strictEqual((yield* inside)._tag, "LockAlreadyHeld")
    }))
})

describe("Once.slot", () => {
  it.effect("runs a job once for each slot, and slots only rise", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting()
      const slot = (number: bigint) => Effect.map(its(locker)(Once.slot("job", number, Effect.void)), Option.isSome)
      const large = 2n ** 63n - 2n
      assert.deepStrictEqual(
        yield* Effect.forEach([0n, 0n, 9n, 10n, 9n, 10n, large, large - 1n, large + 1n], slot),
        [true, false, true, true, false, false, true, false, true]
      )
    }))
})

/** A wall clock that is off, over the time of the test. */
const withClockOff = (offset: number) => <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.flatMap(shiftedClock, ({ clock, shift }) => {
    shift.wall = offset
    return Effect.provideService(effect, Clock.Clock, clock)
  })

describe("Once.cron", () => {
  const minute = 60_000
  const minutely = Cron.parseUnsafe("* * * * *")
  const start = 1_000_000 * minute

  /** Processes over one store, with a job that writes down who runs for which tick. */
  const fleet = Effect.gen(function*() {
    yield* TestClock.setTime(start)
    const store = yield* MemoryLockStore.make
    const runs: Array<{ readonly tick: number; readonly process: string }> = []
    const join = Effect.fnUntraced(
      function*(
        process: string,
        options: Once.CronOptions & {
          readonly offset?: number
          readonly job?: (tick: number) => Effect.Effect<unknown, unknown>
          readonly over?: LockStore["Service"]
        } = {}
      ) {
        const { job = () => Effect.void, offset = 0, over = store, ...rest } = options
        const locker = yield* lockerOver(over)
        return yield* fork(
          its(locker)(Once.cron("job", minutely, (_, at) =>
            Effect.suspend(() => {
              const tick = DateTime.toEpochMillis(at)
              runs.push({ tick: (tick - start) / minute, process })
              return job(tick)
            }), rest)).pipe(withClockOff(offset))
        )
      }
    )
    const pass = (minutes: number) =>
      Effect.forEach(Array.from({ length: minutes * 60 }), () => TestClock.adjust("1 second"), { discard: true })
    return { store, runs, join, pass, ticks: () => runs.map(({ tick }) => tick) }
  })

  it.effect(
    "runs every tick once over processes whose clocks differ by up to 40 % of the period",
    () =>
      Effect.gen(function*() {
        for (const counts of ["start", "success"] as const) {
          const { join, pass, ticks } = yield* fleet
          for (const offset of [-24_000, -10_000, 0, 7_000, 24_000]) {
            yield* join(String(offset), { offset, counts, job: () => Effect.sleep("2 seconds") })
          }
          yield* pass(50)
          // The slow clocks begin before the first tick.
          assert.deepStrictEqual(ticks(), Array.from({ length: 51 }, (_, tick) => tick))
        }
      }),
    60_000
  )

  it.effect("goes on where a process died in a run, in the same tick", () =>
    Effect.gen(function*() {
      const { join, pass, runs, store } = yield* fleet
      const dying = yield* FaultyLockStore.make(store)
      const die = Effect.forEach(["renew", "withdraw", "run"] as const, (operation) => dying.hang(operation))
      yield* join("a", { offset: 1_000, over: dying.store, job: () => Effect.andThen(die, Effect.never) })
      yield* join("b")
      yield* pass(3)
      assert.deepStrictEqual(runs.slice(0, 2), [{ tick: 1, process: "a" }, { tick: 1, process: "b" }])
      yield* dying.heal()
    }))

  it.effect("does not repeat its own run that was held for too long, and logs that as the job's failure", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        const { join, pass, ticks } = yield* fleet
        yield* join("a", { maxHold: "10 seconds", job: () => Effect.sleep("20 seconds") })
        yield* pass(3)
        assert.deepStrictEqual(ticks(), [1, 2, 3])
        assert.isAtLeast(lines.filter(({ message }) => message.startsWith("The job failed")).length, 2)
        assert.isFalse(lines.some(({ message }) => /did not run/.test(message)))
      })
    ))

  it.effect("runs every tick although a process died in a run for longer than a period", () =>
    Effect.gen(function*() {
      for (
        const [counts, offsets] of [["start", [0, -20_000, 20_000]], ["start", [25_000]], ["success", [
          0,
          20_000
        ]]] as const
      ) {
        const { join, pass, store, ticks } = yield* fleet
        const dying = yield* FaultyLockStore.make(store)
        const die = Effect.forEach(["renew", "withdraw", "run"] as const, (operation) => dying.hang(operation))
        const job = () => Effect.andThen(die, Effect.never)
        yield* join("a", { offset: 25_000, counts, ttl: "3 minutes", over: dying.store, job })
        for (const offset of offsets) yield* join(String(offset), { offset, counts, ttl: "3 minutes" })
        // All wait for the first tick together.
        const other = yield* lockerOver(store)
        yield* fork(other.withLock("job", Effect.sleep("1 minute")))
        yield* pass(12)
        assert.deepStrictEqual(
          ticks().filter((tick) => tick > 0 && tick < 10),
          [...counts === "start" ? [] : [1], 1, 2, 3, 4, 5, 6, 7, 8, 9]
        )
        yield* dying.heal()
      }
    }))

  it.effect("repeats a tick in another process where the run fails, and goes on after failures and defects", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        const { join, pass, runs } = yield* fleet
        yield* join("a", {
          offset: 1_000,
          job: (tick) => tick % (2 * minute) === 0 ? Effect.fail("no") : Effect.die("no")
        })
        yield* join("b")
        yield* pass(3)
        assert.deepStrictEqual(
          runs.filter(({ tick }) => tick <= 3),
          [1, 2, 3].flatMap((tick) => [{ tick, process: "a" }, { tick, process: "b" }])
        )
        assert.strictEqual(lines.filter(({ message }) => message.startsWith("The job failed")).length, 3)
      })
    ))

  it.effect("does not repeat a run that failed if it counts from its start", () =>
    withLogs(() =>
      Effect.gen(function*() {
        const { join, pass, ticks } = yield* fleet
        for (const name of ["a", "b"]) yield* join(name, { counts: "start", job: () => Effect.fail("no") })
        yield* pass(3)
        assert.deepStrictEqual(ticks(), [1, 2, 3])
      })
    ))

  it.effect("makes a process whose clock is days ahead wait, and silences nobody", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        const { join, pass, runs, ticks } = yield* fleet
        yield* join("ahead", { offset: 3 * 24 * 60 * minute })
        yield* pass(2)
        assert.deepStrictEqual(runs, [])
        assert.deepStrictEqual(lines.map(({ level }) => level), ["Warn"])
        assert.match(lines[0]!.message, /clock is ahead/)
        yield* join("right")
        yield* pass(5)
        assert.deepStrictEqual(ticks(), [3, 4, 5, 6, 7])
        assert.isTrue(runs.every(({ process }) => process === "right"))
      })
    ))

  it.effect("of which the fastest clock is behind the backend's runs every tick, late", () =>
    Effect.gen(function*() {
      const { join, pass, ticks } = yield* fleet
      yield* join("behind", { offset: -10 * minute })
      yield* pass(5)
      assert.deepStrictEqual(ticks(), [-9, -8, -7, -6, -5])
    }))

  it.effect("skips ticks that pass during a run, or runs the last of them late", () =>
    Effect.gen(function*() {
      const cases: ReadonlyArray<[Once.CronOptions["catchUp"], Array<number>]> = [["skip", [1, 4, 7]], ["last", [
        0,
        2,
        5
      ]]]
      for (const [catchUp, expected] of cases) {
        const { join, pass, ticks } = yield* fleet
        yield* join("a", { catchUp, job: () => Effect.sleep("150 seconds") })
        yield* pass(7)
        assert.deepStrictEqual(ticks(), expected)
      }
    }))

  it.effect("catches up with the last tick before it began, unless another process ran it", () =>
    Effect.gen(function*() {
      const { join, pass, ticks } = yield* fleet
      yield* TestClock.adjust("150 seconds")
      yield* join("a", { catchUp: "last" })
      yield* join("b", { catchUp: "last" })
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(ticks(), [2])
      yield* pass(1)
      assert.deepStrictEqual(ticks(), [2, 3])
    }))

  it.effect("does not catch up with a tick so old that its record has expired", () =>
    Effect.gen(function*() {
      const cron = Cron.parseUnsafe("0 0 1 1,4,7,10 *", "UTC")
      yield* TestClock.setTime(Date.UTC(2026, 6, 1) - 1_000)
      const store = yield* MemoryLockStore.make
      const { job, runs } = jobOf()
      const join = Effect.gen(function*() {
        return yield* fork(its(yield* lockerOver(store))(Once.cron("job", cron, job, { catchUp: "last" })))
      })
      const first = yield* join
      yield* TestClock.adjust("1 minute")
      yield* Fiber.interrupt(first)
      yield* TestClock.setTime(Date.UTC(2026, 8, 30, 12))
      yield* join
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(runs, [Date.UTC(2026, 6, 1)])
    }))

  it.effect("asks a backend that does not answer again, and tells of it once", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        const { join, pass, runs, store } = yield* fleet
        const faulty = yield* FaultyLockStore.make(store)
        yield* faulty.fail("run", undefined, 40)
        yield* join("a", { over: faulty.store })
        yield* pass(2)
        assert.deepStrictEqual(runs, [{ tick: 1, process: "a" }, { tick: 2, process: "a" }])
        assert.strictEqual(lines.filter(({ message }) => /did not run/.test(message)).length, 1)
      })
    ))

  it.effect("survives a job that is interrupted from within", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        const joins = Effect.flatMap(
          Effect.forkChild(Effect.never),
          (fiber) => Effect.andThen(Fiber.interrupt(fiber), Fiber.join(fiber))
        )
        for (const job of [Effect.interrupt, joins]) {
          const before = lines.length
          const { join, pass, ticks } = yield* fleet
          yield* join("a", { job: () => job })
          yield* pass(3)
          assert.deepStrictEqual(ticks(), [1, 2, 3])
          assert.deepStrictEqual(
            lines.slice(before).map(({ level, message }) => [level, message.startsWith("The job failed")]),
            Array.from({ length: 3 }, () => ["Error", true])
          )
        }
      })
    ))

  it.effect("survives a finalizer of the run that fails", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        yield* TestClock.setTime(start)
        const locker = yield* lockerOver(yield* MemoryLockStore.make)
        const { job, runs } = jobOf()
        const unfinished = Effect.andThen(job, Effect.addFinalizer(() => Effect.die("no commit")))
        const run = Effect.suspend(() =>
          runs.length % 2 === 0 ? unfinished : Effect.andThen(unfinished, Effect.fail("no"))
        )
        const fiber = yield* fork(its(locker)(Once.cron("job", minutely, run)))
        for (let passed = 0; passed < 4; passed++) yield* TestClock.adjust("1 minute")
        assert.strictEqual(runs.length, 4)
        assert.strictEqual(lines.filter(({ level }) => level === "Error").length, 4)
        yield* Fiber.interrupt(fiber)
        assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(fiber)))
      })
    ))

  it.effect("goes on when the backend takes it again, and ends when its locker has closed", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        const { join, pass, runs, store } = yield* fleet
        const faulty = yield* FaultyLockStore.make(store)
        const refused = new LockBackendError({ operation: "acquire", retryable: false, cause: new Error("WRONGPASS") })
        yield* faulty.fail("run", refused, 2)
        const scope = yield* Scope.make()
        const fiber = yield* join("a", { over: faulty.store }).pipe(Scope.provide(scope))
        yield* pass(2)
        assert.deepStrictEqual(runs.map(({ tick }) => tick), [1, 2])
        assert.strictEqual(lines.filter(({ message }) => /did not run/.test(message)).length, 1)
        yield* Scope.close(scope, Exit.void)
        yield* pass(1)
        assert.match((yield* Effect.flip(Fiber.join(fiber))).message, /closed/)
      })
    ))

  it.effect("gives the usual ttl to a job whose ttl is undefined", () =>
    Effect.gen(function*() {
      const { join, pass, store } = yield* fleet
      const ttls: Array<number> = []
      const over: LockStore["Service"] = {
        ...store,
        request: (claim, mode) => {
          ttls.push(Duration.toMillis(claim.ttl))
          return store.request(claim, mode)
        }
      }
      yield* join("a", { ttl: undefined, over })
      yield* pass(1)
      assert.deepStrictEqual(ttls, [minute / 4])
    }))

  /** A process whose clock a test may set, also that of its store if it lives by it. */
  const settable = Effect.fnUntraced(function*(ofStore: boolean) {
    yield* TestClock.setTime(start)
    const { clock, shift } = yield* shiftedClock
    const by = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.provideService(effect, Clock.Clock, clock)
    const store = yield* ofStore ? by(MemoryLockStore.make) : MemoryLockStore.make
    const locker = yield* ofStore ? by(lockerOver(store)) : lockerOver(store)
    const ticks: Array<number> = []
    const job = Once.cron(
      "job",
      minutely,
      (_, at) => Effect.sync(() => void ticks.push((DateTime.toEpochMillis(at) - start) / minute))
    )
    yield* fork(by(its(locker)(job)))
    const pass = (minutes: number) =>
      Effect.forEach(Array.from({ length: minutes * 60 }), () => TestClock.adjust("1 second"), { discard: true })
    return { shift, ticks, pass }
  })

  it.effect("skips the ticks for which the machine slept", () =>
    Effect.gen(function*() {
      const { pass, shift, ticks } = yield* settable(true)
      yield* pass(2)
      yield* TestClock.adjust("30 seconds")
      shift.wall = shift.monotonic = 120 * minute
      yield* pass(3)
      assert.deepStrictEqual(ticks, [1, 2, 3, 124, 125])
    }))

  it.effect("goes by a clock that is set right again, also if it was set ahead by days", () =>
    withLogs(() =>
      Effect.gen(function*() {
        const { pass, shift, ticks } = yield* settable(false)
        yield* TestClock.adjust("90 seconds")
        shift.wall = 24 * 60 * minute
        yield* pass(2)
        shift.wall = 0
        yield* pass(4)
        assert.deepStrictEqual(ticks, [1, 2, 5, 6, 7])
      })
    ))

  it.effect("has the same ticks from whatever time on, also where a clock change has moved one", () =>
    Effect.gen(function*() {
      const cron = Cron.parseUnsafe("30 2 * * *", "Europe/Berlin")
      const moved = Date.UTC(2026, 2, 29, 1, 30)
      yield* TestClock.setTime(moved - 10 * minute)
      const locker = yield* lockerOver(yield* MemoryLockStore.make)
      const { job, runs } = jobOf()
      yield* fork(its(locker)(Once.cron("job", cron, job)))
      yield* TestClock.adjust("10 minutes")
      assert.deepStrictEqual(runs, [moved])
    }))

  it.effect("fails with what no later attempt could mend", () =>
    Effect.gen(function*() {
      const { join, store } = yield* fleet
      const { runs: _, ...bare } = store
      for (
        const [options, words] of [
          [{ over: bare }, /does not record runs/],
          [{ catchUp: "all" }, /must be "skip" or "last"/],
          [{ counts: "end" }, /must be "start" or "success"/],
          [{ timeout: "1 second" }, /is not an option/]
        ] as const
      ) {
        const fiber = yield* join("a", options as any)
        yield* TestClock.adjust("1 second")
        assert.match((yield* Effect.flip(Fiber.join(fiber))).message, words)
      }
    }))
})

describe("Once", () => {
  it.effect("refuses what is no job, and sends nothing", () =>
    Effect.gen(function*() {
      const { faulty, locker } = yield* setting()
      const never = Cron.parseUnsafe("0 0 30 2 *")
      for (
        const [job, parameter] of [
          [Once.within("", "1 hour", Effect.void), "key"],
          [Once.within("k", "0 seconds", Effect.void), "interval"],
          [Once.within("k", "nonsense" as any, Effect.void), "interval"],
          [Once.within("k", "1 hour", Effect.void, { timeout: "1 second" } as any), "timeout"],
          [Once.within("k", "1 hour", Effect.void, { counts: 1 } as any), "counts"],
          [Once.within("k", "1 hour", Effect.void, { catchUp: "last" } as any), "catchUp"],
          [Once.within("k", "1 hour", Effect.void, { reentrant: true } as any), "reentrant"],
          [Once.within("k", "1 hour", Effect.void, 7 as any), "options"],
          [Once.slot("k", -1n, Effect.void), "slot"],
          [Once.slot("k", 2n ** 63n, Effect.void), "slot"],
          [Once.slot("k", 1 as any, Effect.void), "slot"],
          [Once.cron("k", "* * * * *" as any, Effect.void), "cron"],
          [Once.cron("k", never, Effect.void), "cron"],
          [Once.cron(7 as any, never, Effect.void), "cron"],
          [Once.lastRun(""), "key"]
        ] as const
      ) {
        const error = yield* Effect.flip(
          its(locker)(job as Effect.Effect<unknown, InvalidLockRequest, Locker>)
        )
        assert.deepStrictEqual([error._tag, error.parameter], ["InvalidLockRequest", parameter])
      }
      assert.deepStrictEqual(faulty.calls, [])
    }))

  it.effect("tells of the last run: when, where, and how it ended", () =>
    Effect.gen(function*() {
      yield* TestClock.setTime(5_000)
      const { locker } = yield* setting({ holder: "me" })
      const last = Effect.map(its(locker)(Once.lastRun("job")), Option.getOrThrow)
      assert.deepStrictEqual(yield* its(locker)(Once.lastRun("job")), Option.none())

      const run = yield* fork(
        its(locker)(
          Effect.sleep("2 seconds").pipe(Once.slot("job", 7n, { counts: "start", metadata: { a: "b" } }))
        )
      )
      assert.deepStrictEqual(yield* last, {
        slot: Option.some(7n),
        startedAt: DateTime.makeUnsafe(5_000),
        endedAt: Option.none(),
        outcome: Option.none(),
        holder: "me",
        metadata: Option.some({ a: "b" })
      })
      yield* TestClock.adjust("2 seconds")
      yield* Fiber.join(run)
      assert.deepInclude(yield* last, {
        endedAt: Option.some(DateTime.makeUnsafe(7_000)),
        outcome: Option.some("succeeded" as const)
      })

      const failing = its(locker)(Once.slot("job", 8n, Effect.fail("no")))
      yield* Effect.exit(failing)
      assert.deepInclude(yield* last, {
        slot: Option.some(7n),
        startedAt: DateTime.makeUnsafe(7_000),
        outcome: Option.some("failed" as const),
        metadata: Option.none()
      })
      const stopped = yield* fork(its(locker)(Once.slot("job", 8n, Effect.never)))
      yield* Fiber.interrupt(stopped)
      assert.deepInclude(yield* last, { outcome: Option.some("interrupted" as const) })
      yield* TestClock.adjust("91 days")
      assert.deepStrictEqual(yield* its(locker)(Once.lastRun("job")), Option.none())
    }))
})

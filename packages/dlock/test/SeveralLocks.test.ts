import { assert, describe, it } from "@effect/vitest"
import { lag } from "dlock-testing/live"
import { Deferred, Duration, Effect, Exit, Fiber, Layer, Option, Scope } from "effect"
import {
  DistributedSemaphore,
  type InvalidLockRequest,
  Leases,
  Locker,
  LockStore,
  type LockTimeout,
  MemoryLockStore,
  ReadWriteLock,
  Want,
  withLock,
  withLocks,
  withLocksIfAvailable
} from "effect-dlock"
import { TestClock } from "effect/testing"
import { fork, lockerOver, outside, setting, withLogs } from "./support.ts"

/** Locks of all kinds over one locker. */
const locks = Effect.fnUntraced(function*(locker: Locker["Service"]) {
  const its = Effect.provideService(Locker, locker)
  return {
    api: yield* its(DistributedSemaphore.make("api", { permits: 4 })),
    rw: yield* its(ReadWriteLock.make("rw"))
  }
})

const tryKey = (locker: Locker["Service"], key: string) =>
  Effect.map(outside(locker.withLockIfAvailable(key, Effect.void)), Option.isSome)

describe("several locks", () => {
  it.effect("are asked for in one request, and hold all keys until the section has ended", () =>
    Effect.gen(function*() {
      const { locker, sent } = yield* setting()
      const { api, rw } = yield* locks(locker)
      const seen = yield* locker.withLocks(
        ["a", Want.permits(api, 3), Want.read(rw), Want.lock("b")],
        Effect.gen(function*() {
          const leases = yield* Leases
          yield* leases.ensureHeld
          assert.deepStrictEqual(leases.keys, ["a", "api", "rw", "b"])
          assert.strictEqual(yield* api.available, 1)
          assert.deepStrictEqual([yield* tryKey(locker, "a"), yield* tryKey(locker, "b")], [false, false])
          assert.isTrue(Option.isNone(yield* outside(rw.withWriteLockIfAvailable(Effect.void))))
          return [leases.tokenOf("a"), leases.tokenOf("b")]
        })
      )
      assert.isTrue(seen.every((token) => token > 0n))
      assert.deepStrictEqual(sent("request").map(({ claims }) => claims.length).filter((count) => count > 1), [4])
      assert.strictEqual(yield* api.available, 4)
      assert.deepStrictEqual([yield* tryKey(locker, "a"), yield* tryKey(locker, "b")], [true, true])
      assert.isTrue(Option.isSome(yield* rw.withWriteLockIfAvailable(Effect.void)))
    }))

  it.effect("are joined by key: one mutex, the sum of the permits, and the write lock", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting()
      const { api, rw } = yield* locks(locker)
      yield* locker.withLocks(
        ["a", Want.permits(api), Want.read(rw), "a", Want.permits(api, 2), Want.write(rw)],
        (leases) =>
          Effect.gen(function*() {
            assert.deepStrictEqual(leases.keys, ["a", "api", "rw"])
            assert.strictEqual(yield* api.available, 1)
            assert.isTrue(Option.isNone(yield* outside(rw.withReadLockIfAvailable(Effect.void))))
            assert.isAbove(Number(leases.tokenOf("rw")), 0)
          })
      )
    }))

  it.effect("have no token for what is shared, and none for another key", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting()
      const { api, rw } = yield* locks(locker)
      yield* locker.withLocks([Want.permits(api, 4), Want.read(rw)], (leases) =>
        Effect.sync(() => {
          assert.throws(() => leases.tokenOf("api"), /"api" is shared/)
          assert.throws(() => leases.tokenOf("rw"), /"rw" is shared/)
          assert.throws(() => leases.tokenOf("x"), /not about "x": api, rw/)
        }))
    }))

  it.effect("refuse what no store could honour, before anything is sent", () =>
    Effect.gen(function*() {
      const { locker, sent } = yield* setting()
      const { api, rw } = yield* locks(locker)
      const { api: stranger } = yield* locks(yield* lockerOver(yield* MemoryLockStore.make))
      const refusal = (wants: unknown, options?: object) =>
        Effect.map(
          Effect.flip(locker.withLocks(wants as ReadonlyArray<string>, Effect.void, options)),
          (error): readonly [string, string, string] => {
            assert.strictEqual(error._tag, "InvalidLockRequest")
            const { key, parameter, problem } = error as InvalidLockRequest
            return [key, parameter, problem]
          }
        )
      assert.deepStrictEqual(yield* refusal([]), ["", "wants", "must not be empty"])
      assert.deepStrictEqual(yield* refusal("a"), ["", "wants", "must be an array of keys and wants"])
      const many = Array.from({ length: 65 }, (_, index) => `k${index}`)
      assert.deepStrictEqual(yield* refusal(many), ["", "wants", "must be at most 64 keys and wants"])
      assert.deepStrictEqual((yield* refusal(["a", ""])).slice(0, 2), ["", "key"])
      assert.deepStrictEqual((yield* refusal(["a", 7])).slice(0, 2), ["7", "wants"])
      assert.deepStrictEqual((yield* refusal([{ key: "handmade" }])).slice(0, 2), ["handmade", "wants"])
      assert.deepStrictEqual((yield* refusal([Want.permits(stranger)])).slice(0, 2), ["api", "wants"])
      assert.deepStrictEqual((yield* refusal(["a", Want.permits(api, 5)])).slice(0, 2), ["api", "permits"])
      assert.deepStrictEqual((yield* refusal([Want.permits(api, 2), Want.permits(api, 3)])).slice(0, 2), [
        "api",
        "permits"
      ])
      const small = yield* Effect.provideService(DistributedSemaphore.make("api", { permits: 2 }), Locker, locker)
      for (const wants of [[Want.permits(api, 2), Want.permits(small)], [Want.permits(small), Want.permits(api, 2)]]) {
        assert.deepStrictEqual((yield* refusal(wants)).slice(0, 2), ["api", "permits"])
      }
      assert.deepStrictEqual(yield* refusal([Want.read(api as never)]), [
        "api",
        "wants",
        "must be a read-write lock, and is a semaphore"
      ])
      assert.deepStrictEqual((yield* refusal([Want.lock(rw as never)])).slice(0, 2), ["rw", "wants"])
      assert.deepStrictEqual((yield* refusal([Want.permits(api), "api"])).slice(0, 2), ["api", "wants"])
      assert.deepStrictEqual((yield* refusal([Want.write(rw), Want.lock("rw")])).slice(0, 2), ["rw", "wants"])
      assert.deepStrictEqual((yield* refusal(["a"], { ttl: 1 })).slice(0, 2), ["a", "ttl"])
      assert.deepStrictEqual((yield* refusal(["a"], { tll: 9 })).slice(0, 2), ["a", "tll"])
      const tried = yield* Effect.flip(locker.withLocksIfAvailable(["a"], Effect.void, { timeout: 1 } as object))
      assert.deepStrictEqual([tried._tag, (tried as InvalidLockRequest).parameter], ["InvalidLockRequest", "timeout"])
      yield* locker.withLocks(many.slice(1), Effect.void)
      assert.strictEqual(sent("request").length, 1)
    }))

  it.effect("time out together, and the error names the first key in the way and how many were there", () =>
    Effect.gen(function*() {
      const { locker, memory } = yield* setting()
      const other = yield* lockerOver(memory, { holder: "blue" })
      const holding = yield* fork(other.withLock("b", Effect.never, { metadata: { job: "7" } }))
      const waiting = yield* fork(Effect.flip(locker.withLocks(["a", "b", "c"], Effect.void, { timeout: 500 })))
      yield* TestClock.adjust(499)
      assert.isFalse(yield* tryKey(other, "a"), "what is there is kept while the rest is awaited")
      yield* TestClock.adjust(1)
      const error = (yield* Fiber.join(waiting)) as LockTimeout
      const { acquired, holder, key, metadata, queueLength, wanted } = error
      assert.deepStrictEqual({ _tag: error._tag, key, acquired, wanted, holder, metadata, queueLength }, {
        _tag: "LockTimeout",
        key: "b",
        acquired: 2,
        wanted: 3,
        holder: "blue",
        metadata: { job: "7" },
        queueLength: 1
      })
      assert.strictEqual(
        error.message,
        `Timed out after 500 ms waiting for the lock "b": blue holds it (1 waiting), with 2 of 3 locks there`
      )
      assert.deepStrictEqual([yield* tryKey(other, "a"), yield* tryKey(other, "c")], [true, true])
      yield* Fiber.interrupt(holding)
    }))

  it.effect("that are there are renewed while the rest is awaited", () =>
    Effect.gen(function*() {
      const { locker, memory } = yield* setting()
      const other = yield* lockerOver(memory)
      const gate = yield* Deferred.make<void>()
      yield* fork(other.withLock("b", Deferred.await(gate)))
      const waiting = yield* fork(locker.withLocks(["a", "b"], Effect.succeed("ran"), { ttl: "3 seconds" }))
      yield* TestClock.adjust("60 seconds")
      assert.isFalse(yield* tryKey(other, "a"))
      yield* Deferred.succeed(gate, undefined)
      assert.strictEqual(yield* Fiber.join(waiting), "ran")
    }))

  it.effect("are asked for anew, silently and all, when one of them is lost before all are there", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        const { faulty, locker, memory, sent } = yield* setting()
        const other = yield* lockerOver(memory)
        const gate = yield* Deferred.make<void>()
        yield* fork(other.withLock("b", Deferred.await(gate)))
        let runs = 0
        const waiting = yield* fork(locker.withLocks(["a", "b", "c"], Effect.sync(() => ++runs)))
        const first = sent("request")[0]!.claims
        yield* memory.withdraw(first[0]!)
        yield* TestClock.adjust("3 seconds")
        yield* TestClock.adjust("100 millis")
        const [, second] = sent("request").filter(({ claims }) => claims.length === 3)
        assert.isDefined(second, "all are asked for again")
        const ids = new Set([...first, ...second.claims].map(({ id }) => id))
        assert.strictEqual(ids.size, 6, "under new ids")
        assert.strictEqual(runs, 0)
        assert.deepStrictEqual(
          first.map(({ id }) =>
            faulty.calls.some((call) => call.operation === "withdraw" && call.claims[0]!.id === id)
          ),
          [true, true, true],
          "all claims of the first request are withdrawn"
        )
        yield* Deferred.succeed(gate, undefined)
        assert.strictEqual(yield* Fiber.join(waiting), 1)
        assert.deepStrictEqual(lines.filter(({ level }) => level !== "Info"), [])
      })
    ))

  it.effect("end with the first one that is lost, and the others are released when the program has ended", () =>
    Effect.gen(function*() {
      const { faulty, locker, memory, sent } = yield* setting()
      const other = yield* lockerOver(memory)
      let wasFree: boolean | undefined
      const running = yield* fork(
        Effect.flip(locker.withLocks(
          ["a", "b"],
          Effect.onInterrupt(Effect.never, () =>
            Effect.map(tryKey(other, "a"), (free) => {
              wasFree = free
            }))
        ))
      )
      const [, b] = sent("request")[0]!.claims
      yield* faulty.lose(b!.id, "Replaced")
      const error = yield* Fiber.join(running)
      assert.deepStrictEqual(error._tag === "OwnershipLost" && [error.key, error.reason], ["b", "Replaced"])
      assert.strictEqual(wasFree, false, "the other lock is held until the program has ended")
      assert.isTrue(yield* tryKey(other, "a"))
    }))

  it.effect("are held by one section: their keys are refused inside, and a reader enters again", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting()
      const { api, rw } = yield* locks(locker)
      const tagOf = <A, E extends { readonly _tag: string }, R>(effect: Effect.Effect<A, E, R>) =>
        Effect.match(effect, { onSuccess: () => "ran", onFailure: ({ _tag }) => _tag })
      yield* locker.withLocks(["a", "b", Want.permits(api), Want.write(rw)], (leases) =>
        Effect.gen(function*() {
          assert.strictEqual(yield* tagOf(locker.withLock("b", Effect.void)), "LockAlreadyHeld")
          assert.strictEqual(yield* tagOf(locker.withLocks(["x", "a"], Effect.void)), "LockAlreadyHeld")
          assert.strictEqual(yield* tagOf(api.withPermit(Effect.void)), "LockAlreadyHeld")
          assert.strictEqual(yield* tagOf(locker.withLocks([Want.write(rw)], Effect.void)), "LockAlreadyHeld")
          assert.isTrue(yield* tryKey(locker, "x"))
          const inner = yield* locker.withLocks(["x", Want.read(rw)], (inner) =>
            Effect.gen(function*() {
              assert.strictEqual(yield* tagOf(locker.withLock("x", Effect.void)), "LockAlreadyHeld")
              assert.strictEqual(yield* tagOf(locker.withLock("a", Effect.void)), "LockAlreadyHeld")
              return inner.keys
            }))
          assert.deepStrictEqual(inner, ["x", "rw"])
          yield* locker.withLocks([Want.read(rw)], Effect.void)
          yield* leases.ensureHeld
        }))
      yield* locker.withLock("a", (lease) =>
        Effect.gen(function*() {
          const error = yield* Effect.flip(locker.withLocks(["b", "a"], Effect.void))
          assert.deepStrictEqual(
            error._tag === "LockAlreadyHeld" && [error.key, error.fencingToken],
            ["a", lease.fencingToken]
          )
        }))
      assert.isTrue(yield* tryKey(locker, "b"))
    }))

  it.effect("in a scope are released with it, or before, and stop what needs them", () =>
    Effect.gen(function*() {
      const { faulty, locker, memory, sent } = yield* setting()
      const other = yield* lockerOver(memory)
      const scope = yield* Scope.make()
      const leases = yield* Scope.provide(locker.scopedAll(["a", "b"], { ttl: "6 seconds" }), scope)
      assert.strictEqual(Duration.toMillis(yield* leases.remaining), 6_000)
      const again = yield* Effect.flip(Scope.provide(locker.scopedAll(["c", "b"]), scope))
      assert.strictEqual(again._tag, "LockAlreadyHeld")
      const work = yield* fork(Effect.flip(leases.whileHeld(Effect.never)))
      const told = yield* fork(Effect.flip(leases.lost))
      yield* faulty.lose(sent("request")[0]!.claims[0]!.id, "Revoked")
      assert.strictEqual((yield* Fiber.join(work))._tag, "OwnershipLost")
      assert.strictEqual((yield* Fiber.join(told)).key, "a")
      assert.strictEqual((yield* Effect.flip(leases.ensureHeld))._tag, "OwnershipLost")
      assert.isFalse(yield* tryKey(other, "b"), "the rest is held until the scope closes")
      yield* Scope.close(scope, Exit.void)
      assert.isTrue(yield* tryKey(other, "b"))
      yield* Effect.scoped(Effect.gen(function*() {
        const early = yield* locker.scopedAll(["d", "b"])
        yield* early.release
        yield* early.release
        assert.strictEqual((yield* Effect.flip(early.ensureHeld))._tag, "LockNotHeld")
        assert.isTrue(yield* tryKey(other, "d"))
        assert.isTrue(Option.isSome(yield* locker.scopedAllIfAvailable(["d", "c"])))
        assert.isTrue(Option.isNone(yield* outside(Effect.scoped(other.scopedAllIfAvailable(["b", "c"])))))
        assert.isTrue(yield* tryKey(other, "b"))
      }))
      assert.isTrue(yield* tryKey(other, "c"))
    }))

  it.effect("are asked for one after the other, in the order of their keys, where the store can do no more", () =>
    Effect.gen(function*() {
      const memory = yield* MemoryLockStore.make
      const { requestAll: _, ...plain } = memory
      const asked: Array<string> = []
      const store = LockStore.of({
        ...plain,
        request: (claim, mode) => {
          asked.push(claim.key)
          return plain.request(claim, mode)
        }
      })
      const [one, two] = [yield* lockerOver(store, { prefix: "" }), yield* lockerOver(store, { prefix: "" })]
      const gate = yield* Deferred.make<void>()
      const first = yield* fork(one.withLocks(["c", "a", "b"], Deferred.await(gate)))
      assert.deepStrictEqual(asked, ["a", "b", "c"])
      const second = yield* fork(two.withLocks(["b", "c"], Effect.succeed("two")))
      const third = yield* fork(two.withLocks(["c", "b"], Effect.succeed("three")))
      assert.isTrue(Option.isNone(yield* two.withLocksIfAvailable(["x", "c"], Effect.void)))
      assert.isTrue(yield* tryKey(two, "x"))
      yield* Deferred.succeed(gate, undefined)
      yield* Fiber.join(first)
      assert.deepStrictEqual([yield* Fiber.join(second), yield* Fiber.join(third)], ["two", "three"])
    }))

  it.effect("are asked for group by group, in the order of the groups", () =>
    Effect.gen(function*() {
      const memory = yield* MemoryLockStore.make
      const asked: Array<string> = []
      const note = (claims: ReadonlyArray<{ readonly key: string }>) =>
        void asked.push(claims.map(({ key }) => key).join())
      const store = LockStore.of({
        ...memory,
        groupOf: ({ key }) => Number(key.at(-1)),
        request: (claim, mode) => {
          note([claim])
          return memory.request(claim, mode)
        },
        requestAll: (claims, mode) => {
          note(claims)
          return memory.requestAll!(claims, mode)
        }
      })
      const locker = yield* lockerOver(store, { prefix: "" })
      const gate = yield* Deferred.make<void>()
      yield* fork(locker.withLock("b2", Deferred.await(gate)))
      const waiting = yield* fork(locker.withLocks(["a3", "a1", "b2", "a2", "b1"], Effect.succeed("ran")))
      assert.deepStrictEqual(asked, ["b2", "a1,b1", "b2,a2"], "the next group waits for all of the one before")
      const timing = yield* fork(Effect.flip(locker.withLocks(["a1", "a3"], Effect.void, { timeout: 100 })))
      yield* TestClock.adjust(100)
      const error = yield* Fiber.join(timing)
      assert.deepStrictEqual(error._tag === "LockTimeout" && [error.key, error.acquired, error.wanted], ["a1", 0, 2])
      yield* Deferred.succeed(gate, undefined)
      assert.strictEqual(yield* Fiber.join(waiting), "ran")
      assert.strictEqual(asked.at(-1), "a3")
    }))

  it.effect("are asked for anew when a read lock that the caller had ends during the wait: nothing runs beside a writer", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting()
      const { rw } = yield* locks(locker)
      const gate = yield* Deferred.make<void>()
      const writing = yield* Deferred.make<void>()
      yield* fork(outside(locker.withLock("m", Deferred.await(gate))))
      yield* Effect.scoped(Effect.gen(function*() {
        const reading = yield* rw.readLock()
        let isWriting = false
        const section = yield* fork(
          locker.withLocks([Want.read(rw), "m"], Effect.sync(() => assert.isFalse(isWriting)))
        )
        yield* reading.release
        const writer = yield* fork(outside(rw.withWriteLock(Effect.gen(function*() {
          isWriting = true
          yield* Deferred.await(writing)
          isWriting = false
        }))))
        yield* Deferred.succeed(gate, undefined)
        yield* TestClock.adjust("1 second")
        assert.isUndefined(section.pollUnsafe(), "it waits for the writer")
        yield* Deferred.succeed(writing, undefined)
        yield* Fiber.join(writer)
        yield* Fiber.join(section)
      }))
    }))

  it.effect("know what the caller has in any scope around them", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting()
      const { rw } = yield* locks(locker)
      const other = yield* Effect.provideService(ReadWriteLock.make("other"), Locker, locker)
      const write = Effect.flip(locker.withLocks([Want.write(other)], Effect.void, { timeout: "1 second" }))
      for (const wants of [[Want.read(rw), Want.read(other)], [Want.read(other), Want.read(rw)]]) {
        const error = yield* rw.withReadLock(
          Effect.andThen(other.readLock(), locker.withLocks(wants, write))
        )
        assert.strictEqual(error._tag, "LockAlreadyHeld")
      }
    }))

  it.effect("that the caller has count as there in the error", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting()
      const { rw } = yield* locks(locker)
      yield* fork(outside(locker.withLock("m", Effect.never)))
      const waiting = yield* fork(
        rw.withReadLock(Effect.flip(locker.withLocks([Want.read(rw), "n", "m"], Effect.void, { timeout: "1 second" })))
      )
      yield* TestClock.adjust("2 seconds")
      const error = yield* Fiber.join(waiting)
      assert(error._tag === "LockTimeout")
      assert.deepStrictEqual([error.key, error.acquired, error.wanted], ["m", 2, 3])
    }))

  it.live("keep their timeout where there are many groups, also when the process was late once", () =>
    Effect.gen(function*() {
      const memory = yield* MemoryLockStore.make
      let asked = 0
      const stall = Effect.sync(() => {
        const until = performance.now() + (++asked === 3 ? 120 : 0)
        while (performance.now() < until);
      })
      const store = LockStore.of({
        ...memory,
        groupOf: ({ key }) => Number(key.match(/\d+/)![0]),
        request: (claim, mode) => Effect.andThen(Effect.delay(stall, "40 millis"), memory.request(claim, mode))
      })
      const locker = yield* lockerOver(store)
      const keys = Array.from({ length: 64 }, (_, index) => `k${index}`)
      const recorded = yield* lag
      const error = yield* Effect.flip(locker.withLocks(keys, Effect.void, { timeout: "130 millis" }))
      assert(error._tag === "LockTimeout")
      // 64 groups would need 2,560 ms.
      assert.isBelow(Duration.toMillis(error.waited), 500 + recorded.max())
      for (const key of keys.slice(0, 10)) assert.isTrue(yield* tryKey(locker, key))
    }).pipe(Effect.scoped))

  it.effect("are all given up when their locker closes", () =>
    Effect.gen(function*() {
      const memory = yield* MemoryLockStore.make
      const other = yield* lockerOver(memory)
      yield* fork(other.withLock("b", Effect.never))
      const scope = yield* Scope.make()
      const locker = yield* Scope.provide(lockerOver(memory), scope)
      const waiting = yield* fork(Effect.flip(locker.withLocks(["a", "b", "c"], Effect.void)))
      const holding = yield* fork(Effect.flip(locker.withLocks(["d", "e"], Effect.never)))
      const closing = yield* fork(Scope.close(scope, Exit.void))
      yield* TestClock.adjust("10 seconds")
      yield* Fiber.join(closing)
      const error = yield* Fiber.join(waiting)
      assert.match(error.message, /the locker has been closed/)
      assert.strictEqual((yield* Fiber.join(holding))._tag, "OwnershipLost")
      for (const key of ["a", "c", "d", "e"]) assert.isTrue(yield* tryKey(other, key), key)
    }))

  it.effect("are left by callers that are interrupted anywhere", () =>
    Effect.gen(function*() {
      const memory = yield* MemoryLockStore.make
      const [one, two] = [yield* lockerOver(memory), yield* lockerOver(memory)]
      const keys = ["a", "b", "c"]
      let seed = 11
      const pick = (most: number) => (seed = (seed * 16_807) % 2_147_483_647) % most
      const some = () => keys.filter(() => pick(2) === 0).concat(keys[pick(3)]!)
      for (let round = 0; round < 2_000; round++) {
        const fibers: Array<Fiber.Fiber<unknown, unknown>> = []
        for (let caller = 0; caller < 4; caller++) {
          const body = pick(2) === 0 ? Effect.yieldNow : Effect.never
          fibers.push(yield* fork((pick(2) === 0 ? one : two).withLocks(some(), body)))
          for (let step = pick(4); step > 0; step--) yield* Effect.yieldNow
        }
        while (fibers.length > 0) yield* Fiber.interrupt(fibers.splice(pick(fibers.length), 1)[0]!)
        const all = yield* two.withLocksIfAvailable(keys, Effect.void)
        assert.isTrue(Option.isSome(all), `a key is left in round ${round}`)
      }
    }))

  it.effect("are also there as functions with the locker in the context", () =>
    Effect.gen(function*() {
      const both = Effect.map(Leases, ({ keys }) => keys.join())
      assert.strictEqual(yield* both.pipe(withLocks(["a", "b"])), "a,b")
      assert.strictEqual(yield* withLocks(["a", "b"], both, { ttl: "1 second" }), "a,b")
      assert.strictEqual(yield* withLocks(["a"], ({ holder }) => Effect.succeed(holder.length > 0 && "yes")), "yes")
      assert.deepStrictEqual(yield* both.pipe(withLocksIfAvailable(["c"])), Option.some("c"))
      yield* Effect.scoped(Effect.gen(function*() {
        yield* Locker.scopedAll(["a", "b"])
        const tried = outside(Effect.provideService(withLocksIfAvailable(["b"], both), Locker, yield* Locker))
        assert.isTrue(Option.isNone(yield* tried))
        assert.isTrue(Option.isSome(yield* Locker.scopedAllIfAvailable(["c"])))
        assert.strictEqual((yield* Effect.flip(withLock("a", Effect.void)))._tag, "LockAlreadyHeld")
      }))
    }).pipe(Effect.provide(Layer.fresh(Locker.layerMemory))))

  it.effect("do not print the id by which they are released", () =>
    Effect.gen(function*() {
      const { locker, sent } = yield* setting()
      yield* locker.withLocks(["a", "b"], (leases) =>
        Effect.sync(() => {
          const text = JSON.stringify(leases)
          assert.include(text, `"key":"a"`)
          for (const { claims } of sent("request")) for (const { id } of claims) assert.notInclude(text, id)
        }))
    }))
})

describe("a cap on holding several locks", () => {
  it.effect("stands for those that are left when one of them is lost, and the loss is what the caller hears", () =>
    Effect.gen(function*() {
      const { faulty, locker } = yield* setting()
      const held = yield* fork(Effect.flip(
        locker.withLocks(["b", "a"], Effect.uninterruptible(Effect.sleep("60 seconds")), { maxHold: "20 seconds" })
      ))
      const claim = faulty.calls.flatMap(({ claims }) => claims).find(({ key }) => key === "dlock:a")!
      yield* TestClock.adjust("5 seconds")
      yield* faulty.lose(claim.id, "Expired")
      const other = yield* fork(outside(locker.withLock("b", Effect.void)))
      for (let second = 0; second < 26; second++) yield* TestClock.adjust("1 second")
      assert.isDefined(other.pollUnsafe(), "the cap, the ttl and twice the guard gap are over")
      for (let second = 0; second < 40; second++) yield* TestClock.adjust("1 second")
      const error = yield* Fiber.join(held)
      assert.deepInclude(error, { _tag: "OwnershipLost", reason: "Expired", key: "a" })
    }))
})

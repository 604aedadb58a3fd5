import { assert, describe, it } from "@effect/vitest"
import { Cause, Deferred, Duration, Effect, Exit, Fiber, Option, Scope } from "effect"
import {
  DistributedSemaphore,
  InvalidLockRequest,
  Lease,
  Leases,
  LockAlreadyHeld,
  Locker,
  type LockOptions,
  OwnershipLost,
  ReadWriteLock,
  SharedLease,
  Want
} from "effect-dlock"
import { TestClock } from "effect/testing"
import type { Enclosing } from "../src/internal/lease/heldLease.ts"
import { fork, lockerOver, outside, setting, shiftedSetting, withLogs } from "./support.ts"

const reentrant = { reentrant: true }
const token = Effect.map(Lease, (lease) => lease.fencingToken)

describe("a re-entered lock", () => {
  it.effect("has the token of the outer section, sends nothing, and is released with the outermost", () =>
    Effect.gen(function*() {
      const { locker, memory, sent } = yield* setting()
      const other = yield* lockerOver(memory)
      const isFree = Effect.map(outside(other.withLockIfAvailable("k", Effect.void)), Option.isSome)
      yield* locker.withLock("k", (outer) =>
        Effect.gen(function*() {
          const inner = yield* locker.withLock("k", (lease) =>
            Effect.gen(function*() {
              assert.strictEqual((yield* Lease).fencingToken, outer.fencingToken)
              assert.strictEqual(yield* locker.withLock("k", token, reentrant), outer.fencingToken)
              return lease
            }), reentrant)
          assert.deepStrictEqual(
            [inner.key, inner.fencingToken, inner.holder, inner.ttl],
            [outer.key, outer.fencingToken, outer.holder, outer.ttl]
          )
          assert.strictEqual((yield* Effect.flip(inner.ensureHeld))._tag, "LockNotHeld")
          yield* outer.ensureHeld
          assert.strictEqual(yield* Lease, outer)
          assert.isFalse(yield* isFree)
        }))
      assert.isTrue(yield* isFree)
      // The other two are of the one who looked whether it is free.
      assert.strictEqual(sent("request").length, 1)
      assert.strictEqual(sent("withdraw").length, 1)
    }))

  it.effect("is entered wherever a second claim would wait for the caller itself", () =>
    Effect.gen(function*() {
      const { locker, memory, sent } = yield* setting()
      const sameStore = yield* lockerOver(memory)
      const enter = locker.withLock("k", token, reentrant)
      const inside = yield* locker.withLock("k", (outer) =>
        Effect.all([
          Effect.succeed(outer.fencingToken),
          enter,
          Effect.map(locker.withLockIfAvailable("k", token, reentrant), Option.getOrThrow),
          Effect.flatMap(Effect.forkChild(enter), Fiber.join),
          locker.withLock("another", enter),
          Effect.scoped(Effect.map(locker.scoped("k", reentrant), (lease) => lease.fencingToken)),
          Effect.scoped(
            Effect.map(locker.scopedIfAvailable("k", reentrant), (lease) => Option.getOrThrow(lease).fencingToken)
          ),
          Effect.map(locker.withLocks(["k"], Leases, reentrant), (leases) => leases.tokenOf("k")),
          locker.withLocks(["x", "y"], enter)
        ]))
      assert.deepStrictEqual(inside, Array(9).fill(inside[0]))
      const inScope = yield* Effect.scoped(Effect.gen(function*() {
        const outer = yield* locker.scoped("k")
        return [
          outer.fencingToken,
          yield* enter,
          (yield* locker.scoped("k", reentrant)).fencingToken,
          yield* locker.withLock("another", enter)
        ]
      }))
      assert.deepStrictEqual(inScope, Array(4).fill(inScope[0]))
      assert.deepStrictEqual(
        sent("request").map(({ claims }) => claims.map(({ key }) => key.slice("dlock:".length))).flat(),
        ["k", "another", "x", "y", "k", "another"]
      )
      // A locker of its own over the store that both have.
      const [one, two] = [yield* lockerOver(memory), sameStore]
      assert.strictEqual(
        yield* one.withLock("k", (lease) =>
          Effect.map(two.withLock("k", token, reentrant), (inner) => inner - lease.fencingToken)),
        0n
      )
    }))

  it.effect("is found in a scope around a section that was re-entered in between", () =>
    Effect.gen(function*() {
      const { locker, sent } = yield* setting()
      const helper = (key: string, program: Effect.Effect<bigint, unknown, Lease>) =>
        locker.withLock(key, program, reentrant)
      yield* locker.withLock(
        "order",
        Effect.gen(function*() {
          const item = yield* locker.scoped("item")
          assert.strictEqual(yield* helper("order", helper("item", token)), item.fencingToken)
          assert.strictEqual(
            yield* helper("order", locker.withLock("unrelated", helper("item", token))),
            item.fencingToken
          )
        })
      )
      assert.strictEqual(sent("request").length, 3)
    }))

  it.effect("waits for nobody, whatever its timeout, and before all who wait in front of the store", () =>
    Effect.gen(function*() {
      const { faulty, locker, memory } = yield* setting()
      const other = yield* lockerOver(memory)
      const done = yield* locker.withLock("k", () =>
        Effect.gen(function*() {
          const waiting = yield* fork(outside(other.withLock("k", Effect.void)))
          yield* faulty.hang("request")
          yield* Effect.forEach(Array(50), (_, n) => fork(outside(locker.withLock(`other-${n}`, Effect.void))))
          const result = yield* locker.withLock("k", Effect.succeed("in"), { reentrant: true, timeout: 0 })
          assert.isUndefined(waiting.pollUnsafe())
          return result
        }))
      assert.strictEqual(done, "in")
    }))

  it.effect("lets two children of one section run side by side", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting()
      const inside = { now: 0, most: 0 }
      const child = locker.withLock(
        "k",
        Effect.gen(function*() {
          inside.most = Math.max(inside.most, ++inside.now)
          yield* Effect.sleep("10 millis")
          inside.now--
        }),
        reentrant
      )
      const section = yield* fork(locker.withLock("k", Effect.all([child, child], { concurrency: 2 })))
      yield* TestClock.adjust("10 millis")
      yield* Fiber.join(section)
      assert.strictEqual(inside.most, 2)
    }))

  it.effect("leaves no chain of ended leases where each section starts the next one, hand over hand", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting()
      const length = yield* Deferred.make<number>()
      const section = (n: number, before?: Deferred.Deferred<void>): Effect.Effect<unknown> =>
        Effect.orDie(locker.withLock("k", (lease) =>
          Effect.gen(function*() {
            if (before !== undefined) yield* Deferred.succeed(before, undefined)
            // Some scheduling later the one before has ended.
            yield* Effect.sleep("1 milli")
            if (n === 50) {
              let count = 0
              for (let at = lease as unknown as Enclosing | undefined; at !== undefined; at = at.parent) count++
              return yield* Deferred.succeed(length, count)
            }
            const next = yield* Deferred.make<void>()
            yield* Effect.forkDetach(section(n + 1, next))
            return yield* Deferred.await(next)
          }), reentrant))
      const outermost = yield* fork(locker.withLock("k", Effect.andThen(section(0), Deferred.await(length))))
      yield* TestClock.adjust("1 second")
      assert.isAtMost(yield* Fiber.join(outermost), 4)
    }))

  it.live("may be nested as deep as a program likes, also with other locks in between", () =>
    Effect.gen(function*() {
      const { locker, sent } = yield* setting()
      const nested = (depth: number): Effect.Effect<number, unknown> =>
        depth === 0
          ? Effect.succeed(0)
          : Effect.map(locker.withLock("k", Effect.suspend(() => nested(depth - 1)), reentrant), (n) => n + 1)
      assert.strictEqual(yield* nested(5_000), 5_000)
      assert.strictEqual(sent("request").length, 1)
      const mixed = (depth: number): Effect.Effect<number, unknown> =>
        depth === 0
          ? Effect.succeed(0)
          : Effect.map(
            locker.withLock(
              depth % 20 === 0 ? `k${depth}` : "k",
              Effect.suspend(() => mixed(depth - 1)),
              reentrant
            ),
            (n) => n + 1
          )
      assert.strictEqual(yield* mixed(2_000), 2_000)
    }))
})

describe("the end of a re-entered lock", () => {
  it.effect("by its own release, is its own end only", () =>
    Effect.gen(function*() {
      const { locker, sent } = yield* setting()
      const scope = yield* Scope.make()
      const outer = yield* Scope.provide(locker.scoped("k"), scope)
      const inner = yield* Scope.provide(locker.scoped("k", reentrant), scope)
      const work = yield* fork(inner.whileHeld(Effect.never))
      const { renewal } = inner
      yield* inner.release
      yield* inner.release
      assert.strictEqual((yield* Effect.flip(Fiber.join(work)))._tag, "LockNotHeld")
      assert.strictEqual((yield* Effect.flip(inner.ensureHeld))._tag, "LockNotHeld")
      assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(renewal)))
      assert.strictEqual(Duration.toMillis(yield* inner.remaining), 0)
      yield* outer.ensureHeld
      yield* locker.withLock("k", (lease) => Effect.andThen(lease.release, outer.ensureHeld), reentrant).pipe(
        Scope.provide(scope)
      )
      assert.isEmpty(sent("withdraw"))
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(sent("withdraw").length, 1)
    }))

  it.effect("is that of its scope, or of the outer section if that ends first", () =>
    Effect.gen(function*() {
      const { locker, sent } = yield* setting()
      const longer = yield* Effect.scope
      const inner = yield* locker.withLock("k", (outer) =>
        Effect.gen(function*() {
          const shorter = yield* Effect.scoped(locker.scoped("k", reentrant))
          assert.strictEqual((yield* Effect.flip(shorter.ensureHeld))._tag, "LockNotHeld")
          yield* outer.ensureHeld
          return yield* Scope.provide(locker.scoped("k", reentrant), longer)
        }))
      const error = yield* Effect.flip(inner.ensureHeld)
      assert(error instanceof OwnershipLost)
      assert.strictEqual(error.reason, "Revoked")
      assert.deepStrictEqual([sent("request").length, sent("withdraw").length], [1, 1])
    }))

  it.effect("comes with the loss of the outer one: both fail with the same OwnershipLost", () =>
    Effect.gen(function*() {
      const { faulty, locker } = yield* setting()
      const seen: Array<unknown> = []
      const see = <A, E>(exit: Exit.Exit<A, E>) =>
        Effect.sync(() => seen.push(...(Exit.isFailure(exit) ? exit.cause.reasons : [])))
      const inner = locker.withLock(
        "k",
        (lease) =>
          Effect.onExit(
            Effect.andThen(fork(Effect.onExit(Fiber.join(lease.renewal), see)), Effect.never),
            () => Effect.void
          ),
        reentrant
      )
      const outer = yield* fork(locker.withLock("k", Effect.onExit(inner, see)))
      yield* faulty.answerRenewals({ _tag: "Gone" })
      yield* TestClock.adjust("3 seconds")
      const exit = yield* Fiber.await(outer)
      assert(Exit.isFailure(exit))
      const [reason, ...others] = exit.cause.reasons
      assert.isEmpty(others)
      assert(reason !== undefined && Cause.isFailReason(reason) && reason.error instanceof OwnershipLost)
      const losses = seen.filter((one) => Cause.isReason(one) && Cause.isFailReason(one)).map((one) =>
        (one as Cause.Fail<unknown>).error
      )
      assert.isNotEmpty(losses)
      for (const loss of losses) assert.strictEqual(loss, reason.error)
    }))

  it.effect("comes with a loss that only the inner section notices", () =>
    Effect.gen(function*() {
      const { faulty, locker, shift } = yield* shiftedSetting
      yield* faulty.hang("renew")
      const exit = yield* Effect.exit(locker.withLock("k", (outer) =>
        Effect.gen(function*() {
          const inner = yield* Effect.flip(locker.withLock(
            "k",
            Effect.sync(() => {
              shift.monotonic += 10_000
            }),
            reentrant
          ))
          assert(inner instanceof OwnershipLost)
          assert.strictEqual(yield* Effect.flip(outer.ensureHeld), inner)
          return yield* Effect.fail(inner)
        })))
      assert(Exit.isFailure(exit))
      assert.strictEqual(exit.cause.reasons.length, 1)
    }))

  it.effect("comes with the end of the outer one where its fiber goes on, and it cleans up before others are in", () =>
    Effect.gen(function*() {
      const { locker, memory } = yield* setting()
      const other = yield* lockerOver(memory)
      const events: Array<string> = []
      const left = yield* locker.withLock(
        "k",
        Effect.forkDetach(
          locker.withLock(
            "k",
            Effect.onExit(
              Effect.never,
              () => Effect.andThen(Effect.sleep("300 millis"), Effect.sync(() => events.push("cleaned up")))
            ),
            reentrant
          ),
          { startImmediately: true }
        )
      ).pipe(Effect.forkChild({ startImmediately: true }))
      const next = yield* fork(outside(other.withLock("k", Effect.sync(() => events.push("next")))))
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(next)
      assert.deepStrictEqual(events, ["cleaned up", "next"])
      const error = yield* Effect.flip(Fiber.join(yield* Fiber.join(left)))
      assert(error._tag === "OwnershipLost")
      assert.strictEqual(error.reason, "Revoked")
    }))
})

describe("a call that may re-enter, where the lock is not held", () => {
  it.effect("acquires as any other, with its own options", () =>
    Effect.gen(function*() {
      const { locker, sent } = yield* setting()
      const options = { reentrant: true, ttl: "2 seconds", guardGap: 0, metadata: { job: "nightly" } } as const
      yield* locker.withLock("k", Effect.void, options)
      const [claim] = sent("request")[0]!.claims
      assert.deepStrictEqual([claim!.ttl, claim!.guardGap], [Duration.seconds(2), Duration.zero])
      assert.include(claim!.holder, "nightly")
    }))

  it.effect("has a claim of its own after the section, and while somebody else holds the lock it waits", () =>
    Effect.gen(function*() {
      const { locker, sent } = yield* setting()
      const gate = yield* Deferred.make<void>()
      const daemon = yield* locker.withLock(
        "k",
        () => Effect.forkDetach(Effect.andThen(Deferred.await(gate), locker.withLock("k", token, reentrant)))
      )
      const held = yield* fork(outside(locker.withLock("k", Effect.sleep("1 second"))))
      yield* Deferred.succeed(gate, undefined)
      yield* TestClock.adjust("900 millis")
      assert.isUndefined(daemon.pollUnsafe())
      yield* TestClock.adjust("100 millis")
      yield* Fiber.join(held)
      assert.strictEqual(yield* Fiber.join(daemon), 3n)
      assert.strictEqual(sent("request").length, 3)
    }))

  it.effect("has a claim and a larger token of its own after an early release, and after a loss that nobody noticed", () =>
    Effect.gen(function*() {
      const { locker, sent } = yield* setting()
      const tokens = yield* locker.withLock("k", (outer) =>
        Effect.andThen(
          outer.release,
          Effect.map(locker.withLock("k", token, reentrant), (inner) => [outer.fencingToken, inner])
        ))
      assert.deepStrictEqual(tokens, [1n, 2n])
      assert.strictEqual(sent("request").length, 2)

      const { faulty, locker: stalled, shift } = yield* shiftedSetting
      yield* faulty.hang("renew")
      const lease = yield* stalled.scoped("k")
      shift.monotonic += 10_000
      const again = yield* fork(stalled.withLock("k", token, reentrant))
      // The store's clock is the other one.
      shift.monotonic = 0
      yield* TestClock.adjust("2 seconds")
      assert.isTrue((yield* Fiber.join(again)) > lease.fencingToken)
      assert.strictEqual((yield* Effect.flip(lease.ensureHeld))._tag, "OwnershipLost")
    }))
})

describe("a re-entry is refused, and nothing is sent,", () => {
  const refused = (error: unknown) => {
    assert(error instanceof InvalidLockRequest)
    return error.parameter
  }

  it.effect("without the option", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting()
      for (const options of [undefined, {}, { reentrant: false }, { reentrant: undefined }]) {
        const [error, held] = yield* locker.withLock("k", (lease) =>
          Effect.map(Effect.flip(locker.withLock("k", Effect.void, options)), (error) =>
            [error, lease] as const))
        assert.deepStrictEqual(error, new LockAlreadyHeld({ key: "k", fencingToken: held.fencingToken }))
      }
    }))

  it.effect.each<readonly [parameter: string, options: LockOptions]>([
    ["ttl", { ttl: "5 seconds" }],
    ["guardGap", { guardGap: 0 }],
    ["metadata", { metadata: {} }]
  ])("with $0, which belongs to the outer call", ([parameter, options]) =>
    Effect.gen(function*() {
      const { locker, sent } = yield* setting()
      const inner = { ...options, reentrant: true }
      const errors = yield* locker.withLock(
        "k",
        Effect.all([
          Effect.flip(locker.withLock("k", Effect.void, inner)),
          Effect.flip(locker.withLockIfAvailable("k", Effect.void, inner)),
          Effect.flip(Effect.scoped(locker.scoped("k", inner))),
          Effect.flip(locker.withLocks(["k"], Effect.void, inner))
        ])
      )
      assert.deepStrictEqual(errors.map(refused), Array(4).fill(parameter))
      assert.include(errors[0].message, "give it to the outer call")
      assert.strictEqual(sent("request").length, 1)
    }))

  it.effect("by a semaphore, whose permits nobody re-enters", () =>
    Effect.gen(function*() {
      const { faulty, locker } = yield* setting()
      const semaphore = yield* Effect.provideService(DistributedSemaphore.make("s", { permits: 2 }), Locker, locker)
      const errors = yield* Effect.all([
        Effect.flip(semaphore.withPermit(Effect.void, reentrant as {})),
        Effect.flip(semaphore.withPermits(1, reentrant as {})(Effect.void)),
        Effect.flip(Effect.scoped(semaphore.takeScoped(1, reentrant as {})))
      ])
      assert.deepStrictEqual(errors.map(refused), Array(3).fill("reentrant"))
      assert.isEmpty(faulty.calls)
      const inside = yield* semaphore.withPermit(
        Effect.flip(locker.withLocks(["k", Want.permits(semaphore)], Effect.void, reentrant))
      )
      assert.strictEqual(inside._tag, "LockAlreadyHeld")
    }))

  it.effect("by a lock of another kind under the same key", () =>
    Effect.gen(function*() {
      const { locker, sent } = yield* setting()
      const lock = yield* Effect.provideService(ReadWriteLock.make("k"), Locker, locker)
      const inside = yield* lock.withWriteLock(Effect.flip(locker.withLock("k", Effect.void, reentrant)))
      const outside = yield* locker.withLock("k", Effect.flip(lock.withReadLock(Effect.void, reentrant)))
      assert.deepStrictEqual([inside._tag, outside._tag], ["LockAlreadyHeld", "LockAlreadyHeld"])
      assert.strictEqual(sent("request").length, 2)
    }))
})

describe("a read-write lock", () => {
  const made = Effect.gen(function*() {
    const { faulty, locker, memory, sent } = yield* setting()
    const other = yield* lockerOver(memory)
    const make = (locker: Locker["Service"]) =>
      Effect.provideService(ReadWriteLock.make("k", { ttl: "4 seconds" }), Locker, locker)
    const [mine, others] = [yield* make(locker), yield* make(other)]
    const isFree = Effect.map(outside(others.withWriteLockIfAvailable(Effect.void)), Option.isSome)
    const isReadable = Effect.map(outside(others.withReadLockIfAvailable(Effect.void)), Option.isSome)
    return { faulty, sent, mine, others, isFree, isReadable }
  })

  it.effect("is re-entered by a writer inside a writer, and by a reader with or without the option", () =>
    Effect.gen(function*() {
      const { isFree, mine, sent } = yield* made
      yield* mine.withWriteLock((outer) =>
        Effect.gen(function*() {
          const inner = yield* mine.withWriteLock(Lease, reentrant)
          assert.strictEqual(inner.fencingToken, outer.fencingToken)
          const scoped = yield* Effect.scoped(Effect.map(mine.writeLock(reentrant), (lease) => lease.fencingToken))
          assert.strictEqual(scoped, outer.fencingToken)
          const read = mine.withReadLock(Effect.map(SharedLease, (lease) => lease.grant), reentrant)
          assert.strictEqual(yield* read, outer.fencingToken)
          assert.strictEqual(yield* mine.withWriteLock(read, reentrant), outer.fencingToken)
          yield* outer.ensureHeld
        })
      )
      assert.strictEqual(sent("request").length, 1)
      assert.isTrue(yield* isFree)
    }))

  it.effect("refuses a writer inside a reader all the same", () =>
    Effect.gen(function*() {
      const { mine, sent } = yield* made
      const errors = yield* Effect.all([
        mine.withReadLock(Effect.flip(mine.withWriteLock(Effect.void, reentrant))),
        mine.withWriteLock((write) =>
          Effect.andThen(write.downgrade, Effect.flip(mine.withWriteLock(Effect.void, reentrant)))
        )
      ])
      for (const error of errors) {
        assert(error instanceof LockAlreadyHeld)
        assert.strictEqual(error.held, "read")
      }
      assert.strictEqual(sent("request").length, 2)
    }))

  it.effect("stays a write lock when an inner writer downgrades, and while an inner writer runs", () =>
    Effect.gen(function*() {
      const { isReadable, mine, sent } = yield* made
      yield* mine.withWriteLock((outer) =>
        Effect.gen(function*() {
          yield* mine.withWriteLock((inner) =>
            Effect.gen(function*() {
              const shared = yield* inner.downgrade
              yield* shared.ensureHeld
              yield* mine.withWriteLock(
                (deeper) => Effect.flatMap(deeper.downgrade, ({ release }) => release),
                reentrant
              )
              yield* Effect.all([inner.ensureHeld, outer.ensureHeld])
              assert.strictEqual(shared.grant, outer.fencingToken)
              yield* outer.downgrade
              assert.isFalse(yield* isReadable)
            }), reentrant)
          assert.isEmpty(sent("shrink"))
          assert.isFalse(yield* isReadable)
          yield* outer.downgrade
          assert.isTrue(yield* isReadable)
        })
      )
      assert.strictEqual(sent("shrink").length, 1)
    }))

  it.effect("refuses the options of a claim inside, but for the ttl that it was made with", () =>
    Effect.gen(function*() {
      const { mine, sent } = yield* made
      yield* mine.withWriteLock(Effect.gen(function*() {
        yield* mine.withWriteLock(Effect.void, { reentrant: true, timeout: "1 second" })
        const own = yield* Effect.flip(mine.withWriteLock(Effect.void, { reentrant: true, ttl: "5 seconds" }))
        assert(own._tag === "InvalidLockRequest")
        assert.strictEqual(own.parameter, "ttl")
      }))
      yield* mine.withWriteLock(Effect.void, reentrant)
      assert.deepStrictEqual(sent("request").map(({ claims }) => claims[0]!.ttl), Array(2).fill(Duration.seconds(4)))
    }))
})

describe("several locks", () => {
  it.effect("leave out what is held, and release only the rest", () =>
    Effect.gen(function*() {
      const { locker, sent } = yield* setting()
      const lock = yield* Effect.provideService(ReadWriteLock.make("rw"), Locker, locker)
      const keys = () => sent("request").flatMap(({ claims }) => claims.map(({ key }) => key.slice("dlock:".length)))
      yield* locker.withLock("a", (a) =>
        lock.withWriteLock((write) =>
          Effect.gen(function*() {
            const leases = yield* locker.withLocks(
              ["a", "b", Want.write(lock)],
              (leases) => Effect.as(leases.ensureHeld, leases),
              { reentrant: true, ttl: "3 seconds" }
            )
            assert.deepStrictEqual([leases.tokenOf("a"), leases.tokenOf("rw")], [a.fencingToken, write.fencingToken])
            assert.deepStrictEqual(keys(), ["a", "rw", "b"])
            assert.deepStrictEqual(sent("request")[2]!.claims[0]!.ttl, Duration.seconds(3))
            yield* Effect.all([a.ensureHeld, write.ensureHeld])
            const plain = yield* Effect.flip(locker.withLocks(["a", "c"], Effect.void))
            assert(plain instanceof LockAlreadyHeld)
            assert.strictEqual(plain.key, "a")
            const nothing = { reentrant: true, ttl: "3 seconds" } as const
            const all = yield* Effect.flip(locker.withLocks(["a", Want.write(lock)], Effect.void, nothing))
            assert.strictEqual(all._tag, "InvalidLockRequest")
          })
        ))
      assert.deepStrictEqual(keys(), ["a", "rw", "b"])
    }))

  it.effect("are asked for anew if what was left out ends while the others are awaited", () =>
    Effect.gen(function*() {
      const { locker, memory, sent } = yield* setting()
      const other = yield* lockerOver(memory)
      const held = yield* fork(outside(other.withLock("b", Effect.sleep("1 second"))))
      const result = yield* fork(locker.withLock("a", (a) =>
        Effect.gen(function*() {
          const both = yield* fork(
            locker.withLocks(["a", "b"], (leases) => Effect.succeed(leases.tokenOf("a")), reentrant)
          )
          yield* a.release
          return [a.fencingToken, yield* Fiber.join(both)] as const
        })))
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(held)
      const [before, after] = yield* Fiber.join(result)
      assert.isTrue(after > before)
      assert.deepStrictEqual(sent("request").map(({ claims }) => claims.length), [1, 1, 2])
    }))
})

describe("a release of the outer lease", () => {
  it.live("from a re-entered section does not wait for that section, and the next is in when it has ended", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        const { locker, memory } = yield* setting({ defaultTtl: "1 minute" })
        const other = yield* lockerOver(memory)
        const startedAt = performance.now()
        yield* locker.withLock("k", (outer) =>
          Effect.gen(function*() {
            const next = yield* fork(outside(other.withLock("k", Effect.sync(() => performance.now()))))
            const inner = yield* Effect.flip(
              locker.withLock("k", Effect.andThen(Effect.sleep(5), outer.release), reentrant)
            )
            assert.strictEqual(inner._tag, "OwnershipLost")
            assert.isBelow((yield* Fiber.join(next)) - startedAt, 1_000)
          }))
        assert.deepStrictEqual(lines, [])
      })
    ))

  it.live("waits for slow clean-up in a view, and takes that for no silence of the backend", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        const { locker } = yield* setting({ defaultTtl: "1 minute" })
        const slow = Effect.onInterrupt(Effect.never, () => Effect.sleep("2200 millis"))
        yield* locker.withLock(
          "k",
          Effect.andThen(Effect.forkDetach(locker.withLock("k", slow, reentrant)), Effect.sleep(5))
        )
        yield* locker.withLock("k", Effect.void)
        assert.deepStrictEqual(lines, [])
      })
    ))
})

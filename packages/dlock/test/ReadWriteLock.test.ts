import { assert, describe, it } from "@effect/vitest"
import { Deferred, Duration, Effect, Exit, Fiber, Option, Scope } from "effect"
import { Lease, LockBackendError, Locker, LockStore, OwnershipLost, ReadWriteLock, SharedLease } from "effect-dlock"
import type { Renewal } from "effect-dlock/LockStore"
import { TestClock } from "effect/testing"
import { fork, lockerOver, outside, setting, withLogs } from "./support.ts"

const lockOf = (locker: Locker["Service"], options?: Parameters<typeof ReadWriteLock.make>[1]) =>
  ReadWriteLock.make("catalogue", options).pipe(Effect.provideService(Locker, locker))

/** Two processes over one memory. */
const two = Effect.gen(function*() {
  const { faulty, locker, memory, sent } = yield* setting()
  const other = yield* lockOf(yield* lockerOver(memory))
  return { faulty, locker, memory, sent, lock: yield* lockOf(locker), other }
})

/** Runs a section until it is told to leave. */
const section = Effect.fnUntraced(function*<E>(run: (program: Effect.Effect<void>) => Effect.Effect<void, E>) {
  const [entered, gate] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
  const fiber = yield* fork(
    outside(run(Effect.andThen(Deferred.succeed(entered, undefined), Deferred.await(gate))))
  )
  return {
    fiber,
    isInside: Deferred.isDone(entered),
    leave: Effect.andThen(Deferred.succeed(gate, undefined), Fiber.join(fiber))
  }
})

describe("a read-write lock", () => {
  it.effect("lets readers in together, a writer alone, and later readers after the writer", () =>
    Effect.gen(function*() {
      const { lock, other } = yield* two
      const [first, second] = [
        yield* section((program) => lock.withReadLock(program)),
        yield* section((program) => other.withReadLock(program))
      ]
      assert.deepStrictEqual([yield* first.isInside, yield* second.isInside], [true, true])
      const writer = yield* section((program) => lock.withWriteLock(program))
      const late = yield* section((program) => other.withReadLock(program))
      assert.isTrue(Option.isNone(yield* other.withReadLockIfAvailable(Effect.void)))
      yield* first.leave
      assert.isFalse(yield* writer.isInside)
      yield* second.leave
      assert.deepStrictEqual([yield* writer.isInside, yield* late.isInside], [true, false])
      assert.isTrue(Option.isNone(yield* other.withWriteLockIfAvailable(Effect.void)))
      yield* writer.leave
      assert.isTrue(yield* late.isInside)
      yield* late.leave
      assert.isTrue(Option.isSome(yield* other.withWriteLockIfAvailable(Effect.void)))
    }))

  it.effect("gives a writer a fence and a reader none", () =>
    Effect.gen(function*() {
      const { lock } = yield* two
      const grant = yield* lock.withReadLock(Effect.map(SharedLease, (lease) => lease.grant))
      const token = yield* lock.withWriteLock(Effect.map(Lease, (lease) => lease.fencingToken))
      assert.isTrue(token > grant)
      const next = yield* lock.withWriteLock((lease) => Effect.succeed(lease.fencingToken))
      assert.isTrue(next > token)
      yield* lock.withReadLock(Effect.gen(function*() {
        assert.isTrue(Option.isNone(yield* Effect.serviceOption(Lease)))
      }))
    }))

  it.effect("has readers of 10 seconds at most, unless they say something else", () =>
    Effect.gen(function*() {
      const { memory } = yield* setting()
      const ttls = (defaultTtl: Duration.Input, options?: Parameters<typeof ReadWriteLock.make>[1]) =>
        Effect.gen(function*() {
          const lock = yield* lockOf(yield* lockerOver(memory, { defaultTtl }), options)
          const ttl = (lease: { readonly ttl: Duration.Duration }) => Effect.succeed(Duration.toSeconds(lease.ttl))
          const given = yield* lock.withReadLock(ttl, { ttl: "20 seconds" })
          return [yield* lock.withReadLock(ttl), yield* lock.withWriteLock(ttl), given]
        })
      assert.deepStrictEqual(yield* ttls("30 seconds"), [10, 30, 20])
      assert.deepStrictEqual(yield* ttls("4 seconds"), [4, 4, 20])
      assert.deepStrictEqual(yield* ttls("30 seconds", { ttl: "15 seconds" }), [15, 15, 20])
    }))

  it.effect("takes options that are inherited", () =>
    Effect.gen(function*() {
      const { lock, other } = yield* two
      const held = yield* fork(outside(other.withWriteLock(Effect.never)))
      const options = Object.create({ timeout: "1 second" }) as { readonly timeout: "1 second" }
      const waiting = yield* fork(Effect.flip(outside(lock.withReadLock(Effect.void, options))))
      yield* TestClock.adjust("1100 millis")
      assert.strictEqual((yield* Fiber.join(waiting))._tag, "LockTimeout")
      yield* Fiber.interrupt(held)
      const wrong = Object.create({ timeOut: 1 }) as never
      assert.strictEqual((yield* Effect.flip(lock.withReadLock(Effect.void, wrong)))._tag, "InvalidLockRequest")
    }))

  it.effect("takes no options that it does not know", () =>
    Effect.gen(function*() {
      const { locker, lock, faulty } = yield* two
      const made = yield* Effect.flip(lockOf(locker, { permits: 2 } as never))
      assert.deepStrictEqual([made._tag, made.parameter], ["InvalidLockRequest", "permits"])
      const read = yield* Effect.flip(lock.withReadLock(Effect.void, { timeOut: 1 } as never))
      assert.strictEqual(read._tag, "InvalidLockRequest")
      assert.isEmpty(faulty.calls)
    }))
})

describe("a reader inside", () => {
  it.effect("a reader re-enters, also behind a writer that waits, and sends nothing", () =>
    Effect.gen(function*() {
      const { lock, other, sent } = yield* two
      const read = yield* lock.withReadLock(Effect.gen(function*() {
        yield* section((program) => other.withWriteLock(program))
        const outer = yield* SharedLease
        const inner = yield* lock.withReadLock(SharedLease)
        const piped = yield* SharedLease.pipe(lock.withReadLock())
        const tried = yield* lock.withReadLockIfAvailable(Effect.succeed("in"))
        const scoped = yield* Effect.scoped(Effect.map(lock.readLock(), (lease) => lease.grant))
        assert.deepStrictEqual([inner.grant, piped.grant, scoped], [outer.grant, outer.grant, outer.grant])
        assert.deepStrictEqual(tried, Option.some("in"))
        yield* outer.ensureHeld
        return outer
      }))
      assert.strictEqual(sent("request").length, 1)
      assert.strictEqual(sent("withdraw").length, 1)
      assert.strictEqual((yield* Effect.flip(read.ensureHeld))._tag, "LockNotHeld")
    }))

  it.effect("a writer re-enters, and the writer's lease stays its own", () =>
    Effect.gen(function*() {
      const { lock, sent } = yield* two
      yield* lock.withWriteLock((write) =>
        Effect.gen(function*() {
          const token = yield* lock.withReadLock(Effect.map(SharedLease, (lease) => lease.grant))
          assert.strictEqual(token, write.fencingToken)
          assert.strictEqual((yield* Lease).fencingToken, token)
          yield* write.ensureHeld
        })
      )
      assert.strictEqual(sent("request").length, 1)
    }))

  it.effect("the same scope re-enters, and its release ends only itself", () =>
    Effect.gen(function*() {
      const { lock, other, sent } = yield* two
      const scope = yield* Scope.make()
      const outer = yield* Scope.provide(lock.readLock(), scope)
      const inner = yield* Scope.provide(lock.readLock(), scope)
      const work = yield* fork(inner.whileHeld(Effect.never))
      yield* inner.release
      yield* inner.release
      assert.strictEqual((yield* Effect.flip(Fiber.join(work)))._tag, "LockNotHeld")
      assert.strictEqual((yield* Effect.flip(inner.ensureHeld))._tag, "LockNotHeld")
      assert.strictEqual(Duration.toMillis(yield* inner.remaining), 0)
      yield* outer.ensureHeld
      assert.isTrue(Option.isNone(yield* other.withWriteLockIfAvailable(Effect.void)))
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(sent("request").length, 1)
      assert.isTrue(Option.isSome(yield* other.withWriteLockIfAvailable(Effect.void)))
    }))

  it.effect("a section that loses its lock loses it too", () =>
    Effect.gen(function*() {
      const { faulty, lock } = yield* two
      const ends: Array<string> = []
      const inner = lock.withReadLock(Effect.never).pipe(
        Effect.onExit((exit) => Effect.sync(() => ends.push(Exit.isFailure(exit) ? "inner ended" : "inner succeeded")))
      )
      const outer = yield* fork(lock.withReadLock(inner))
      yield* faulty.answerRenewals({ _tag: "Gone" })
      yield* TestClock.adjust("3 seconds")
      const error = yield* Effect.flip(Fiber.join(outer))
      assert.deepStrictEqual([error._tag, ends], ["OwnershipLost", ["inner ended"]])
    }))

  it.effect("a section ends with it where its fiber goes on", () =>
    Effect.gen(function*() {
      const { lock, sent } = yield* two
      const left = yield* lock.withReadLock(Effect.gen(function*() {
        const [running, gate] = [
          yield* Effect.forkDetach(lock.withReadLock(Effect.never), { startImmediately: true }),
          yield* Deferred.make<void>()
        ]
        const later = yield* Effect.forkDetach(
          Effect.andThen(Deferred.await(gate), lock.withReadLock(Effect.succeed("in"))),
          { startImmediately: true }
        )
        return { running, later, gate }
      }))
      const error = yield* Effect.flip(Fiber.join(left.running))
      assert(error._tag === "OwnershipLost")
      assert.strictEqual(error.reason, "Revoked")
      // What begins after the section has a claim of its own.
      yield* Deferred.succeed(left.gate, undefined)
      assert.strictEqual(yield* Fiber.join(left.later), "in")
      assert.strictEqual(sent("request").length, 2)
    }))
})

describe("a view of a read lease", () => {
  it.effect("has its program cleaned up before anybody else is in", () =>
    Effect.gen(function*() {
      const { lock, other } = yield* two
      const events: Array<string> = []
      yield* lock.withReadLock(
        Effect.forkDetach(
          lock.withReadLock(
            Effect.never.pipe(Effect.onExit(() =>
              Effect.andThen(Effect.sleep("300 millis"), Effect.sync(() => events.push("cleaned up")))
            ))
          ),
          { startImmediately: true }
        )
      ).pipe(Effect.forkChild({ startImmediately: true }))
      const writer = yield* fork(outside(other.withWriteLock(Effect.sync(() =>
        events.push("writer")
      ))))
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(writer)
      assert.deepStrictEqual(events, ["cleaned up", "writer"])
    }))

  it.effect("may be nested as deep as a program likes", () =>
    Effect.gen(function*() {
      const { lock, sent } = yield* two
      const nested = (depth: number): Effect.Effect<number, unknown> =>
        depth === 0
          ? Effect.succeed(0)
          : Effect.map(lock.withReadLock(Effect.suspend(() => nested(depth - 1))), (n) => n + 1)
      assert.strictEqual(yield* nested(5_000), 5_000)
      assert.strictEqual(sent("request").length, 1)
    }))

  it.effect("is of the lease that the scope around a section holds", () =>
    Effect.gen(function*() {
      const { lock, locker, other, sent } = yield* two
      yield* Effect.scoped(Effect.gen(function*() {
        yield* lock.readLock()
        yield* fork(outside(other.withWriteLock(Effect.void)))
        const inside = locker.withLock(
          "another",
          Effect.all([lock.withReadLock(Effect.succeed("in")), Effect.flip(lock.withWriteLock(Effect.void))])
        )
        const [read, write] = yield* inside
        assert.strictEqual(read, "in")
        assert(write._tag === "LockAlreadyHeld")
        assert.strictEqual(write.held, "read")
      }))
      assert.strictEqual(sent("request").length, 2)
    }))

  it.effect("leaves nothing in a scope that stays open", () =>
    Effect.gen(function*() {
      const { lock } = yield* two
      const scope = yield* Scope.make()
      yield* Scope.provide(lock.readLock(), scope)
      const count = () => scope.state._tag === "Open" ? scope.state.finalizers?.size ?? 1 : 0
      const before = count()
      for (let turn = 0; turn < 10; turn++) {
        yield* Effect.flatMap(Scope.provide(lock.readLock(), scope), (one) => one.release)
      }
      assert.strictEqual(count(), before)
      yield* Scope.close(scope, Exit.void)
    }))
})

describe("a writer inside", () => {
  it.effect("a reader fails at once, in words that say what to do", () =>
    Effect.gen(function*() {
      const { lock, sent } = yield* two
      const errors = yield* lock.withReadLock(Effect.all([
        Effect.flip(lock.withWriteLock(Effect.void)),
        Effect.flip(lock.withWriteLockIfAvailable(Effect.void)),
        Effect.flip(Effect.scoped(lock.writeLock())),
        lock.withReadLock(Effect.flip(lock.withWriteLock(Effect.void)))
      ]))
      for (const error of errors) {
        assert(error._tag === "LockAlreadyHeld")
        assert.strictEqual(error.held, "read")
        assert.match(error.message, /release it, take the write lock, and read again/)
        assert.deepInclude(JSON.parse(JSON.stringify(error)), { held: "read" })
      }
      assert.strictEqual(sent("request").length, 1)
    }))

  it.effect("a writer fails, as a lock inside itself does", () =>
    Effect.gen(function*() {
      const { lock } = yield* two
      const error = yield* lock.withWriteLock(Effect.flip(lock.withWriteLock(Effect.void)))
      assert(error._tag === "LockAlreadyHeld")
      assert.strictEqual(error.held, "write")
    }))
})

describe("a downgrade", () => {
  it.effect("lets readers in and no writer, keeps the token, and can be repeated", () =>
    Effect.gen(function*() {
      const { lock, other, sent } = yield* two
      yield* lock.withWriteLock((write) =>
        Effect.gen(function*() {
          const reader = yield* section((program) => other.withReadLock(program))
          assert.isFalse(yield* reader.isInside)
          const shared = yield* write.downgrade
          yield* write.downgrade
          assert.strictEqual(shared.grant, write.fencingToken)
          assert.strictEqual(shared.permits, 1)
          assert.isTrue(yield* reader.isInside)
          assert.isTrue(Option.isNone(yield* outside(other.withWriteLockIfAvailable(Effect.void))))
          yield* TestClock.adjust("20 seconds")
          yield* shared.ensureHeld
          const again = yield* Effect.flip(lock.withWriteLock(Effect.void))
          assert(again._tag === "LockAlreadyHeld")
          assert.strictEqual(again.held, "read")
          yield* reader.leave
        })
      )
      assert.strictEqual(sent("shrink").length, 1)
      assert.isTrue(Option.isSome(yield* other.withWriteLockIfAvailable(Effect.void)))
    }))

  it.effect("whose answer is lost is asked for again, and counts from its own sending", () =>
    Effect.gen(function*() {
      const { faulty, lock, sent } = yield* two
      const done = yield* fork(lock.withWriteLock((write) =>
        Effect.gen(function*() {
          yield* faulty.dropReplies("shrink", 2)
          yield* faulty.hang("renew")
          yield* write.downgrade
          return Duration.toMillis(yield* write.remaining)
        })
      ))
      yield* TestClock.adjust("5 seconds")
      assert.isAbove(yield* Fiber.join(done), 6_000)
      assert.strictEqual(sent("shrink").length, 3)
    }))

  it.effect("of a lock that is gone is a loss", () =>
    Effect.gen(function*() {
      const { faulty, lock, memory } = yield* two
      const lost = yield* fork(lock.withWriteLock((write) =>
        Effect.gen(function*() {
          const [{ claims }] = faulty.calls as [typeof faulty.calls[number]]
          yield* memory.withdraw(claims[0]!)
          const error = yield* Effect.flip(write.downgrade)
          assert.strictEqual(error._tag, "OwnershipLost")
          return "went on"
        })
      ))
      const error = yield* Effect.flip(Fiber.join(lost))
      assert(error instanceof OwnershipLost)
      assert.strictEqual(error.reason, "Expired")
    }))

  it.effect("with a store that cannot shrink stays exclusive, and says so once", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        const { memory } = yield* setting()
        const { shrink: _, ...plain } = memory
        const lock = yield* lockOf(yield* lockerOver(LockStore.of(plain)))
        const other = yield* lockOf(yield* lockerOver(memory))
        for (let time = 0; time < 2; time++) {
          yield* lock.withWriteLock((write) =>
            Effect.gen(function*() {
              yield* write.downgrade
              assert.isTrue(Option.isNone(yield* outside(other.withReadLockIfAvailable(Effect.void))))
            })
          )
        }
        assert.strictEqual(lines.filter(({ message }) => message.includes("has no shrink")).length, 1)
      })
    ))

  it.effect("that the store refuses stays exclusive and says so, and a store keeps its `this`", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        const { memory } = yield* setting()
        const refusal = new LockBackendError({ operation: "renew", retryable: false, cause: new Error("NOPERM") })
        const shrinks = [
          () => Effect.succeed<Renewal>({ _tag: "Unknown", error: refusal }),
          () => Effect.die("a defect")
        ]
        for (const shrink of shrinks) {
          const lock = yield* lockOf(yield* lockerOver(LockStore.of({ ...memory, shrink })))
          const other = yield* lockOf(yield* lockerOver(memory))
          yield* lock.withWriteLock((write) =>
            Effect.gen(function*() {
              yield* write.downgrade
              yield* write.ensureHeld
              assert.isTrue(Option.isNone(yield* outside(other.withReadLockIfAvailable(Effect.void))))
            })
          )
        }
        assert.strictEqual(lines.filter(({ message }) => message.includes("readers wait until")).length, 2)
        class Store {
          readonly memory = memory
          request(...args: Parameters<typeof memory.request>) {
            return this.memory.request(...args)
          }
          renew(...args: Parameters<typeof memory.renew>) {
            return this.memory.renew(...args)
          }
          withdraw(...args: Parameters<typeof memory.withdraw>) {
            return this.memory.withdraw(...args)
          }
          shrink(...args: Parameters<NonNullable<typeof memory.shrink>>) {
            return this.memory.shrink!(...args)
          }
          readonly losses = memory.losses
        }
        const lock = yield* lockOf(yield* lockerOver(LockStore.of(new Store())))
        const other = yield* lockOf(yield* lockerOver(memory))
        const isOpen = yield* lock.withWriteLock((write) =>
          Effect.andThen(write.downgrade, outside(other.withReadLockIfAvailable(Effect.void)))
        )
        assert.isTrue(Option.isSome(isOpen))
      })
    ))

  it.effect("after the release is not held", () =>
    Effect.gen(function*() {
      const { lock } = yield* two
      const lease = yield* Effect.scoped(lock.writeLock())
      assert.strictEqual((yield* Effect.flip(lease.downgrade))._tag, "LockNotHeld")
    }))
})

import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Option } from "effect"
import { DistributedSemaphore, Locker, LockStore, MemoryLockStore, ReadWriteLock, SharedLease } from "effect-dlock"
import { TestClock } from "effect/testing"
import { fork, lockerOver, outside, setting, withLogs } from "./support.ts"

/** Whether it completes at once. */
const askNow = (lease: { readonly contended: Effect.Effect<void> }) =>
  Effect.gen(function*() {
    const told = yield* fork(lease.contended)
    yield* Effect.yieldNow
    const isTold = told.pollUnsafe() !== undefined
    yield* Fiber.interrupt(told)
    return isTold
  })

/** A locker over a memory that counts who waits for contention. */
const watched = Effect.fnUntraced(function*(changes?: Partial<LockStore["Service"]>) {
  const memory = yield* MemoryLockStore.make
  const counts = { asked: 0, stopped: 0 }
  const store = LockStore.of({
    ...memory,
    ...changes,
    contended: (held) =>
      Effect.suspend(() => {
        counts.asked++
        return memory.contended!(held)
      }).pipe(Effect.onExit(() => Effect.sync(() => void counts.stopped++)))
  })
  return { counts, locker: yield* lockerOver(store, { defaultTtl: "9 seconds" }) }
})

describe("contended", () => {
  it.effect("completes when another caller waits, and stays so after that caller has left", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting()
      const lease = yield* locker.scoped("k")
      const told = yield* fork(lease.contended)
      yield* TestClock.adjust("1 minute")
      assert.isUndefined(told.pollUnsafe())
      const waiting = yield* fork(outside(locker.withLock("k", Effect.void)))
      yield* Fiber.join(told)
      yield* Fiber.interrupt(waiting)
      assert.isTrue(yield* askNow(lease))
      yield* lease.release
      assert.isTrue(yield* askNow(lease))
    }))

  it.effect("completes for nobody who only tries, has left before, or waits for another key", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting()
      const lease = yield* locker.scoped("k")
      const told = yield* fork(lease.contended)
      assert.isTrue(Option.isNone(yield* outside(locker.withLockIfAvailable("k", Effect.void))))
      yield* outside(locker.withLock("other", Effect.void))
      yield* Effect.yieldNow
      assert.isUndefined(told.pollUnsafe())
      const late = yield* locker.scoped("late")
      yield* Fiber.interrupt(yield* fork(outside(locker.withLock("late", Effect.void))))
      assert.isFalse(yield* askNow(late))
    }))

  it.effect("lets a batch job give way between two chunks, and come back behind those who waited", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting()
      const order: Array<string> = []
      const chunk = (name: string) => Effect.andThen(Effect.sleep("1 second"), Effect.sync(() => void order.push(name)))
      const turn = locker.withLock("k", (lease) => Effect.raceFirst(Effect.forever(chunk("batch")), lease.contended))
      const job = yield* fork(outside(Effect.forever(turn)))
      yield* TestClock.adjust("2 seconds")
      const urgent = yield* fork(outside(locker.withLock("k", chunk("urgent"))))
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(urgent)
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(order, ["batch", "batch", "urgent", "batch"])
      yield* Fiber.interrupt(job)
    }))

  it.effect("asks the store once for a lease, at its first use, until the lease ends", () =>
    Effect.gen(function*() {
      const { counts, locker } = yield* watched()
      yield* outside(locker.withLock("k", Effect.void))
      assert.strictEqual(counts.asked, 0)
      const lease = yield* locker.scoped("k")
      for (let time = 0; time < 3; time++) assert.isFalse(yield* askNow(lease))
      assert.deepStrictEqual(counts, { asked: 1, stopped: 0 })
      yield* lease.release
      assert.deepStrictEqual(counts, { asked: 1, stopped: 1 })
      assert.isFalse(yield* askNow(lease))
      assert.strictEqual(counts.asked, 1)
    }))

  it.effect("of a lost lease never completes, and its store stops watching", () =>
    Effect.gen(function*() {
      const { counts, locker } = yield* watched({ renew: () => Effect.succeed([{ _tag: "Replaced" }]) })
      const lease = yield* locker.scoped("k")
      const told = yield* fork(lease.contended)
      yield* TestClock.adjust("4 seconds")
      assert.strictEqual((yield* Effect.flip(lease.ensureHeld))._tag, "OwnershipLost")
      assert.isUndefined(told.pollUnsafe())
      assert.isFalse(yield* askNow(lease))
      assert.deepStrictEqual(counts, { asked: 1, stopped: 1 })
    }))

  it.effect("never completes over a store that cannot tell, and a defect of the store is logged", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        const { contended: _, ...memory } = yield* MemoryLockStore.make
        const broken = LockStore.of({ ...memory, contended: () => Effect.die(new Error("broken")) })
        for (const store of [LockStore.of(memory), broken]) {
          const locker = yield* lockerOver(store)
          const lease = yield* locker.scoped("k")
          const waiting = yield* fork(outside(locker.withLock("k", Effect.void)))
          assert.isFalse(yield* askNow(lease))
          yield* Fiber.interrupt(waiting)
          yield* lease.release
        }
        assert.deepStrictEqual(lines.map(({ annotations, message }) => [message.split(":")[0], annotations.key]), [
          ["A defect in the lock store", "k"]
        ])
      })
    ))

  it.effect("of permits and of a read lock completes for those who do not get in", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting()
      yield* Effect.gen(function*() {
        const semaphore = yield* DistributedSemaphore.make("s", { permits: 2 })
        const permit = yield* semaphore.takeScoped(1)
        yield* outside(semaphore.withPermit(Effect.void))
        assert.isFalse(yield* askNow(permit))
        yield* fork(outside(semaphore.withPermits(2)(Effect.void)))
        assert.isTrue(yield* askNow(permit))

        const lock = yield* ReadWriteLock.make("rw")
        const read = yield* lock.readLock()
        yield* outside(lock.withReadLock(Effect.void))
        assert.isFalse(yield* askNow(read))
        yield* fork(outside(lock.withWriteLock(Effect.void)))
        assert.isTrue(yield* askNow(read))
      }).pipe(Effect.provideService(Locker, locker))
    }))

  it.effect("of a reader inside a writer is that of the writer", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting()
      yield* Effect.gen(function*() {
        const lock = yield* ReadWriteLock.make("rw")
        yield* lock.withWriteLock(lock.withReadLock(Effect.gen(function*() {
          const view = yield* SharedLease
          assert.isFalse(yield* askNow(view))
          yield* fork(outside(lock.withReadLock(Effect.void)))
          assert.isTrue(yield* askNow(view))
        })))
      }).pipe(Effect.provideService(Locker, locker))
    }))

  it.effect("of several locks completes when one of them is contended", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting()
      const leases = yield* locker.scopedAll(["a", "b"])
      yield* fork(outside(locker.withLock("c", Effect.void)))
      assert.isFalse(yield* askNow(leases))
      yield* fork(outside(locker.withLock("b", Effect.void)))
      assert.isTrue(yield* askNow(leases))
    }))
})

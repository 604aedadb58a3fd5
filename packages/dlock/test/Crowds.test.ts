import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Logger } from "effect"
import { LockStore, MemoryLockStore } from "effect-dlock"
import { FaultyLockStore } from "effect-dlock/testing"
import { fork, lockerOver } from "./support.ts"

/** Milliseconds of work: other processes have no part in it. */
const cpu = () => {
  const { system, user } = process.threadCpuUsage()
  return (system + user) / 1_000
}

const quiet = Effect.provide(Logger.layer([]))

/**
 * Each doubling takes at most 2.5 times as long, over three of them and by medians: what grows with the square stands out
 * from the collector's work only where the crowd is large. The sizes take turns, so that other work on the machine meets
 * both; the best of them would be one that the collector happened to spare, which the larger never are.
 */
const expectLinear = <E>(count: number, run: (count: number) => Effect.Effect<number, E>) =>
  Effect.gen(function*() {
    yield* run(count / 10)
    const pairs = yield* Effect.forEach([1, 2, 3], () => Effect.all([run(count), run(8 * count)]))
    const [few, many] = [median(pairs.map(([few]) => few)), median(pairs.map(([, many]) => many))]
    assert.isAtMost(many, 2.5 ** 3 * few + 50, `${count}: ${few.toFixed(0)} ms, 8 times as many: ${many.toFixed(0)} ms`)
  })

const median = (times: ReadonlyArray<number>) => times.toSorted((a, b) => a - b)[times.length >> 1]!

const timed = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.suspend(() => {
    const start = cpu()
    return Effect.map(effect, () => cpu() - start)
  })

describe("a crowd costs in proportion to its size", { timeout: 180_000 }, () => {
  const crowd = Effect.fnUntraced(function*(count: number) {
    const locker = yield* lockerOver(yield* MemoryLockStore.make, { defaultTtl: "1 hour" })
    let open!: () => void
    const gate = new Promise<void>((resolve) => open = resolve)
    const holder = yield* fork(locker.withLock("k", Effect.promise(() => gate)))
    const waiting = yield* Effect.forEach(Array.from({ length: count }), () => fork(locker.withLock("k", Effect.void)))
    return { holder, waiting, open }
  })

  it.effect("of waiters for one key in memory, which are let in", () =>
    expectLinear(8_000, (count) =>
      Effect.scoped(Effect.gen(function*() {
        const start = cpu()
        const { holder, open, waiting } = yield* crowd(count)
        open()
        yield* Fiber.join(holder)
        yield* Fiber.awaitAll(waiting)
        return cpu() - start
      }))))

  for (
    const [order, sort] of [["first", <A>(all: Array<A>) => all], [
      "last",
      <A>(all: Array<A>) => all.toReversed()
    ]] as const
  ) {
    it.effect(`of waiters for one key in memory, which are interrupted, the ${order} one first`, () =>
      expectLinear(8_000, (count) =>
        Effect.scoped(Effect.gen(function*() {
          const start = cpu()
          const { holder, open, waiting } = yield* crowd(count)
          yield* Fiber.interruptAll(sort(waiting))
          open()
          yield* Fiber.join(holder)
          return cpu() - start
        }))))
  }

  it.effect("of holders of permits of one key in memory", () =>
    expectLinear(8_000, (count) =>
      Effect.scoped(Effect.gen(function*() {
        const memory = yield* MemoryLockStore.make
        const faulty = yield* FaultyLockStore.make(memory)
        yield* Effect.flatMap(lockerOver(faulty.store), (locker) => locker.withLock("k", Effect.void))
        const claim = faulty.calls[0]!.claims[0]!
        return yield* timed(Effect.forEach(
          Array.from({ length: count }),
          (_, index) => memory.request({ ...claim, id: `${index}`, kind: "semaphore", capacity: count }, "queue"),
          { discard: true }
        ))
      }))))

  it.effect("of locks whose loss is told by hints, the last one first", () =>
    expectLinear(5_000, (count) =>
      Effect.scoped(Effect.gen(function*() {
        const faulty = yield* FaultyLockStore.make(yield* MemoryLockStore.make)
        const locker = yield* lockerOver(LockStore.of(faulty.store))
        const leases = yield* Effect.forEach(Array.from({ length: count }), (_, index) => locker.scoped(`k${index}`))
        const ids = faulty.calls.map((call) => call.claims[0]!.id)
        return yield* timed(Effect.gen(function*() {
          for (const id of ids.toReversed()) {
            yield* faulty.lose(id, "Expired")
            yield* Effect.yieldNow
          }
          yield* Effect.forEach(leases, (lease) => Effect.flip(lease.lost), { discard: true })
        }))
      })).pipe(quiet)))
})

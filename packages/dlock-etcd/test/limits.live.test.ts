import { assert, describe, it } from "@effect/vitest"
import * as Holds from "dlock-testing/holds"
import { Effect, Fiber } from "effect"
import { DistributedSemaphore, Locker } from "effect-dlock"
import { claims, eventually, setting, within } from "./support.ts"

describe("maxHold", () => {
  it.live("keeps others out until a program that is slow to end has ended", () =>
    Effect.gen(function*() {
      const { another, withLock } = yield* setting()
      const other = yield* another
      yield* Holds.keepsOthersOutWhileItEnds(withLock, other.withLock)
    }).pipe(Effect.scoped))

  it.live("lets others in at its bound, where the program never ends and other locks of its process go on", () =>
    Effect.gen(function*() {
      const { another, scoped, withLock } = yield* setting()
      const other = yield* another
      // It shares the lease of the capped one, and keeps it alive.
      const lease = yield* scoped("held", { ttl: "2 seconds", guardGap: "500 millis" })
      yield* Holds.keepsOthersOutUpToItsBound(
        (key, program, options) => Effect.scoped(withLock(key, program, options)),
        other.withLock
      )
      yield* lease.ensureHeld
    }).pipe(Effect.scoped))

  it.live("is the same for permits", () =>
    Effect.gen(function*() {
      const { another } = yield* setting()
      const semaphoreOf = (locker: Locker["Service"]) =>
        DistributedSemaphore.make("api", { permits: 1 }).pipe(Effect.provideService(Locker, locker))
      const [one, other] = [yield* semaphoreOf(yield* another), yield* semaphoreOf(yield* another)]
      yield* Holds.keepsOthersOutUpToItsBound(
        (_, program, options) => one.withPermit(program, options),
        (_, program, options) => other.withPermit(program, options)
      )
    }).pipe(Effect.scoped))
})

describe("maxQueue", () => {
  it.live("refuses a caller at once, and the queue keeps nothing of it", () =>
    Effect.gen(function*() {
      const { admin, another } = yield* setting()
      const lockers = [yield* another, yield* another, yield* another, yield* another]
      const [holding, waiting, alsoWaiting, asking] = lockers
      yield* asking!.withLock("free", Effect.void, { maxQueue: 0 })
      const wait = (count: number) =>
        eventually(`${count} claims`, async () => (await claims(admin, "dlock:k")).length === count)
      const fibers = [yield* Effect.forkChild(holding!.withLock("k", Effect.never))]
      yield* wait(1)
      for (const locker of [waiting!, alsoWaiting!]) {
        fibers.push(yield* Effect.forkChild(locker.withLock("k", Effect.never, { maxQueue: 2 })))
        yield* wait(fibers.length)
      }
      const refused = yield* within(Effect.flip(asking!.withLock("k", Effect.void, { maxQueue: 2 })), 250)
      assert(refused._tag === "LockTimeout")
      assert.deepStrictEqual([refused.queueLength, refused.maxQueue], [2, 2])
      assert.lengthOf(yield* Effect.promise(() => claims(admin, "dlock:k")), 3)
      yield* Fiber.interruptAll(fibers)
    }).pipe(Effect.scoped))

  it.live("counts who waits now, also where many of this process wait", () =>
    Effect.gen(function*() {
      const { admin, another } = yield* setting()
      const [holding, waiting] = [yield* another, yield* another]
      const length = (count: number) =>
        eventually(`${count} claims`, async () => (await claims(admin, "dlock:k")).length === count)
      const holder = yield* Effect.forkChild(holding.withLock("k", Effect.never))
      yield* length(1)
      const fibers = []
      for (let nth = 0; nth < 20; nth++) fibers.push(yield* Effect.forkChild(waiting.withLock("k", Effect.never)))
      yield* length(21)
      const before = yield* Effect.flip(waiting.withLock("k", Effect.void, { maxQueue: 20 }))
      assert(before._tag === "LockTimeout")
      assert.strictEqual(before.queueLength, 20)
      // Those in the middle give up.
      yield* Fiber.interruptAll(fibers.slice(5, 15))
      yield* length(11)
      const next = yield* Effect.forkChild(waiting.withLock("k", Effect.never, { maxQueue: 11 }))
      yield* length(12)
      const full = yield* Effect.flip(waiting.withLock("k", Effect.void, { maxQueue: 11 }))
      assert(full._tag === "LockTimeout")
      assert.strictEqual(full.queueLength, 11)
      yield* Fiber.interruptAll([holder, next, ...fibers])
    }).pipe(Effect.scoped))

  it.live("refuses several locks for one full queue, and keeps none of them", () =>
    Effect.gen(function*() {
      const { admin, another } = yield* setting()
      const [holding, waiting, asking] = [yield* another, yield* another, yield* another]
      const holder = yield* Effect.forkChild(holding.withLock("b", Effect.never))
      yield* eventually("it is held", async () => (await claims(admin, "dlock:b")).length === 1)
      const first = yield* Effect.forkChild(waiting.withLock("b", Effect.never))
      yield* eventually("one waits", async () => (await claims(admin, "dlock:b")).length === 2)
      const refused = yield* Effect.flip(asking.withLocks(["a", "b", "c"], Effect.void, { maxQueue: 1 }))
      assert(refused._tag === "LockTimeout")
      assert.deepStrictEqual([refused.key, refused.queueLength, refused.maxQueue, refused.wanted], ["b", 1, 1, 3])
      for (const [key, count] of [["a", 0], ["b", 2], ["c", 0]] as const) {
        yield* eventually(`claims on ${key}`, async () => (await claims(admin, `dlock:${key}`)).length === count)
      }
      yield* Fiber.interruptAll([holder, first])
    }).pipe(Effect.scoped))
})

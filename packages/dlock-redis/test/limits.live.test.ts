import { assert, describe, it } from "@effect/vitest"
import * as Holds from "dlock-testing/holds"
import { Effect, Fiber } from "effect"
import { DistributedSemaphore, Locker } from "effect-dlock"
import { asStranger, commandsSent, eventually, setting, within } from "./support.ts"

describe("maxHold", () => {
  it.live("keeps others out until a program that is slow to end has ended", () =>
    Effect.gen(function*() {
      const { another, withLock } = yield* setting()
      const other = yield* another
      yield* Holds.keepsOthersOutWhileItEnds(withLock, other.withLock)
    }).pipe(Effect.scoped))

  it.live("lets others in at its bound, where the program never ends", () =>
    Effect.gen(function*() {
      const { another, withLock } = yield* setting()
      const other = yield* another
      yield* Holds.keepsOthersOutUpToItsBound(withLock, other.withLock)
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
  it.live("refuses a caller at once, by one command, and the queue keeps nothing of it", () =>
    Effect.gen(function*() {
      const { admin, another, withLock } = yield* setting()
      const other = yield* another
      yield* other.withLock("free", Effect.void, { maxQueue: 0 })
      const holder = yield* Effect.forkChild(withLock("k", Effect.never))
      yield* eventually("it is held", async () => await admin.exists("dlock:k") === 1)
      const first = yield* Effect.forkChild(asStranger(withLock("k", Effect.never, { maxQueue: 1 })))
      yield* eventually("one waits", async () => await admin.zcard("{dlock:k}:\0q") === 1)
      const before = yield* Effect.promise(() => commandsSent(admin))
      const refused = yield* within(Effect.flip(other.withLock("k", Effect.void, { maxQueue: 1 })), 250)
      assert(refused._tag === "LockTimeout")
      assert.deepStrictEqual([refused.queueLength, refused.maxQueue], [1, 1])
      assert.isDefined(refused.holder)
      assert.strictEqual((yield* Effect.promise(() => commandsSent(admin))) - before, 1)
      assert.strictEqual(yield* Effect.promise(() => admin.zcard("{dlock:k}:\0q")), 1)
      assert.strictEqual(yield* Effect.promise(() => admin.hlen("{dlock:k}:\0w")), 1)
      yield* Fiber.interruptAll([holder, first])
    }).pipe(Effect.scoped))

  it.live("refuses several locks for one full queue, and keeps none of them", () =>
    Effect.gen(function*() {
      const { admin, another, withLock } = yield* setting()
      const other = yield* another
      const holder = yield* Effect.forkChild(withLock("b", Effect.never))
      yield* eventually("it is held", async () => await admin.exists("dlock:b") === 1)
      const first = yield* Effect.forkChild(asStranger(withLock("b", Effect.never)))
      yield* eventually("one waits", async () => await admin.zcard("{dlock:b}:\0q") === 1)
      const refused = yield* Effect.flip(other.withLocks(["a", "b", "c"], Effect.void, { maxQueue: 1 }))
      assert(refused._tag === "LockTimeout")
      assert.deepStrictEqual([refused.key, refused.queueLength, refused.maxQueue, refused.wanted], ["b", 1, 1, 3])
      assert.strictEqual(yield* Effect.promise(() => admin.exists("dlock:a", "dlock:c")), 0)
      assert.strictEqual(yield* Effect.promise(() => admin.zcard("{dlock:b}:\0q")), 1)
      yield* Fiber.interruptAll([holder, first])
    }).pipe(Effect.scoped))
})

import { assert, describe, it } from "@effect/vitest"
import { recordLag } from "dlock-testing"
import { Context, Deferred, Effect, Fiber, Layer } from "effect"
import { LockStore, type OwnershipLost } from "effect-dlock"
import { EtcdLockStore } from "effect-dlock-etcd"
import type { Claim } from "effect-dlock/LockStore"
import type { ITxnRequest } from "etcd3"
import { silentFailure } from "../src/internal/client/failure.ts"
import { claimOf, placesIn } from "./claim.ts"
import { claims, eventually, locker, lockerOver, plainClient, queued, server, watched } from "./support.ts"

type Locker = Effect.Success<ReturnType<typeof locker>>

/** Sections of one lock. Records their order and any overlap, which must not happen. */
const lock = () => {
  const order: Array<string> = []
  const inside = new Set<string>()
  const overlaps: Array<string> = []
  const section = (name: string, lasts: Effect.Effect<unknown>) =>
    Effect.acquireUseRelease(
      Effect.sync(() => {
        order.push(name)
        inside.add(name)
        if (inside.size > 1) overlaps.push(Array.from(inside).join(" and "))
      }),
      () => lasts,
      () => Effect.sync(() => inside.delete(name))
    )
  const ask = ({ withLock }: Locker, name: string, lasts: Effect.Effect<unknown>) =>
    Effect.forkChild(withLock("k", section(name, lasts), { ttl: "30 seconds" }), { startImmediately: true })
  return { ask, order, overlaps }
}

/** Whether a request puts a claim in the queue of the lock. */
const enters = (request: ITxnRequest): boolean => placesIn(request).some((place) => place.startsWith("dlock:k/"))

describe.concurrent("a process that waits for a lock with many claims", () => {
  // Before, the name of its first claim was reused before the deletion of that claim was reported, and the new claim was taken
  // for the first one.
  it.live("lets nobody in by a name that another claim of it had before", () =>
    Effect.gen(function*() {
      const { url } = yield* server()
      const { ask, order, overlaps } = lock()
      let isLate = false
      const mine = yield* lockerOver(url, (port) => ({
        ...port,
        watch: (listeners) =>
          port.watch({
            ...listeners,
            onResponse: (response) =>
              isLate ? void setTimeout(listeners.onResponse, 300, response) : listeners.onResponse(response)
          })
      }))
      const other = yield* locker({ hosts: url })
      const [first, second] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
      const holder = yield* ask(mine, "first", Deferred.await(first))
      yield* queued(url, 1)
      const next = yield* ask(other, "second", Deferred.await(second))
      yield* queued(url, 2)
      const crowd = yield* Effect.forEach(Array.from({ length: 9 }), () => ask(mine, "crowd", Effect.void))
      yield* queued(url, 11)
      yield* watched(url, 3)
      isLate = true
      yield* Deferred.succeed(first, undefined)
      yield* Fiber.join(holder)
      const last = yield* ask(mine, "last", Effect.void)
      yield* Effect.sleep(15)
      yield* Fiber.interruptAll(crowd)
      yield* Effect.sleep(500)
      assert.deepStrictEqual(order, ["first", "second"])
      yield* Deferred.succeed(second, undefined)
      yield* Fiber.join(next)
      yield* Fiber.join(last)
      assert.deepStrictEqual(order, ["first", "second", "last"])
      assert.deepStrictEqual(overlaps, [])
    }).pipe(Effect.scoped))

  // Before, the process assumed that claims which it had not read did not exist.
  it.live(
    "hands over to no claim that others stand before, where the answer about an earlier one was lost",
    () =>
      Effect.gen(function*() {
        const { url } = yield* server()
        const { ask, order, overlaps } = lock()
        let isLost = false
        const mine = yield* lockerOver(url, (port) => ({
          ...port,
          txn: (request, limit, onUnsent) =>
            Effect.suspend(() => {
              const asked = port.txn(request, limit, onUnsent)
              if (!isLost || !enters(request)) return asked
              isLost = false
              return Effect.andThen(asked, Effect.delay(Effect.fail(silentFailure), 1_500))
            })
        }))
        const other = yield* locker({ hosts: url })
        const released = yield* Deferred.make<void>()
        const fibers = [yield* ask(other, "holder", Deferred.await(released))]
        yield* queued(url, 1)
        // This puts the sign of life of the process.
        const warm = yield* ask(mine, "warm", Effect.void)
        yield* queued(url, 2)
        yield* Fiber.interrupt(warm)
        yield* queued(url, 1)
        isLost = true
        fibers.push(yield* ask(mine, "early", Effect.sleep(100)))
        yield* queued(url, 2)
        fibers.push(yield* ask(other, "between", Effect.sleep(300)))
        yield* queued(url, 3)
        const crowd = yield* Effect.forEach(Array.from({ length: 17 }), () => ask(other, "crowd", Effect.void))
        yield* queued(url, 20)
        fibers.push(yield* ask(mine, "late", Effect.sleep(300)))
        yield* queued(url, 21)
        yield* Effect.sleep(1_000)
        yield* Fiber.interruptAll(crowd)
        yield* Deferred.succeed(released, undefined)
        yield* Effect.forEach(fibers, Fiber.join)
        assert.deepStrictEqual(order, ["holder", "early", "between", "late"])
        assert.deepStrictEqual(overlaps, [])
      }).pipe(Effect.scoped),
    120_000
  )

  // Before, the process waited for the report of a deletion that it had heard of already, until its next poll.
  it.live(
    "lets its next claim in at once where the claim that holds the lock is deleted by hand",
    () =>
      Effect.gen(function*() {
        const { url } = yield* server()
        const admin = yield* plainClient(url)
        const mine = yield* locker({ hosts: url })
        const another = yield* locker({ hosts: url })
        const recorded = recordLag()
        const delays: Array<string> = []
        for (const isAlone of [true, false]) {
          for (const heldFor of [200, 1_000]) {
            const { ask } = lock()
            const [first, second] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
            const enteredThird = yield* Deferred.make<number>()
            const holder = yield* ask(mine, "first", Deferred.await(first))
            yield* queued(url, 1)
            const deleted = yield* ask(
              mine,
              "second",
              Effect.andThen(Deferred.succeed(second, undefined), Effect.never)
            )
            yield* queued(url, 2)
            const third = yield* ask(mine, "third", Deferred.succeed(enteredThird, 0))
            yield* queued(url, 3)
            const behind = isAlone ? [] : [yield* ask(another, "behind", Effect.void)]
            yield* queued(url, isAlone ? 3 : 4)
            yield* Deferred.succeed(first, undefined)
            yield* Deferred.await(second)
            yield* Effect.sleep(heldFor)
            const [key] = yield* Effect.promise(() => claims(admin, "dlock:k"))
            const deletedAt = performance.now()
            yield* Effect.promise(() => admin.delete().key(key!))
            yield* Deferred.await(enteredThird)
            const took = performance.now() - deletedAt
            delays.push(took.toFixed(0))
            assert.isAtMost(
              took,
              500 + recorded.max(),
              `held for ${heldFor} ms, ${isAlone ? "alone" : "another waits"}`
            )
            const error = yield* Effect.flip(Fiber.join(deleted))
            assert.strictEqual((error as OwnershipLost).reason, "Expired")
            yield* Effect.forEach([holder, third, ...behind], (fiber) => Fiber.join<unknown, unknown>(fiber))
          }
        }
        recorded.stop()
        yield* Effect.log(`in ${delays.join(", ")} ms after the deletion (lag ${recorded.max().toFixed(0)} ms)`)
      }).pipe(Effect.scoped),
    120_000
  )

  // Before, each waiter that gave up made the server sort the whole queue, for an error that no caller saw.
  it.live("gives up 4,000 of them in a moment", () =>
    Effect.gen(function*() {
      const { url } = yield* server()
      const { ask, order } = lock()
      const [mine, other] = [yield* locker({ hosts: url }), yield* locker({ hosts: url })]
      const released = yield* Deferred.make<void>()
      yield* ask(other, "holder", Deferred.await(released))
      yield* queued(url, 1)
      const crowd = yield* Effect.forEach(Array.from({ length: 4_000 }), () => ask(mine, "crowd", Effect.void))
      const admin = yield* plainClient(url)
      yield* eventually("they stand there", async () => (await claims(admin, "dlock:k")).length === 4_001, 30_000)
      yield* Fiber.interruptAll(crowd)
      yield* eventually("they are gone", async () => (await claims(admin, "dlock:k")).length === 1, 5_000)
      yield* Deferred.succeed(released, undefined)
      yield* Fiber.join(yield* ask(mine, "next", Effect.void))
      assert.deepStrictEqual(order, ["holder", "next"])
    }).pipe(Effect.scoped))
})

describe("a try for permits", () => {
  // Before, a claim that entered in the same transaction as the look, behind it, was not seen.
  // Before, pending tries whose time had ended failed as if the server were unreachable.
  it.live("is told that its time is over, not that a slow server is away", () =>
    Effect.gen(function*() {
      const { url } = yield* server()
      const { withLock } = yield* lockerOver(url, (port) => ({
        ...port,
        txn: (...asked) => Effect.delay(port.txn(...asked), "60 millis")
      }))
      yield* withLock("k", Effect.void)
      const recorded = recordLag()
      const ended = yield* Effect.forEach(
        Array.from({ length: 300 }),
        () => Effect.result(withLock("k", Effect.void, { timeout: "150 millis" })),
        { concurrency: "unbounded" }
      )
      recorded.stop()
      const failed = ended.flatMap((result) => result._tag === "Failure" ? [result.failure._tag] : [])
      assert.isAbove(failed.length, 100, "there is no time for all")
      // The check is skipped if this process was too busy to read its socket.
      const blamed = failed.filter((tag) => tag !== "LockTimeout")
      if (recorded.max() < 100) assert.strictEqual(blamed.length, 0)
      yield* queued(url, 0)
    }).pipe(Effect.scoped))

  it.live("counts who comes together with it", () =>
    Effect.gen(function*() {
      const { url } = yield* server()
      const store = Context.get(yield* Layer.build(Layer.fresh(EtcdLockStore.layer({ hosts: url }))), LockStore)
      let number = 0
      const permit = (key: string, capacity: number): Claim => ({
        ...claimOf(30_000, 1_000),
        kind: "semaphore",
        id: String(number++).padStart(22, "0"),
        key,
        capacity
      })
      for (let round = 0; round < 60; round++) {
        const [first, second, third] = [permit(`k${round}`, 2), permit(`k${round}`, 2), permit(`k${round}`, 2)]
        yield* store.request(first, "queue")
        const others = ["x", "y", "z"].map((key) => permit(key, 1))
        const answers = yield* Effect.all([
          ...others.map((one) => Effect.andThen(store.request(one, "queue"), store.withdraw(one))),
          Effect.map(store.request(second, "queue"), ({ _tag }) => _tag),
          Effect.map(store.request(third, "try"), ({ _tag }) => _tag)
        ], { concurrency: "unbounded" })
        assert.isBelow(answers.filter((tag) => tag === "Granted").length, 2)
        yield* Effect.forEach([first, second, third], store.withdraw)
      }
    }).pipe(Effect.scoped))
})

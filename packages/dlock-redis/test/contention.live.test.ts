import { assert, describe, it } from "@effect/vitest"
import { startWorker } from "dlock-testing"
import { type SharesReport, spread } from "dlock-testing/shares"
import { Context, Effect, Exit, Fiber, Option, Scope } from "effect"
import { DistributedSemaphore, Lease, Locker, ReadWriteLock, SharedLease } from "effect-dlock"
import * as Path from "node:path"
import { commandsSent, eventually, proxiedSetting, setting, timed } from "./support.ts"

/** Runs an effect outside every section and scope of the caller. */
const outside = <A, E>(effect: Effect.Effect<A, E>): Effect.Effect<A, E> =>
  Effect.updateContext(
    effect,
    (context: Context.Context<never>) => Context.omit(Lease, SharedLease, Scope.Scope)(context)
  )

/** Holds something in a scope of its own, to the end of the test. */
const apart = <A, E>(held: Effect.Effect<A, E, Scope.Scope>): Effect.Effect<A, E, Scope.Scope> =>
  Effect.flatMap(
    Effect.acquireRelease(Scope.make(), (scope) => Scope.close(scope, Exit.void)),
    (scope) => Scope.provide(held, scope)
  )

/** Milliseconds within which a holder is told, beyond what this process was late by. */
const handOver = 50

describe("a holder that others wait for", () => {
  it.live("is told within 50 ms after one of them is in the queue, and for nobody before", () =>
    Effect.gen(function*() {
      const { admin, another, scoped, withLock } = yield* setting()
      const other = yield* another
      const took: Array<number> = []
      for (let time = 0; time < 40; time++) {
        const key = `k${time}`
        const lease = yield* scoped(key, { ttl: "1 minute" })
        const told = yield* Effect.forkChild(lease.contended, { startImmediately: true })
        assert.isTrue(Option.isNone(yield* outside(other.withLockIfAvailable(key, Effect.void))))
        yield* Effect.sleep(5)
        assert.isUndefined(told.pollUnsafe())
        // One of another process, or one of the same process.
        const waits = time % 2 === 0 ? other.withLock : withLock
        const waiting = yield* Effect.forkChild(outside(waits(key, Effect.void)), { startImmediately: true })
        yield* eventually("one waits", async () => (await admin.zcard(`{dlock:${key}}:\0q`)) === 1)
        const [millis] = yield* timed(Fiber.join(told))
        took.push(millis)
        yield* lease.release
        yield* Fiber.join(waiting)
      }
      yield* Effect.log(`told at most ${Math.max(...took).toFixed(1)} ms after the waiter was in the queue`)
      assert.isBelow(Math.max(...took), handOver)
    }).pipe(Effect.scoped))

  it.live("is told of those who waited before its grant, and of nobody if they have left", () =>
    Effect.gen(function*() {
      const { admin, another, scoped } = yield* setting()
      const other = yield* another
      const queued = (key: string, count: number) =>
        eventually(`${count} wait`, async () => (await admin.zcard(`{dlock:${key}}:\0q`)) === count)
      const asks = (key: string) =>
        Effect.forkChild(
          outside(other.withLock(key, (lease) => Effect.timeoutOption(timed(lease.contended), "1 second"))),
          { startImmediately: true }
        )
      for (const leaves of [false, true]) {
        const key = `leaves ${leaves}`
        const lease = yield* scoped(key)
        const next = yield* asks(key)
        yield* queued(key, 1)
        const last = yield* asks(key)
        yield* queued(key, 2)
        if (leaves) yield* Fiber.interrupt(last)
        if (leaves) yield* queued(key, 1)
        const told = yield* Effect.andThen(lease.release, Fiber.join(next))
        assert.strictEqual(Option.isSome(told), !leaves)
        if (Option.isSome(told)) assert.isBelow(told.value[0], handOver)
      }
    }).pipe(Effect.scoped))

  it.live("is told with its next renewal if the message is lost", () =>
    Effect.gen(function*() {
      const { admin, another, proxy, scoped } = yield* proxiedSetting()
      const other = yield* another
      const lease = yield* scoped("k", { ttl: "3 seconds" })
      const told = yield* Effect.forkChild(lease.contended, { startImmediately: true })
      proxy.deliverNotifications("lose")
      yield* Effect.forkChild(outside(other.withLock("k", Effect.void)), { startImmediately: true })
      yield* eventually("one waits", async () => (await admin.zcard("{dlock:k}:\0q")) === 1)
      const [took] = yield* timed(Fiber.join(told))
      // Not by the message.
      assert.isAbove(took, 2 * handOver)
      // A renewal is due a third of the ttl after the last confirmation.
      assert.isBelow(took, 1_000 + handOver)
      yield* lease.release
    }).pipe(Effect.scoped))

  it.live("costs nothing more if nobody asks", () =>
    Effect.gen(function*() {
      const { admin, another, scoped } = yield* setting()
      const other = yield* another
      const lease = yield* scoped("k", { ttl: "1 minute" })
      const waiting = yield* Effect.forkChild(outside(other.withLock("k", Effect.void)), { startImmediately: true })
      yield* eventually("one waits", async () => (await admin.zcard("{dlock:k}:\0q")) === 1)
      const before = yield* Effect.promise(() => commandsSent(admin))
      assert.isTrue(Option.isSome(yield* Effect.timeoutOption(lease.contended, "1 second")))
      assert.strictEqual(yield* Effect.promise(() => commandsSent(admin)), before)
      yield* lease.release
      yield* Fiber.join(waiting)
    }).pipe(Effect.scoped))

  it.live("of permits or a read lock is told of those who do not get in, however many processes hold some", () =>
    Effect.gen(function*() {
      const { another } = yield* setting()
      const made = Effect.gen(function*() {
        const locker = yield* another
        return yield* Effect.all({
          semaphore: DistributedSemaphore.make("api", { permits: 6 }),
          lock: ReadWriteLock.make("catalogue")
        }).pipe(Effect.provideService(Locker, locker))
      })
      const all = yield* Effect.forEach([0, 1, 2], () => made)
      const leases = []
      for (const { lock, semaphore } of all) {
        leases.push(
          yield* apart(semaphore.takeScoped(1)),
          yield* apart(semaphore.takeScoped(1)),
          yield* apart(lock.readLock())
        )
      }
      const told = yield* Effect.forEach(
        leases,
        ({ contended }) => Effect.forkChild(contended, { startImmediately: true })
      )
      yield* Effect.sleep(100)
      assert.isTrue(told.every((one) => one.pollUnsafe() === undefined))
      const { lock, semaphore } = yield* made
      yield* Effect.forkChild(outside(semaphore.withPermit(Effect.void)), { startImmediately: true })
      yield* Effect.forkChild(outside(lock.withWriteLock(Effect.void)), { startImmediately: true })
      yield* Effect.timeout(Fiber.joinAll(told), "1 second")
    }).pipe(Effect.scoped))
})

describe("processes that give way", () => {
  it.live("have equal shares of one lock", () =>
    Effect.gen(function*() {
      const { redis } = yield* setting()
      const workers = yield* Effect.forEach(Array.from({ length: 4 }), () =>
        Effect.acquireRelease(
          Effect.sync(() =>
            startWorker<SharesReport>(Path.join(import.meta.dirname, "programs/shareholder.ts"), {
              args: [redis.url, "6000"]
            })
          ),
          (worker) => Effect.promise(() => worker.kill())
        ))
      const isReady = (one: SharesReport): boolean => "ready" in one
      const isOver = (one: SharesReport): one is Exclude<SharesReport, { readonly ready: true }> => "turns" in one
      for (const worker of workers) yield* Effect.promise(() => worker.waitFor(isReady, 30_000))
      for (const worker of workers) worker.send({ begin: true })
      const shares = yield* Effect.forEach(workers, (worker) => Effect.promise(() => worker.waitFor(isOver, 30_000)))
      const turns = shares.map((one) => one.turns)
      const held = shares.map((one) => one.held)
      yield* Effect.log(
        `turns ${turns.join(", ")}: ${spread(turns).toFixed(2)} most to least; time ${spread(held).toFixed(2)}`
      )
      // So many that one turn more makes no difference.
      assert.isAtLeast(Math.min(...turns), 20)
      assert.isAtMost(spread(turns), 1.1)
    }).pipe(Effect.scoped))
})

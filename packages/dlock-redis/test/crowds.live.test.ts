import { assert, describe, it } from "@effect/vitest"
import { recordLag } from "dlock-testing"
import { Cause, Duration, Effect, Exit, Fiber, Result, Scope } from "effect"
import type { AcquireError } from "effect-dlock"
import { eventually, locker, plainClient, proxyTo, server } from "./support.ts"

const tombstones = (client: { readonly keys: (pattern: string) => Promise<ReadonlyArray<string>> }) =>
  Effect.promise(async () => (await client.keys("*\0x*")).length)

const scriptsRun = (client: { readonly info: (section: string) => Promise<string> }) =>
  Effect.promise(async () => Number(/cmdstat_evalsha:calls=(\d+)/.exec(await client.info("commandstats"))?.[1] ?? 0))

describe("a crowd of one process", () => {
  it.live("of twenty thousand keys is served, and costs no lock that is held", () =>
    Effect.gen(function*() {
      const redis = yield* server
      const admin = yield* plainClient(redis.url)
      const { scoped, withLock } = yield* locker({ url: redis.url })
      const scope = yield* Scope.make()
      const leases = yield* Effect.forEach(
        Array.from({ length: 100 }, (_, index) => `held${index}`),
        (key) => Scope.provide(scoped(key, { ttl: "3 seconds" }), scope),
        { concurrency: "unbounded" }
      )
      const recorded = recordLag()
      const exits = yield* Effect.forEach(
        Array.from({ length: 20_000 }, (_, index) => `k${index}`),
        (key) => Effect.exit(withLock(key, Effect.void)),
        { concurrency: "unbounded" }
      )
      assert.strictEqual(exits.filter(Exit.isSuccess).length, 20_000)
      recorded.stop()
      for (const lease of leases) {
        const held = yield* Effect.result(lease.ensureHeld)
        // Our code never occupies the thread for two thirds of that ttl. If this happens, the machine had no time for
        // this process.
        if (Result.isSuccess(held)) continue
        const { failure } = held
        if (failure._tag !== "OwnershipLost" || failure.reason !== "Stalled" || recorded.max() < 2_000) throw failure
      }
      assert.strictEqual(yield* tombstones(admin), 0)
      yield* Scope.close(scope, Exit.void)
    }).pipe(Effect.scoped), 120_000)

  it.live(
    "fails with a timeout, and does not blame a server that is well, also where it is far",
    () =>
      Effect.gen(function*() {
        const redis = yield* server
        const admin = yield* plainClient(redis.url)
        const far = yield* proxyTo(redis.port)
        const { withLock } = yield* locker({ url: far.url })
        yield* withLock("warm", Effect.void)
        far.delay(150)
        const crowd = (timeout: Duration.Input) =>
          Effect.forEach(
            Array.from({ length: 2_000 }, (_, index) => `k${index}`),
            (key) => Effect.exit(withLock(key, Effect.void, { timeout })),
            { concurrency: "unbounded" }
          )
        const [whole] = yield* Effect.timed(crowd("1 minute"))
        const recorded = recordLag()
        const exits = yield* crowd(Duration.times(whole, 0.5))
        recorded.stop()
        const failed = exits.flatMap((exit) => Exit.isFailure(exit) ? [Cause.squash(exit.cause)] : [])
        assert.isAbove(failed.length, 256, "all had their turn")
        // The test proves nothing if this process did not get to read its socket in time.
        const blamed = failed.filter((error) => (error as AcquireError)._tag !== "LockTimeout")
        if (recorded.max() < 200) assert.strictEqual(blamed.length, 0)
        yield* eventually("nothing is left", async () => (await admin.keys("dlock:k*")).length === 0)
      }).pipe(Effect.scoped),
    120_000
  )

  it.live(
    "that gives up leaves no tombstone where no answer was lost, and asks twice for each",
    () =>
      Effect.gen(function*() {
        const redis = yield* server
        const admin = yield* plainClient(redis.url)
        const { withLock } = yield* locker({ url: redis.url })
        yield* withLock("warm", Effect.void)
        const before = yield* scriptsRun(admin)
        const rounds = 20
        for (let round = 0; round < rounds; round++) {
          const fibers = yield* Effect.forEach(
            Array.from({ length: 99 }),
            () =>
              Effect.forkChild(withLock("k", Effect.sleep("1 second"), { ttl: "5 minutes" }), {
                startImmediately: true
              })
          )
          yield* Effect.sleep(Math.random() * 20)
          yield* Fiber.interruptAll(fibers)
        }
        yield* eventually("nobody waits", async () => (await admin.exists("dlock:k", "{dlock:k}:\0q")) === 0)
        assert.strictEqual(yield* tombstones(admin), 0)
        assert.isAtMost((yield* scriptsRun(admin)) - before, 2 * 99 * rounds)
      }).pipe(Effect.scoped),
    120_000
  )

  it.live("asks about thousands of locks in few requests", () =>
    Effect.gen(function*() {
      const redis = yield* server
      const admin = yield* plainClient(redis.url)
      const { scoped } = yield* locker({ url: redis.url })
      const other = yield* locker({ url: redis.url })
      const keys = Array.from({ length: 2_000 }, (_, index) => `k${index}`)
      yield* Effect.forEach(keys, (key) => other.scoped(key, { ttl: "1 minute" }), { concurrency: "unbounded" })
      yield* Effect.forEach(keys, (key) => Effect.forkChild(Effect.scoped(scoped(key, { ttl: "1 minute" }))))
      yield* eventually("all wait", async () => (await admin.keys("*\0q")).length === 2_000, 20_000)
      yield* Effect.sleep("3 seconds")
      const before = yield* scriptsRun(admin)
      const [took] = yield* Effect.timed(Effect.sleep("6 seconds"))
      // In six seconds each lock is checked three times, 250 locks in a call at ten moments of every two seconds, and
      // each is refreshed.
      assert.isAtMost((yield* scriptsRun(admin)) - before, 25 * Duration.toSeconds(took))
    }).pipe(Effect.scoped), 120_000)
})

describe("the foremost of a process", () => {
  it.live("notices a message that was lost within two seconds, wherever it stands", () =>
    Effect.gen(function*() {
      const redis = yield* server
      const admin = yield* plainClient(redis.url)
      const { scoped } = yield* locker({ url: redis.url })
      const deaf = yield* proxyTo(redis.port)
      const late = yield* locker({ url: deaf.url })
      const scope = yield* Scope.make()
      const held = yield* Scope.provide(scoped("k", { ttl: "5 minutes" }), scope)
      // Thirty of our claims in front, which give up, and then the claim whose notification is lost.
      const front = yield* Effect.forEach(
        Array.from({ length: 30 }),
        () => Effect.forkChild(Effect.scoped(scoped("k", { ttl: "10 minutes" })), { startImmediately: true })
      )
      yield* eventually("they wait", async () => (await admin.zcard("{dlock:k}:\0q")) === 30)
      const last = yield* Effect.forkChild(Effect.scoped(Effect.as(late.scoped("k", { ttl: "10 minutes" }), "in")))
      yield* eventually("it waits", async () => (await admin.zcard("{dlock:k}:\0q")) === 31)
      deaf.deliverNotifications("lose")
      yield* Fiber.interruptAll(front)
      const recorded = recordLag()
      const [took] = yield* Effect.timed(Effect.andThen(held.release, Fiber.join(last)))
      recorded.stop()
      assert.isBelow(Duration.toMillis(took), 2_000 + 200 + recorded.max())
    }).pipe(Effect.scoped))
})

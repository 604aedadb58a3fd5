import { NodeRedis } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { recordLag, startReplicated } from "dlock-testing"
import { redisUrl } from "dlock-testing/context"
import { Context, Deferred, Duration, Effect, Exit, Fiber, Layer, References, Scope } from "effect"
import type { LockBackendError, OwnershipLost } from "effect-dlock"
import { RedisLocker, type RedisLockerSettings, RedisLockStore } from "effect-dlock-redis"
import { Redis } from "effect/persistence/Redis"
import {
  built,
  doesWhatEveryStoreDoes,
  eventually,
  fails,
  group,
  locker,
  plainClient,
  proxyTo,
  server,
  timed,
  within
} from "./support.ts"

/** A program's own Redis service, and a locker over it. */
const program = (url: string, options: RedisLockerSettings = {}) =>
  Effect.gen(function*() {
    const services = yield* Layer.build(Layer.fresh(NodeRedis.layer({ url }))).pipe(
      Effect.provideService(References.MinimumLogLevel, "None")
    )
    const lockers = RedisLocker.layerEffectRedis(options).pipe(Layer.provide(Layer.succeedContext(services)))
    return { redis: Context.get(services, Redis), lockers, locker: yield* built(lockers) }
  })

describe("the Redis store over Effect's own service", () => {
  for (const RESP of [2, 3] as const) {
    it.live(`does what every store does, by RESP${RESP}`, () =>
      doesWhatEveryStoreDoes(
        RedisLockStore.layerEffectRedis().pipe(Layer.provide(NodeRedis.layer({ url: redisUrl(), RESP })))
      ), 60_000)
  }
})

describe.concurrent("a locker over Effect's own service of Redis", () => {
  it.live("stands in one queue with those that have a client of their own, and is handed the lock", () =>
    Effect.gen(function*() {
      const redis = yield* server
      const admin = yield* plainClient(redis.url)
      const shared = (yield* program(redis.url)).locker
      const own = yield* locker({ url: redis.url })
      const order: Array<string> = []
      const inside = yield* Deferred.make<void>()
      const leave = yield* Deferred.make<void>()
      const first = yield* Effect.forkChild(
        shared.withLock("k", Effect.andThen(Deferred.succeed(inside, undefined), Deferred.await(leave)))
      )
      yield* Deferred.await(inside)
      const waiters = yield* Effect.forEach(
        ["own", "shared", "own", "shared"],
        (name, index) =>
          Effect.gen(function*() {
            const fiber = yield* Effect.forkChild(
              (name === "own" ? own : shared).withLock("k", Effect.sync(() => order.push(`${name} ${index}`)))
            )
            yield* eventually("it waits", async () => (await admin.zcard("{dlock:k}:\0q")) === index + 1)
            return fiber
          })
      )
      const recorded = recordLag()
      const leftAt = performance.now()
      yield* Deferred.succeed(leave, undefined)
      yield* Fiber.join(first)
      yield* Effect.forEach(waiters, Fiber.join)
      assert.deepStrictEqual(order, ["own 0", "shared 1", "own 2", "shared 3"])
      assert.isBelow(performance.now() - leftAt, 300 + recorded.max(), "all were told, and did not have to ask")
    }).pipe(Effect.scoped))

  it.live("tells a refusal from a failure, and knows a server that has forgotten its scripts", () =>
    Effect.gen(function*() {
      const redis = yield* server
      const admin = yield* plainClient(redis.url)
      const { withLock } = (yield* program(redis.url)).locker
      yield* Effect.promise(() => admin.script("FLUSH"))
      yield* withLock("k", Effect.promise(() => admin.script("FLUSH")))
      yield* Effect.promise(() => admin.rpush("dlock:list", "x"))
      const error = (yield* Effect.flip(withLock("list", Effect.void))) as LockBackendError
      assert.strictEqual(error._tag, "LockBackendError")
      assert.isFalse(error.retryable)
      assert.include(error.message, "WRONGTYPE")
    }).pipe(Effect.scoped))

  it.live(
    "is out by its deadline when the server freezes, and what is executed late leaves no lock",
    () =>
      Effect.gen(function*() {
        const redis = yield* server
        const admin = yield* plainClient(redis.url)
        const { withLock } = (yield* program(redis.url)).locker
        const recorded = recordLag()
        const inside = yield* Deferred.make<void>()
        const holder = yield* Effect.forkChild(Effect.flip(
          withLock("k", Effect.andThen(Deferred.succeed(inside, undefined), Effect.never), { ttl: "3 seconds" })
        ))
        yield* Deferred.await(inside)
        redis.signal("SIGSTOP")
        const [took, late] = yield* Effect.timed(Effect.flip(withLock("late", Effect.void, { ttl: "3 seconds" })))
        assert.strictEqual(late._tag, "LockBackendError")
        assert.isBelow(Duration.toMillis(took), 4_000 + recorded.max())
        const lost = (yield* Fiber.join(holder)) as OwnershipLost
        redis.signal("SIGCONT")
        assert.strictEqual(lost.reason, "Unreachable")
        assert.isAtMost(Duration.toMillis(lost.lastConfirmedAgo), 3_000 + 100 + recorded.max())
        yield* eventually("nothing of it is held", async () => (await admin.exists("dlock:late")) === 0, 1_000)
        yield* Effect.sleep("1 second")
        assert.strictEqual(yield* Effect.promise(() => admin.exists("dlock:late", "dlock:k")), 0)
        yield* withLock("late", Effect.void)
      }).pipe(Effect.scoped),
    120_000
  )

  it.live("goes on when its connections are cut", () =>
    Effect.gen(function*() {
      const redis = yield* server
      const admin = yield* plainClient(redis.url)
      const { scoped, withLock } = (yield* program(redis.url)).locker
      const scope = yield* Scope.make()
      const lease = yield* Scope.provide(scoped("k", { ttl: "3 seconds" }), scope)
      const waiter = yield* Effect.forkChild(withLock("k", Effect.succeed("in")))
      yield* eventually("it waits", async () => (await admin.zcard("{dlock:k}:\0q")) === 1)
      yield* Effect.promise(() => admin.call("CLIENT", "KILL", "TYPE", "pubsub"))
      yield* Effect.promise(() => admin.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"))
      yield* Effect.sleep("4 seconds")
      yield* lease.ensureHeld
      yield* lease.release
      assert.strictEqual(yield* within(Fiber.join(waiter), 3_000), "in")
    }).pipe(Effect.scoped))

  it.live("waits for replicas on a connection that it borrows", () =>
    Effect.gen(function*() {
      const { servers: [primary, replica] } = yield* group(() => startReplicated())
      const { withLock } = (yield* program(primary!.url, { waitReplicas: 1 })).locker
      yield* withLock("k", Effect.void)
      replica!.signal("SIGSTOP")
      const error = yield* Effect.flip(withLock("k", Effect.void, { ttl: "3 seconds" }))
      assert.include(error.message, "replicas")
      replica!.signal("SIGCONT")
      yield* withLock("k", Effect.void)
    }).pipe(Effect.scoped))

  it.live("leaves the service open when it is closed, and nothing else", () =>
    Effect.gen(function*() {
      const redis = yield* server
      const admin = yield* plainClient(redis.url)
      const { lockers, redis: service } = yield* program(redis.url)
      const subscribers = () =>
        admin.pubsub("CHANNELS", "dlock:inbox:*").then((found) => (found as Array<string>).length)
      const before = yield* Effect.promise(subscribers)
      yield* Effect.scoped(Effect.gen(function*() {
        const { withLock } = yield* built(lockers)
        yield* withLock("k", Effect.void)
        assert.strictEqual(yield* Effect.promise(subscribers), before + 1)
      }))
      assert.strictEqual(yield* service.send("PING"), "PONG")
      yield* eventually("its channel is closed", async () => (await subscribers()) === before)
    }).pipe(Effect.scoped))

  it.live("fails in time over a server that says nothing", () =>
    Effect.gen(function*() {
      const redis = yield* server
      const services = yield* Layer.build(Layer.fresh(NodeRedis.layer({ url: redis.url })))
      redis.signal("SIGSTOP")
      const layer = RedisLocker.layerEffectRedis({ connectTimeout: "500 millis" }).pipe(
        Layer.provide(Layer.succeedContext(services))
      )
      const [took, error] = yield* timed(fails(layer))
      redis.signal("SIGCONT")
      assert.strictEqual(error._tag, "LockBackendError")
      assert.isBelow(took, 1_500)
    }).pipe(Effect.scoped))

  it.live("is up or not within connectTimeout, whatever the server falls silent at", () =>
    Effect.gen(function*() {
      const redis = yield* server
      for (const word of ["PING", "SUBSCRIBE", "EVAL", "INFO"]) {
        const way = yield* proxyTo(redis.port)
        const services = yield* Layer.build(Layer.fresh(NodeRedis.layer({ url: way.url })))
        const stop = way.onRequest((chunk) =>
          void (new RegExp(`\\r\\n${word}\\r`, "i").test(String(chunk)) && way.hold())
        )
        const layer = RedisLocker.layerEffectRedis({ connectTimeout: "1 second", operationTimeout: "500 millis" })
        const recorded = recordLag()
        const [took] = yield* Effect.timed(Effect.exit(Effect.scoped(
          Layer.build(Layer.fresh(layer)).pipe(Effect.provide(services))
        )))
        recorded.stop()
        stop()
        way.release()
        // A connection that works is closed in that time too.
        assert.isBelow(Duration.toMillis(took), 1_700 + recorded.max(), word)
      }
    }).pipe(Effect.scoped))

  it.live("opens one connection at a time while a server is frozen, and closes in time", () =>
    Effect.gen(function*() {
      const redis = yield* server
      const way = yield* proxyTo(redis.port)
      const services = yield* Layer.build(Layer.fresh(NodeRedis.layer({ url: way.url })))
      const scope = yield* Scope.make()
      const { withLock } = yield* built(RedisLocker.layerEffectRedis()).pipe(
        Effect.provide(services),
        Scope.provide(scope)
      )
      const admin = yield* plainClient(redis.url)
      yield* Effect.forkChild(withLock("k", Effect.never, { ttl: "2 minutes" }))
      yield* eventually("it is held", async () => (await admin.exists("dlock:k")) === 1)
      yield* Effect.forkChild(withLock("k", Effect.void, { ttl: "2 minutes" }))
      yield* eventually("one waits", async () => (await admin.zcard("{dlock:k}:\0q")) === 1)
      const before = way.accepted()
      way.hold()
      yield* Effect.sleep("16 seconds")
      const opened = way.accepted() - before
      const [took] = yield* Effect.timed(Scope.close(scope, Exit.void))
      way.release()
      assert.isAtMost(opened, 1)
      assert.isBelow(Duration.toMillis(took), 6_000)
    }).pipe(Effect.scoped))
})

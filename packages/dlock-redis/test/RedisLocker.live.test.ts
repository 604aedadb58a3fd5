import { assert, describe, it } from "@effect/vitest"
import { freePorts, recordLag, startRedis } from "dlock-testing"
import { etcdUrl } from "dlock-testing/context"
import { ConfigProvider, Deferred, Duration, Effect, Fiber, Layer, Logger, Redacted } from "effect"
import { Locker, withLock } from "effect-dlock"
import { RedisLocker, RedisLockerLive, type RedisLockerOptions, RedisLockStore } from "effect-dlock-redis"
import { Redis } from "ioredis"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { asStranger, commandsSent, eventually, fails, locker, plainClient, server, timed } from "./support.ts"

describe("RedisLocker", () => {
  it.live("costs two commands a section", () =>
    Effect.gen(function*() {
      const redis = yield* server
      const admin = yield* plainClient(redis.url)
      const { withLock } = yield* locker({ url: redis.url })
      yield* withLock("k", Effect.void)
      const before = yield* Effect.promise(() => commandsSent(admin))
      for (let section = 0; section < 100; section++) yield* withLock("k", Effect.void)
      const free = (yield* Effect.promise(() => commandsSent(admin))) - before
      assert.strictEqual(free, 200)
      yield* Effect.forEach(Array.from({ length: 8 }), () =>
        Effect.repeat(withLock("k", Effect.sleep(2)), { times: 12 }), { concurrency: "unbounded" })
      const contended = (yield* Effect.promise(() =>
        commandsSent(admin)
      )) - before - free
      assert.isAtMost(contended / (8 * 13), 2.1)
    }).pipe(Effect.scoped))

  it.live("knows what a section holds through another layer, whatever its address", () =>
    Effect.gen(function*() {
      const redis = yield* server
      const admin = yield* plainClient(redis.url)
      const outer = yield* locker({ url: redis.url })
      const inner = yield* locker({ url: redis.url.replace("127.0.0.1", "localhost") })
      const [took, error] = yield* timed(
        outer.withLock("k", Effect.flip(inner.withLock("k", Effect.void, { timeout: "1500 millis" })))
      )
      assert.strictEqual(error._tag, "LockAlreadyHeld")
      assert.isBelow(took, 1_000)
      // The same once other claims wait.
      const held = yield* Deferred.make<void>()
      const waiting = yield* Effect.forkChild(Effect.andThen(Deferred.await(held), inner.withLock("k", Effect.void)))
      yield* outer.withLock(
        "k",
        Effect.gen(function*() {
          yield* Deferred.succeed(held, undefined)
          yield* eventually("one waits", async () => (await admin.zcard("{dlock:k}:\0q")) === 1)
          const nested = yield* Effect.flip(inner.withLock("other", inner.withLock("k", Effect.void)))
          assert.strictEqual(nested._tag, "LockAlreadyHeld")
        })
      )
      yield* Fiber.join(waiting)
    }).pipe(Effect.scoped))

  it.live("takes where to go from a client, and its prefix, and leaves the client alone", () =>
    Effect.gen(function*() {
      const redis = yield* server
      const admin = yield* plainClient(redis.url)
      const app = new Redis({ port: redis.port, host: "127.0.0.1", keyPrefix: "app:", lazyConnect: true, db: 3 })
      const fresh = () => Layer.fresh(RedisLocker.layerClient(app, { prefix: "lock:" }))
      yield* Effect.promise(() => admin.select(3))
      yield* withLock(
        "k",
        Effect.gen(function*() {
          assert.deepStrictEqual((yield* Effect.promise(() => admin.keys("*"))).toSorted(), [
            "app:lock:k",
            "{app:lock:k}:\0f"
          ])
          // Another process with the same client: a notification hands the lock over, not a poll.
          const waiter = yield* Effect.forkDetach(
            asStranger(withLock("k", Effect.sync(() => performance.now())).pipe(Effect.provide(fresh()))),
            { startImmediately: true }
          )
          yield* eventually("it waits", async () => (await admin.zcard("{app:lock:k}:\0q")) === 1)
          return waiter
        })
      ).pipe(
        Effect.flatMap((waiter) => {
          const recorded = recordLag()
          const releasedAt = performance.now()
          return Effect.map(Fiber.join(waiter), (at) => assert.isBelow(at - releasedAt, 100 + recorded.max()))
        }),
        Effect.provide(fresh())
      )
      assert.strictEqual(app.status, "wait", "never connected, never closed")
    }).pipe(Effect.scoped))

  it.live("takes all its settings from Config", () =>
    Effect.gen(function*() {
      const redis = yield* server
      const admin = yield* plainClient(redis.url)
      yield* withLock("k", (lease) =>
        Effect.gen(function*() {
          assert.strictEqual(Duration.toSeconds(lease.ttl), 12)
          assert.strictEqual(yield* Effect.promise(() => admin.exists("shop:k")), 1)
        })).pipe(
          Effect.provide(Layer.fresh(RedisLockerLive)),
          Effect.provideService(
            ConfigProvider.ConfigProvider,
            ConfigProvider.fromUnknown({
              DLOCK_REDIS_URL: redis.url,
              DLOCK_PREFIX: "shop:",
              DLOCK_DEFAULT_TTL: "12 seconds",
              DLOCK_RETRY_INTERVAL: "50 millis"
            })
          )
        )
    }).pipe(Effect.scoped))

  it.effect("refuses bad configuration before it connects to anything", () =>
    Effect.gen(function*() {
      const url = "redis://127.0.0.1:1"
      const bad: Array<object> = [
        { url: "http://127.0.0.1" },
        { url: "" },
        { url: 5 },
        { url: "redis://127.0.0.1/zero" },
        { url: "redis://127.0.0.1?enableOfflineQueue=true" },
        { url, prefix: "a}b" },
        { url, prefix: "a\0b" },
        { url, defaultTtl: "soon" },
        { url, defaultTtl: 50 },
        { url, guardGap: -1 },
        { url, retryInterval: 0 },
        { url, connectTimeout: "never" },
        { url, operationTimeout: Infinity },
        { url, keyPrefix: "}" },
        { url, holder: "" },
        { url, interop: "yes" },
        { url, waitReplicas: -1 },
        { url, waitReplicas: 1.5 },
        { url, password: "" },
        { url, username: "u" },
        { url, tls: { ca: "PEM" } },
        { url: "rediss://127.0.0.1", tls: { cert: "PEM" } },
        { url, master: "m" },
        { url, sentinelPassword: "p" },
        { url, cluster: "127.0.0.1:1" },
        {},
        { sentinels: "127.0.0.1:1" },
        { sentinels: [], master: "m" },
        { sentinels: "127.0.0.1:1,rediss://127.0.0.1:2", master: "m" },
        { sentinels: "redis://u:p@127.0.0.1:1", master: "m" },
        { sentinels: "127.0.0.1:1", cluster: "127.0.0.1:1", master: "m" },
        { sentinels: "127.0.0.1:1", master: "m", sentinelUsername: "u" },
        { cluster: ["127.0.0.1:1", 5] },
        { cluster: "http://127.0.0.1:1" },
        { cluster: "127.0.0.1:1/3" },
        { url, prefx: "typo" }
      ]
      for (const options of bad) {
        const error = yield* fails(RedisLocker.layer(options as RedisLockerOptions))
        assert.strictEqual(error._tag, "ConfigError", JSON.stringify(options))
      }
      const unset = yield* Effect.provideService(
        fails(RedisLockerLive),
        ConfigProvider.ConfigProvider,
        ConfigProvider.fromUnknown({})
      )
      assert.strictEqual(unset._tag, "ConfigError")
      assert.include(unset.message, "DLOCK_REDIS_URL")
    }))

  it.effect("says what is wrong with an address, and shows no part of what may be a secret", () =>
    Effect.gen(function*() {
      const urls: ReadonlyArray<[string, RegExp]> = [
        ["redis://:my#s3cret@127.0.0.1:1", /%23/],
        ["redis://user:s3cret#@127.0.0.1:1/0", /%23/],
        ["redis://:s3@cr#et@127.0.0.1:1", /%23/],
        ["redis://:s3cret/et@127.0.0.1:1", /%2F/],
        ["redis://:s3cret?et@127.0.0.1:1", /%3F/],
        ["redis://s3cret@127.0.0.1:1", /user but no password/]
      ]
      for (const [url, words] of urls) {
        const fromEnvironment = Layer.provide(
          RedisLockerLive,
          ConfigProvider.layer(ConfigProvider.fromUnknown({ DLOCK_REDIS_URL: url }))
        )
        for (const layer of [RedisLocker.layer({ url }), fromEnvironment]) {
          const error = yield* fails(layer)
          assert.strictEqual(error._tag, "ConfigError", url)
          assert.match(error.message, words)
          assert.notMatch(`${error.message} ${JSON.stringify(error)}`, /s3|cr(#|et@)/)
        }
      }
    }))

  it.live("says what may be behind a connection that does not come about", () =>
    Effect.gen(function*() {
      const redis = yield* server
      const admin = yield* plainClient(redis.url)
      yield* Effect.promise(() => admin.config("SET", "requirepass", "right"))
      const tls = `rediss://127.0.0.1:${redis.port}`
      const cases: ReadonlyArray<[string, RegExp]> = [
        [redis.url, /NOAUTH (the server asks for a password, and none was given|Authentication required)/],
        [tls, /redis:, not rediss:/],
        [etcdUrl().replace(/^http/, "redis"), /is this a Redis/]
      ]
      for (const [url, words] of cases) {
        assert.match((yield* fails(RedisLocker.layer({ url, connectTimeout: "3 seconds" }))).message, words)
      }
    }).pipe(Effect.scoped))

  it.live("goes to a socket", () =>
    Effect.gen(function*() {
      const dir = Fs.mkdtempSync(Path.join(Os.tmpdir(), "dlock-socket-"))
      const socket = Path.join(dir, "redis.sock")
      yield* Effect.acquireRelease(
        Effect.promise(() => startRedis({ args: ["--unixsocket", socket] })),
        (redis) => Effect.promise(() => redis.stop().then(() => Fs.rmSync(dir, { recursive: true })))
      )
      const { withLock } = yield* locker({ url: `redis+unix://${socket}?db=3` })
      yield* withLock("k", Effect.void)
    }).pipe(Effect.scoped))

  it.live("fails when nobody answers within connectTimeout", () =>
    Effect.gen(function*() {
      const [port] = yield* Effect.promise(() => freePorts(1))
      const layer = RedisLocker.layer({ url: `redis://127.0.0.1:${port}`, connectTimeout: "300 millis" })
      const [took, error] = yield* timed(fails(layer))
      assert.strictEqual(error._tag, "LockBackendError")
      assert.include(error.message, "ECONNREFUSED")
      assert.isBelow(took, 1_500)
    }))

  it.live("fails when the server accepts and then says nothing", () =>
    Effect.gen(function*() {
      const redis = yield* server
      redis.signal("SIGSTOP")
      const layer = RedisLocker.layer({ url: redis.url, connectTimeout: "500 millis" })
      const [took, error] = yield* timed(fails(layer))
      redis.signal("SIGCONT")
      assert.strictEqual(error._tag, "LockBackendError")
      assert.isBelow(took, 2_000)
    }).pipe(Effect.scoped))

  it.live("fails at once on a wrong password, and tells it to nobody", () =>
    Effect.gen(function*() {
      const redis = yield* server
      const admin = yield* plainClient(redis.url)
      yield* Effect.promise(() => admin.config("SET", "requirepass", "right"))
      const lines: Array<string> = []
      const logger = Logger.make(({ cause, message }) => void lines.push(JSON.stringify([message, cause])))
      const url = `redis://:s3cret@127.0.0.1:${redis.port}`
      for (const given of [url, Redacted.make(url)]) {
        const [took, error] = yield* timed(fails(RedisLocker.layer({ url: given }))).pipe(
          Effect.provide(Logger.layer([logger]))
        )
        assert.strictEqual(error._tag, "LockBackendError")
        assert.isBelow(took, 1_000)
        assert.include(error.message, "WRONGPASS")
        for (const text of [JSON.stringify(error), String(error), (error as Error).stack ?? "", lines.join()]) {
          assert.notInclude(text, "s3cret")
        }
      }
      yield* Effect.scoped(
        Layer.build(Layer.fresh(RedisLocker.layer({ url: Redacted.make(`redis://:right@127.0.0.1:${redis.port}`) })))
      )
    }).pipe(Effect.scoped))

  it.live("goes with a store of its own options", () =>
    Effect.gen(function*() {
      const redis = yield* server
      const layer = Locker.layer({ prefix: "own:" }).pipe(Layer.provide(RedisLockStore.layer({ url: redis.url })))
      const key = yield* withLock("k", (lease) => Effect.succeed(lease.key)).pipe(Effect.provide(layer))
      assert.strictEqual(key, "k")
    }).pipe(Effect.scoped))
})

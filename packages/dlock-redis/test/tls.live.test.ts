import { assert, describe, it } from "@effect/vitest"
import { freePorts, startRedisTls } from "dlock-testing"
import { ConfigProvider, Effect, Layer, Redacted } from "effect"
import { RedisLocker, RedisLockerLive, type RedisLockerOptions } from "effect-dlock-redis"
import { Redis } from "ioredis"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { built, eventually, fails, group, locker, server, timed } from "./support.ts"

/** Checks that the layer fails in time, and returns the reason. */
const refusal = (options: RedisLockerOptions) =>
  Effect.map(timed(fails(RedisLocker.layer({ ...options, connectTimeout: "1 second" }))), ([took, error]) => {
    assert.strictEqual(error._tag, "LockBackendError")
    assert.isBelow(took, 2_000)
    return error.message
  })

describe("over TLS", () => {
  it.live("trusts the authority that it was given, and no other", () =>
    Effect.gen(function*() {
      const redis = yield* group(() => startRedisTls())
      const { scoped, withLock } = yield* locker({ url: redis.url, tls: { ca: redis.ca } })
      yield* withLock("k", Effect.void)
      const lease = yield* scoped("k", { ttl: "1 second" })
      yield* Effect.sleep("2 seconds")
      yield* lease.ensureHeld
      assert.match(yield* refusal({ url: redis.url }), /certificate/i)
      const other = Fs.readFileSync(Path.join(redis.dir, "other.pem"), "utf8")
      assert.match(yield* refusal({ url: redis.url, tls: { ca: other } }), /certificate|signature/i)
      yield* refusal({ url: redis.url.replace("rediss:", "redis:") })
    }).pipe(Effect.scoped))

  it.live("shows a certificate of its own where the server asks for one", () =>
    Effect.gen(function*() {
      const redis = yield* group(() => startRedisTls({ clientAuth: true }))
      const { ca, cert, key } = redis
      yield* refusal({ url: redis.url, tls: { ca } })
      const { withLock } = yield* locker({ url: redis.url, tls: { ca, cert, key: Redacted.make(key) } })
      yield* withLock("k", Effect.void)
      const client = new Redis({ port: redis.port, host: "127.0.0.1", tls: { ca, cert, key }, lazyConnect: true })
      yield* (yield* built(RedisLocker.layerClient(client))).withLock("k", Effect.void)
      const at = (name: string) => Path.join(redis.dir, name)
      const config = {
        DLOCK_REDIS_URL: redis.url,
        DLOCK_REDIS_CA: at("ca.pem"),
        DLOCK_REDIS_CERT: at("client.pem"),
        DLOCK_REDIS_KEY: at("client.key")
      }
      const from = (config: Record<string, string>) =>
        Layer.provide(RedisLockerLive, ConfigProvider.layer(ConfigProvider.fromUnknown(config)))
      yield* (yield* built(from(config))).withLock("k", Effect.void)
      const { DLOCK_REDIS_KEY: _, ...keyless } = config
      const error = yield* fails(from(keyless))
      assert.strictEqual(error._tag, "ConfigError")
      assert.include(error.message, "DLOCK_REDIS_KEY")
    }).pipe(Effect.scoped))

  for (
    const [what, name, args] of [
      ["address", "IP:127.0.0.1", []],
      ["name", "DNS:localhost", [
        "--cluster-announce-hostname",
        "localhost",
        "--cluster-preferred-endpoint-type",
        "hostname"
      ]]
    ] as const
  ) {
    it.live(`goes to every node of a cluster that way, each known by its ${what}`, () =>
      Effect.gen(function*() {
        const [bus] = yield* Effect.promise(() => freePorts(1))
        const enabled = `--cluster-enabled yes --tls-cluster yes --cluster-announce-ip 127.0.0.1 --cluster-port ${bus}`
        const { ca, port } = yield* group(() => startRedisTls({ name, args: [...enabled.split(" "), ...args] }))
        const host = name.replace(/^.*?:/, "")
        const admin = yield* Effect.acquireRelease(
          Effect.sync(() => new Redis({ port, host, tls: { ca } })),
          (client) => Effect.sync(() => client.disconnect())
        )
        yield* Effect.promise(() => admin.call("CLUSTER", "ADDSLOTSRANGE", "0", "16383"))
        yield* eventually("the cluster", async () =>
          String(await admin.call("CLUSTER", "INFO")).includes("cluster_state:ok"))
        const { withLock } = yield* locker({ cluster: `rediss://${host}:${port}`, tls: { ca } })
        yield* Effect.all([withLock("k", Effect.sleep(5)), withLock("k", Effect.sleep(5))], { concurrency: 2 })
      }).pipe(Effect.scoped))
  }

  it.live("goes to sentinels and to what they name that way", () =>
    Effect.gen(function*() {
      const redis = yield* group(() => startRedisTls())
      const watch = `sentinel monitor dlock 127.0.0.1 ${redis.port} 1\n`
      const args = ["--tls-replication", "yes", "--tls-ca-cert-file", Path.join(redis.dir, "ca.pem")]
      const sentinel = yield* group(() => startRedisTls({ sentinel: watch, args }))
      const options = { sentinels: `rediss://127.0.0.1:${sentinel.port}`, master: "dlock" }
      const { withLock } = yield* locker({ ...options, tls: { ca: `${redis.ca}${sentinel.ca}` } })
      yield* Effect.all([withLock("k", Effect.sleep(5)), withLock("k", Effect.sleep(5))], { concurrency: 2 })
      const admin = yield* Effect.acquireRelease(
        Effect.sync(() => new Redis({ port: sentinel.port, host: "127.0.0.1", tls: { ca: sentinel.ca } })),
        (client) => Effect.sync(() => client.disconnect())
      )
      yield* eventually("it would hear of a failover", async () => String(await admin.client("LIST")).includes("sub=1"))
      assert.match(yield* refusal({ ...options, tls: { ca: redis.ca } }), /certificate|signature/i)
      assert.match(yield* refusal({ ...options, tls: { ca: sentinel.ca } }), /certificate|signature/i)
    }).pipe(Effect.scoped))

  it.live("fails in time where the server does not speak it", () =>
    Effect.gen(function*() {
      const redis = yield* server
      yield* refusal({ url: redis.url.replace("redis:", "rediss:") })
    }).pipe(Effect.scoped))
})

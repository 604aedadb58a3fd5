import { assert, describe, it } from "@effect/vitest"
import { startCluster, startRedis, startReplicated } from "dlock-testing"
import { Effect, Layer, Logger, References } from "effect"
import { RedisLocker, type RedisLockerOptions } from "effect-dlock-redis"
import { group, plainClient } from "./support.ts"

/** The logs of a layer while it is built and used. */
const logged = (options: RedisLockerOptions) =>
  Effect.gen(function*() {
    const lines: Array<Record<string, unknown>> = []
    const logger = Logger.make(({ fiber, logLevel }) => {
      lines.push({ level: logLevel, ...fiber.getRef(References.CurrentLogAnnotations) })
    })
    yield* Effect.scoped(Layer.build(Layer.fresh(RedisLocker.layer(options)))).pipe(
      Effect.provide(Logger.layer([logger]))
    )
    return lines
  })

const warning = (warning: string, servers: ReadonlyArray<{ readonly port: number }>, more: object = {}) => ({
  level: "Warn",
  component: "dlock",
  warning,
  servers: servers.map(({ port }) => `127.0.0.1:${port}`),
  ...more
})

const durable = ["--appendonly", "yes"]

describe("a layer over Redis", () => {
  it.live("warns of nothing where the server keeps its locks", () =>
    Effect.gen(function*() {
      const redis = yield* group(() => startRedis({ args: durable }))
      assert.deepStrictEqual(yield* logged({ url: redis.url }), [])
    }).pipe(Effect.scoped))

  it.live("says nothing where snapshots are taken, or the server does not tell", () =>
    Effect.gen(function*() {
      const snapshots = yield* group(() => startRedis({ args: ["--save", "60", "1"] }))
      assert.deepStrictEqual(yield* logged({ url: snapshots.url }), [])
      const redis = yield* group(() => startRedis())
      const admin = yield* plainClient(redis.url)
      yield* Effect.promise(() =>
        admin.acl("SETUSER", "locker", "on", ">p", "allkeys", "allchannels", "+@all", "-config")
      )
      assert.deepStrictEqual(yield* logged({ url: redis.url, username: "locker", password: "p" }), [])
    }).pipe(Effect.scoped))

  it.live("warns once of a server that forgets, of one that evicts, and of a replica", () =>
    Effect.gen(function*() {
      const redis = yield* group(() => startRedis({ args: ["--maxmemory-policy", "allkeys-lru"] }))
      assert.deepStrictEqual(yield* logged({ url: redis.url }), [
        warning("eviction", [redis], { policies: ["allkeys-lru"] }),
        warning("persistence", [redis])
      ])
      const { servers: [, replica] } = yield* group(() => startReplicated())
      assert.deepStrictEqual(yield* logged({ url: replica!.url }), [
        warning("replica", [replica!]),
        warning("persistence", [replica!])
      ])
    }).pipe(Effect.scoped))

  it.live("warns in one line of all the servers of a cluster", () =>
    Effect.gen(function*() {
      const { servers } = yield* group(() => startCluster())
      const lines = yield* logged({ cluster: servers.map(({ port }) => `127.0.0.1:${port}`) })
      assert.strictEqual(lines.length, 1)
      const [{ servers: named, ...rest }] = lines as [Record<string, unknown>]
      assert.deepStrictEqual(rest, { level: "Warn", component: "dlock", warning: "persistence" })
      assert.sameMembers(named as Array<string>, servers.map(({ port }) => `127.0.0.1:${port}`))
    }).pipe(Effect.scoped))
})

import { assert, describe, it } from "@effect/vitest"
import { ioredisLine } from "dlock-testing/context"
import { Effect } from "effect"
import { RedisLocker, RedisLockStore } from "effect-dlock-redis"
import { Redis } from "ioredis"
import { built, doesWhatEveryStoreDoes, plainClient, server } from "./support.ts"

describe(`the line of ioredis that this project is for: ${ioredisLine()}`, () => {
  it.live("is the one that tests and library use", () =>
    Effect.gen(function*() {
      const redis = yield* server
      const admin = yield* plainClient(redis.url)
      yield* built(RedisLocker.layer({ url: redis.url }))
      const clients = String(yield* Effect.promise(() => admin.client("LIST")))
      const versions = Array.from(clients.matchAll(/lib-ver=(\d+)\./g), ([, version]) => version)
      // Redis 7.0 does not report the library of a client.
      if (clients.includes("lib-ver=")) assert.deepStrictEqual(versions, [ioredisLine(), ioredisLine(), ioredisLine()])
      const protocols = Array.from(clients.matchAll(/name=effect-dlock.*?resp=(\d)/g), ([, version]) => version)
      const protocol = ioredisLine() === "5" ? "2" : "3"
      assert.deepStrictEqual(protocols, [protocol, protocol])
    }).pipe(Effect.scoped))

  it.live("does what every store does by RESP2", () =>
    Effect.gen(function*() {
      const redis = yield* server
      const client = new Redis({ host: "127.0.0.1", port: redis.port, protocol: 2, lazyConnect: true })
      yield* doesWhatEveryStoreDoes(RedisLockStore.layerClient(client))
    }).pipe(Effect.scoped))
})

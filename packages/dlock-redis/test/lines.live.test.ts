import { assert, describe, it } from "@effect/vitest"
import { ioredisLine } from "dlock-testing/context"
import { Context, Effect, Layer } from "effect"
import { LockStore } from "effect-dlock"
import { RedisLocker, RedisLockStore } from "effect-dlock-redis"
import { Conformance } from "effect-dlock/testing"
import { Redis } from "ioredis"
import { built, plainClient, server } from "./support.ts"

describe(`the line of ioredis that this project is for: ${ioredisLine()}`, () => {
  it.live("is the one that tests and library use", () =>
    Effect.gen(function*() {
      const redis = yield* server
      const admin = yield* plainClient(redis.url)
      yield* built(RedisLocker.layer({ url: redis.url }))
      const clients = String(yield* Effect.promise(() => admin.client("LIST")))
      const versions = Array.from(clients.matchAll(/lib-ver=(\d+)\./g), ([, version]) => version)
      // Redis 7.0 does not know what a library is.
      if (clients.includes("lib-ver=")) assert.deepStrictEqual(versions, [ioredisLine(), ioredisLine(), ioredisLine()])
      const protocols = Array.from(clients.matchAll(/name=effect-dlock.*?resp=(\d)/g), ([, version]) => version)
      const protocol = ioredisLine() === "5" ? "2" : "3"
      assert.deepStrictEqual(protocols, [protocol, protocol])
    }).pipe(Effect.scoped))

  it.live("does what every store does by RESP2", () =>
    Effect.gen(function*() {
      const redis = yield* server
      const client = new Redis({ host: "127.0.0.1", port: redis.port, protocol: 2, lazyConnect: true })
      const store = Effect.map(
        Effect.suspend(() => Layer.build(Layer.fresh(RedisLockStore.layerClient(client)))),
        (context) => Context.get(context, LockStore)
      )
      yield* Effect.forEach(
        Conformance.cases({ client: store, advance: Effect.sleep, ttl: "400 millis" }),
        ({ name, run }) =>
          Effect.scoped(run).pipe(Effect.tapCause((cause) => Effect.logError(`the case: ${name}`, cause))),
        { concurrency: 8, discard: true }
      )
    }).pipe(Effect.scoped), 60_000)
})

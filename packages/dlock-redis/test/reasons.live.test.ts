import { assert, describe, it } from "@effect/vitest"
import { recordLag } from "dlock-testing"
import { Context, Deferred, Duration, Effect, Fiber, Layer, Logger } from "effect"
import { type LockBackendError, Locker } from "effect-dlock"
import { RedisLocker, type RedisLockerOptions } from "effect-dlock-redis"
import { eventually, plainClient, server } from "./support.ts"

/** A locker and its logs about its server, each text once. */
const overheard = (options: RedisLockerOptions) =>
  Effect.gen(function*() {
    const lines: Array<string> = []
    const logger = Logger.make(({ logLevel, message }) => {
      const text = String(Array.isArray(message) ? message[0] : message)
      if (/Redis/.test(text) && !/persistence/.test(text)) lines.push(`${logLevel}: ${text}`)
    })
    const context = yield* Effect.provide(
      Layer.build(Layer.fresh(RedisLocker.layer(options))),
      Logger.layer([logger])
    )
    return { lines, ...Context.get(context, Locker) }
  })

describe("why there is no connection", () => {
  it.live("is in the error of each acquire and in one line of the log, and so is that the server is back", () =>
    Effect.gen(function*() {
      const redis = yield* server
      const { lines, withLock } = yield* overheard({ url: redis.url })
      yield* withLock("k", Effect.void)
      const restarted = yield* Effect.forkChild(Effect.promise(() => redis.restart(2_000)))
      yield* Effect.sleep("200 millis")
      for (let attempt = 0; attempt < 3; attempt++) {
        const error = yield* Effect.flip(withLock("k", Effect.void, { ttl: "300 millis" }))
        assert.strictEqual(error._tag, "LockBackendError")
        assert.match(error.message, /not connected: .*ECONNREFUSED/)
        assert.isTrue((error as LockBackendError).retryable)
      }
      yield* Fiber.join(restarted)
      yield* eventually("it is back", () => Effect.runPromise(Effect.isSuccess(withLock("k", Effect.void))))
      yield* eventually("and said so", async () => lines.length >= 2)
      assert.strictEqual(lines.length, 2, lines.join("\n"))
      assert.match(lines[0]!, /^Warn: Lost the connection to Redis: .*ECONNREFUSED/)
      assert.match(lines[1]!, /^Info: Redis is back after \d+\.\d s, in which 3 acquires failed$/)
    }).pipe(Effect.scoped))

  it.live("ends acquires where the credentials are refused, while renewals and attempts go on", () =>
    Effect.gen(function*() {
      const redis = yield* server
      const admin = yield* plainClient(redis.url)
      const password = (is: string) => Effect.promise(() => admin.config("SET", "requirepass", is))
      const cut = Effect.promise(() => admin.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"))
      yield* password("one")
      const { lines, withLock } = yield* overheard({ url: `redis://:one@127.0.0.1:${redis.port}` })
      const lag = recordLag()
      const inside = yield* Deferred.make<void>()
      const holder = yield* Effect.forkChild(Effect.timed(Effect.flip(
        withLock("held", Effect.andThen(Deferred.succeed(inside, undefined), Effect.never), { ttl: "2 seconds" })
      )))
      const kept = yield* Effect.forkChild(
        withLock("kept", Effect.sleep("4 seconds").pipe(Effect.as("kept")), { ttl: "6 seconds" })
      )
      yield* Deferred.await(inside)
      yield* password("two")
      yield* cut
      yield* Effect.sleep("200 millis")
      const [took, error] = yield* Effect.timed(Effect.flip(withLock("k", Effect.void)))
      assert.strictEqual(error._tag, "LockBackendError")
      assert.include(error.message, "WRONGPASS")
      assert.isFalse((error as LockBackendError).retryable)
      assert.isBelow(Duration.toMillis(took), 500 + lag.max())
      const [held, lost] = yield* Fiber.join(holder)
      assert.strictEqual(lost._tag, "OwnershipLost")
      assert.isAtLeast(Duration.toMillis(held), 1_900, "not before the deadline")
      yield* password("one")
      assert.strictEqual(yield* Fiber.join(kept), "kept")
      lag.stop()
      yield* eventually("it is back", async () => lines.length >= 2)
      assert.strictEqual(lines.length, 2, lines.join("\n"))
      assert.match(lines[0]!, /^Warn: Lost the connection to Redis: .*WRONGPASS/)
      assert.match(lines[1]!, /^Info: Redis is back after .* renewals?( and 1 release)? failed$/)
    }).pipe(Effect.scoped))
})

import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Logger, Scope } from "effect"
import { eventually, locker, plainClient, proxyTo, server, within } from "./support.ts"

describe("a locker that is closed", () => {
  it.live("tells those who wait, and takes them out of the queue", () =>
    Effect.gen(function*() {
      const redis = yield* server
      const client = yield* plainClient(redis.url)
      const scope = yield* Scope.make()
      const closing = yield* Scope.provide(locker({ url: redis.url }), scope)
      const other = yield* locker({ url: redis.url })
      yield* other.scoped("k")
      const waiting = yield* Effect.forkChild(Effect.flip(closing.withLock("k", Effect.die("it ran"))))
      yield* eventually("it waits", async () => (await client.zcard("{dlock:k}:\0q")) === 1)
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual((yield* within(Fiber.join(waiting), 1_000))._tag, "LockBackendError")
      assert.sameMembers(yield* Effect.promise(() => client.keys("*")), ["dlock:k", "{dlock:k}:\0f"])
    }))

  for (const [count, delay, after] of [[1, 10, 12], [300, 0, 15], [1_500, 5, 60], [6_000, 0, 150]] as const) {
    it.live(`leaves nothing behind of ${count} who had just asked, and says no more than what was lost`, () => {
      const lines: Array<string> = []
      const logger = Logger.make<unknown, void>(({ message }) => void lines.push(String(message)))
      return Effect.gen(function*() {
        const redis = yield* server
        const client = yield* plainClient(redis.url)
        const proxy = yield* proxyTo(redis.port)
        for (let round = 0; round < 3; round++) {
          const scope = yield* Scope.make()
          const { withLock } = yield* Scope.provide(locker({ url: proxy.url }), scope)
          yield* withLock("warm", Effect.void)
          lines.length = 0
          proxy.delay(delay)
          const fibers = yield* Effect.forEach(
            Array.from({ length: count }, (_, index) => `k${index}`),
            (key) => Effect.forkChild(Effect.exit(withLock(key, Effect.sleep("50 millis"))))
          )
          yield* Effect.sleep(after)
          yield* Scope.close(scope, Exit.void)
          yield* Fiber.awaitAll(fibers)
          assert.deepStrictEqual(yield* Effect.promise(() => client.keys("dlock:*")), [])
          assert.deepStrictEqual(lines.filter((line) => !line.startsWith("Lost the lock")), [])
          proxy.delay(0)
        }
      }).pipe(Effect.scoped, Effect.provide(Logger.layer([logger])))
    }, 60_000)
  }

  it.live("closes and ends all who asked, though an observer of one of them throws", () =>
    Effect.gen(function*() {
      const redis = yield* server
      const scope = yield* Scope.make()
      const { withLock } = yield* Scope.provide(locker({ url: redis.url }), scope)
      yield* withLock("warm", Effect.void)
      redis.signal("SIGSTOP")
      const fibers = yield* Effect.forEach(
        Array.from({ length: 20 }, (_, index) => `k${index}`),
        (key) => Effect.forkChild(Effect.exit(withLock(key, Effect.void)), { startImmediately: true })
      )
      for (const fiber of fibers) {
        fiber.addObserver(() => {
          throw new Error("on purpose")
        })
      }
      const closed = yield* Effect.exit(Scope.close(scope, Exit.void))
      redis.signal("SIGCONT")
      assert.strictEqual(closed._tag, "Success")
      yield* within(Fiber.awaitAll(fibers), 1_000)
    }).pipe(Effect.scoped, Effect.provide(Logger.layer([]))), 30_000)
})

import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Scope } from "effect"
import { locker, plainClient, server, within } from "./support.ts"

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
      yield* Effect.sleep(100)
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual((yield* within(Fiber.join(waiting), 1_000))._tag, "LockBackendError")
      assert.sameMembers(yield* Effect.promise(() => client.keys("*")), ["dlock:k", "{dlock:k}:\0f"])
    }))
})

import { assert, describe, it } from "@effect/vitest"
import { redisUrl } from "dlock-testing/context"
import { Context, Effect, Layer } from "effect"
import { LockStore } from "effect-dlock"
import { RedisLockStore } from "effect-dlock-redis"
import { LockAdmin } from "effect-dlock/LockAdmin"
import { Conformance } from "effect-dlock/testing"

describe("the Redis store", () => {
  const built = Effect.suspend(() => Layer.build(Layer.fresh(RedisLockStore.layer({ url: redisUrl() }))))
  const client = Effect.map(built, (context) => Context.get(context, LockStore))
  const admin = Effect.map(built, (context) => Context.get(context, LockAdmin))
  const cases = Conformance.cases({ client, admin, advance: Effect.sleep, ttl: "1 second" })
  for (const { name, run } of cases) it.live(name, () => Effect.scoped(run), 30_000)
  it("runs more than ten cases of the suite", () => assert.isAbove(cases.length, 10))
})

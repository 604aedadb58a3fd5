import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import { LockStore } from "effect-dlock"
import { RedisLockStore } from "effect-dlock-redis"
import { Conformance } from "effect-dlock/testing"
import type { Redis } from "ioredis"
import { commandsSent, plainClient, server } from "./support.ts"

/** What a server has done so far: its requests, and the time of its scripts. */
const workOf = (admin: Redis): Effect.Effect<Conformance.Work> =>
  Effect.promise(async () => {
    const [requests, stats] = [await commandsSent(admin), await admin.info("commandstats")]
    // A script runs once as `eval`, in which the server gets to know it.
    const scripts = [...stats.matchAll(/cmdstat_eval(?:sha)?:calls=\d+,usec=(\d+)/g)]
    return { requests, micros: scripts.reduce((sum, [, micros]) => sum + Number(micros), 0) }
  })

describe("what a lock costs the Redis server", () => {
  const names = Conformance.costs({ client: Effect.die(""), advance: Effect.sleep, ttl: 1, work: Effect.die("") })
    .map(({ name }) => name)
  for (const [index, name] of names.entries()) {
    it.live(name, () =>
      Effect.gen(function*() {
        const { url } = yield* server
        const admin = yield* plainClient(url)
        const client = Effect.map(
          Effect.suspend(() => Layer.build(Layer.fresh(RedisLockStore.layer({ url })))),
          (context) => Context.get(context, LockStore)
        )
        const cases = Conformance.costs({ client, advance: Effect.sleep, ttl: "2 seconds", work: workOf(admin) })
        yield* Effect.scoped(cases[index]!.run)
      }).pipe(Effect.scoped), 120_000)
  }
  it("has cases", () => assert.isAbove(names.length, 3))
})

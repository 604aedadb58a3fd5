import { assert, describe, it } from "@effect/vitest"
import { leadersAreSeen } from "dlock-testing/watching"
import { Effect, Fiber, Option, Stream } from "effect"
import { Leader, Locker } from "effect-dlock"
import { keysOf } from "../src/internal/protocol/keys.ts"
import { eventually, locker, plainClient, server } from "./support.ts"

describe("Leader.observe", () => {
  it.live("and current tell who leads", () =>
    Effect.gen(function*() {
      const { url } = yield* server
      const admin = yield* plainClient(url)
      yield* leadersAreSeen((holder) => locker({ url, holder }), Effect.promise(() => admin.del("dlock:role")))
    }).pipe(Effect.scoped), 60_000)

  it.live("tells of a second without a leader also where the server tells of no change", () =>
    Effect.gen(function*() {
      const { url } = yield* server
      const admin = yield* plainClient(url)
      const { observers } = keysOf("dlock:role")!
      // As many others observe it as the server tells.
      const others = Array.from({ length: 64 }, (_, index) => [Date.now() + 600_000, `dlock:inbox:${index}`]).flat()
      yield* Effect.promise(() => admin.zadd(observers, ...others))
      const one = yield* locker({ url, holder: "one" })
      const told: Array<string> = []
      yield* Effect.forkScoped(
        Stream.runForEach(Leader.observe("role"), (leader) =>
          Effect.sync(() => void told.push(Option.isSome(leader) ? "one" : "nobody"))).pipe(
            Effect.provideService(Locker, yield* locker({ url }))
          )
      )
      yield* eventually("nobody leads", () =>
        Promise.resolve(told.length === 1))
      for (let term = 1; term < 4; term++) {
        const leader = yield* Effect.forkScoped(
          Leader.run("role", Effect.never).pipe(Effect.provideService(Locker, one), Effect.orDie)
        )
        yield* Effect.sleep("1100 millis")
        yield* Fiber.interrupt(leader)
        yield* Effect.sleep("1100 millis")
      }
      assert.deepStrictEqual(told, ["nobody", "one", "nobody", "one", "nobody", "one", "nobody"])
    }).pipe(Effect.scoped), 60_000)
})

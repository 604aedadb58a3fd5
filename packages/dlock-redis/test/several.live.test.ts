import { assert, describe, it } from "@effect/vitest"
import { takersTakeTurns } from "dlock-testing/takers"
import { Effect, Option } from "effect"
import * as Path from "node:path"
import { commandsSent, locker, plainClient, server } from "./support.ts"

/** The sections of each of eight processes. Set `DLOCK_TURNS=1250` for ten thousand in all. */
const count = Number(process.env.DLOCK_TURNS ?? 250)

describe("several locks at once", () => {
  it.live(
    `eight processes take random subsets of six keys ${8 * count} times, and none waits but for those before it`,
    () =>
      Effect.gen(function*() {
        const redis = yield* server
        const admin = yield* plainClient(redis.url)
        yield* takersTakeTurns({
          program: Path.join(import.meta.dirname, "programs/taker.ts"),
          url: redis.url,
          count,
          perTurn: 20,
          ask: () => admin.ping()
        })
      }).pipe(Effect.scoped),
    180_000
  )

  it.live("one command asks for the locks of a group, and one releases them", () =>
    Effect.gen(function*() {
      const { url } = yield* server
      const admin = yield* plainClient(url)
      const one = yield* locker({ url })
      const keys = ["a", "b", "c", "d"]
      const sent = Effect.promise(() => commandsSent(admin))
      // The first call loads the scripts.
      yield* one.withLocks(keys, Effect.void)
      const before = yield* sent
      const inside = yield* one.withLocks(keys, sent)
      assert.strictEqual(inside - before, 1)
      assert.strictEqual((yield* sent) - inside, 1)
    }).pipe(Effect.scoped))

  it.live("one command asks where another holds one of them, and a try grants no part", () =>
    Effect.gen(function*() {
      const { url } = yield* server
      const admin = yield* plainClient(url)
      const [holder, waiter] = [yield* locker({ url }), yield* locker({ url })]
      const keys = ["a", "b", "c", "d"]
      const sent = Effect.promise(() => commandsSent(admin))
      yield* waiter.withLocks(keys, Effect.void)
      yield* Effect.scoped(Effect.gen(function*() {
        yield* holder.scoped("c")
        const before = yield* sent
        assert.isTrue(Option.isNone(yield* waiter.withLocksIfAvailable(keys, Effect.void)))
        assert.strictEqual((yield* sent) - before, 1)
        for (const key of ["a", "b", "d"]) {
          assert.isTrue(Option.isSome(yield* holder.withLockIfAvailable(key, Effect.void)), key)
        }
      }))
    }).pipe(Effect.scoped))
})

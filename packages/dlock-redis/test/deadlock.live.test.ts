import { assert, describe, it } from "@effect/vitest"
import { startCluster } from "dlock-testing"
import { circleIsTold, noCircleIsTold } from "dlock-testing/circles"
import { Deferred, Effect, Fiber } from "effect"
import type { Locker, LockTimeout } from "effect-dlock"
import * as Path from "node:path"
import { commandsSent, eventually, group, locker, proxiedSetting, server, setting, timed } from "./support.ts"

const program = Path.join(import.meta.dirname, "programs/circle.ts")

/** Holds a lock until the end of the test. */
const keep = Effect.fnUntraced(function*(locker: Locker["Service"], key: string) {
  const held = yield* Deferred.make<void>()
  yield* Effect.forkScoped(locker.withLock(key, Effect.andThen(Deferred.succeed(held, undefined), Effect.never)))
  yield* Deferred.await(held)
})

describe("a deadlock of processes", () => {
  for (const count of [2, 3]) {
    it.live(`of ${count} is told to the one whose time ends, in time`, () =>
      Effect.gen(function*() {
        yield* circleIsTold(program, (yield* server).url, count)
      }).pipe(Effect.scoped))
  }

  it.live("is not told where the holder waits for somebody else", () =>
    Effect.gen(function*() {
      yield* noCircleIsTold(program, (yield* server).url)
    }).pipe(Effect.scoped))
})

describe("a deadlock on a cluster", () => {
  it.live("is told where the locks are on several servers", () =>
    Effect.gen(function*() {
      const { servers } = yield* group(() => startCluster())
      const options = { cluster: servers.map(({ url }) => url) }
      const [one, two] = [yield* locker({ ...options, holder: "one" }), yield* locker({ ...options, holder: "two" })]
      const round: Effect.Effect<LockTimeout["deadlock"], unknown> = Effect.gen(function*() {
        const [hasOne, hasTwo] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
        const both = Effect.andThen(Deferred.await(hasOne), Deferred.await(hasTwo))
        const other = yield* Effect.forkChild(two.withLock(
          "b",
          Effect.andThen(Deferred.succeed(hasTwo, undefined), Effect.andThen(both, two.withLock("a", Effect.void)))
        ))
        const error = yield* Effect.flip(one.withLock(
          "a",
          Effect.andThen(
            Deferred.succeed(hasOne, undefined),
            Effect.andThen(both, one.withLock("b", Effect.void, { timeout: 300 }))
          )
        ))
        yield* Fiber.join(other)
        return (error as LockTimeout).deadlock
      })
      // A late process has no time left to look for a circle.
      const hasCircle = (circle: LockTimeout["deadlock"]): boolean => circle !== undefined
      const circle = yield* Effect.repeat(round, { until: hasCircle, times: 4 })
      assert.deepStrictEqual(circle?.map(({ holder, key }) => `${key} ${holder}`), ["b two", "a one"])
    }).pipe(Effect.scoped))
})

describe("a wait inside a section", () => {
  it.live("sends one command more when its time ends, and a wait outside sends none more", () =>
    Effect.gen(function*() {
      const { admin, another, withLock } = yield* setting()
      const other = yield* another
      yield* keep(other, "b")
      const sent = Effect.promise(() => commandsSent(admin))
      const times = Effect.flip(withLock("b", Effect.void, { timeout: 100 }))
      // The first ones load the scripts.
      yield* withLock("a", times)
      const begin = yield* sent
      yield* times
      assert.strictEqual((yield* sent) - begin, 2)
      // A late process has no time left to look for a circle.
      const isFive = (commands: number): boolean => commands === 5
      const inside = Effect.gen(function*() {
        const before = yield* sent
        yield* withLock("a", times)
        return (yield* sent) - before
      })
      assert.strictEqual(yield* Effect.repeat(inside, { until: isFive, times: 4 }), 5)
    }).pipe(Effect.scoped))

  it.live("writes what it holds only with its claim, and only inside", () =>
    Effect.gen(function*() {
      const { admin, another, withLock } = yield* setting({ holder: "one" })
      const other = yield* another
      const labels = Effect.promise(async () =>
        Object.values(await admin.hgetall("{dlock:b}:\0w")).map((value) => value.split("|").at(-1))
      )
      yield* keep(other, "b")
      const plain = yield* Effect.forkScoped(withLock("b", Effect.void))
      yield* eventually("it waits", async () => await admin.zcard("{dlock:b}:\0q") === 1)
      assert.deepStrictEqual(yield* labels, ["one"])
      yield* Fiber.interrupt(plain)
      yield* Effect.forkScoped(withLock("a", withLock("b", Effect.void)))
      yield* eventually("it waits", async () => await admin.zcard("{dlock:b}:\0q") === 1)
      assert.deepStrictEqual(yield* labels, ["one\tholds [\"dlock:a\"]"])
      assert.match((yield* Effect.promise(() => admin.get("dlock:a")))!, /\|one$/)
    }).pipe(Effect.scoped))

  it.live("ends in time where the server falls silent", () =>
    Effect.gen(function*() {
      const { admin, another, proxy, withLock } = yield* proxiedSetting()
      const other = yield* another
      yield* keep(other, "b")
      const inside = timed(Effect.flip(withLock("b", Effect.void, { timeout: 600 })))
      const waiting = yield* Effect.forkScoped(withLock("a", inside))
      yield* eventually("it waits", async () => await admin.zcard("{dlock:b}:\0q") === 1)
      proxy.holdReplies()
      const [took, error] = yield* Fiber.join(waiting)
      assert.isAtLeast(took, 500)
      assert.isBelow(took, 700)
      assert.include(["LockTimeout", "LockBackendError"], error._tag)
    }).pipe(Effect.scoped))
})

import { assert, describe, it } from "@effect/vitest"
import { circleIsTold, noCircleIsTold } from "dlock-testing/circles"
import { Deferred, Effect, Fiber } from "effect"
import type { Locker } from "effect-dlock"
import * as Path from "node:path"
import { decode } from "../src/internal/protocol/format.ts"
import { eventually, locker, lockerOver, plainClient, proxiedSetting, server, timed } from "./support.ts"

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
        yield* circleIsTold(program, (yield* server()).url, count)
      }).pipe(Effect.scoped))
  }

  it.live("is not told where the holder waits for somebody else", () =>
    Effect.gen(function*() {
      yield* noCircleIsTold(program, (yield* server()).url)
    }).pipe(Effect.scoped))
})

describe("a wait inside a section", () => {
  it.live("reads the queue of what it holds when its time ends, and a wait outside reads none", () =>
    Effect.gen(function*() {
      const { url } = yield* server()
      const read: Array<string> = []
      const other = yield* locker({ hosts: url })
      const { withLock } = yield* lockerOver(url, (port) => ({
        ...port,
        txn: (request, ...rest) => {
          const range = request.success?.[0]?.request_range
          if (range?.range_end !== undefined && Number(range.limit) === 64) read.push(String(range.key))
          return port.txn(request, ...rest)
        }
      }))
      yield* keep(other, "b")
      const times = Effect.flip(withLock("b", Effect.void, { timeout: 100 }))
      yield* times
      assert.deepStrictEqual(read, [])
      // A late process has no time left to look for a circle.
      const hasRead = (): boolean => read.length > 0
      yield* Effect.repeat(withLock("a", times), { until: hasRead, times: 4 })
      assert.deepStrictEqual(read, ["dlock:a/"])
    }).pipe(Effect.scoped))

  it.live("writes what it holds only with its claim, and only inside", () =>
    Effect.gen(function*() {
      const { url } = yield* server()
      const admin = yield* plainClient(url)
      const [other, { withLock }] = [
        yield* locker({ hosts: url, holder: "other" }),
        yield* locker({ hosts: url, holder: "one" })
      ]
      const holders = async () =>
        Object.values(await admin.getAll().prefix("dlock:b/").sort("Create", "Ascend").buffers())
          .map((value) => decode(value).holder)
      const eventuallyThere = (...expected: ReadonlyArray<string>) =>
        eventually(expected.join(), async () => JSON.stringify(await holders()) === JSON.stringify(expected))
      yield* keep(other, "b")
      const plain = yield* Effect.forkScoped(withLock("b", Effect.void))
      yield* eventuallyThere("other", "one")
      yield* Fiber.interrupt(plain)
      yield* Effect.forkScoped(withLock("a", withLock("b", Effect.void)))
      yield* eventuallyThere("other", "one\tholds [\"dlock:a\"]")
    }).pipe(Effect.scoped))

  it.live("ends in time where the server falls silent", () =>
    Effect.gen(function*() {
      const { admin, another, proxy, withLock } = yield* proxiedSetting()
      const other = yield* another
      yield* keep(other, "b")
      const inside = timed(Effect.flip(withLock("b", Effect.void, { timeout: 600 })))
      const waiting = yield* Effect.forkScoped(withLock("a", inside))
      yield* eventually("it waits", async () => await admin.getAll().prefix("dlock:b/").count() === 2)
      proxy.holdReplies()
      const [took, error] = yield* Fiber.join(waiting)
      assert.isAtLeast(took, 500)
      assert.isBelow(took, 700)
      assert.include(["LockTimeout", "LockBackendError"], error._tag)
    }).pipe(Effect.scoped))
})

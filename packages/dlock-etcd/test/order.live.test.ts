import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber } from "effect"
import { silentFailure } from "../src/internal/client/failure.ts"
import type { Port } from "../src/internal/client/port.ts"
import { placesIn } from "./claim.ts"
import { locker, lockerOver, queued, server } from "./support.ts"

describe.concurrent("those of a process that ask for one lock at once", () => {
  const inOrder = (meddle: (port: Port) => Port): Effect.Effect<void, unknown> =>
    Effect.gen(function*() {
      const { url } = yield* server()
      const before = yield* locker({ hosts: url })
      const { withLock } = yield* lockerOver(url, meddle)
      const released = yield* Deferred.make<void>()
      const first = yield* Effect.forkChild(before.withLock("k", Deferred.await(released)), { startImmediately: true })
      yield* queued(url, 1)
      const order: Array<number> = []
      const asked = Array.from({ length: 60 }, (_, index) => index)
      const fibers = yield* Effect.forEach(asked, (index) =>
        Effect.forkChild(withLock("k", Effect.sync(() => void order.push(index))), { startImmediately: true }))
      yield* queued(url, 61)
      yield* Deferred.succeed(released, undefined)
      yield* Effect.forEach([first, ...fibers], Fiber.join)
      assert.deepStrictEqual(order, asked)
      yield* queued(url, 0)
    }).pipe(Effect.scoped)

  it.live("come in as they asked where the server was asked twice for each", () =>
    inOrder((port) => {
      let count = 0
      return {
        ...port,
        // The requests that are sent first arrive last.
        txn: (...asked) =>
          Effect.delay(
            Effect.map(port.txn(...asked), (reply) => ({ ...reply, doubled: true })),
            40 - (count++ % 16) * 2
          )
      }
    }), 30_000)

  it.live("come in as they asked where all have to ask once more", () =>
    inOrder((port) => {
      let count = 0
      const answered = new Set<string>()
      return {
        ...port,
        txn: (...asked) => {
          const call = Effect.delay(port.txn(...asked), 40 - (count++ % 16) * 2)
          const first = placesIn(asked[0]).filter((place) => !answered.has(place))
          first.forEach((place) => answered.add(place))
          return first.length > 0 ? Effect.andThen(Effect.exit(call), Effect.fail(silentFailure)) : call
        }
      }
    }), 30_000)

  it.live(
    "ask for it abreast also where each of them holds another lock, on a server 10 ms away",
    () =>
      Effect.gen(function*() {
        const etcd = yield* server()
        const before = yield* locker({ hosts: etcd.url })
        let [underWay, most] = [0, 0]
        const { withLock } = yield* lockerOver(etcd.url, (port) => ({
          ...port,
          txn: (...asked) =>
            Effect.suspend(() => {
              most = Math.max(most, ++underWay)
              return Effect.ensuring(Effect.delay(port.txn(...asked), 10), Effect.sync(() => underWay--))
            })
        }))
        const released = yield* Deferred.make<void>()
        const first = yield* Effect.forkChild(before.withLock("hot", Deferred.await(released)), {
          startImmediately: true
        })
        yield* queued(etcd.url, 1, "hot")
        const order: Array<number> = []
        const asked = Array.from({ length: 100 }, (_, index) => index)
        const ready = yield* Deferred.make<void>()
        let inside = 0
        const fibers = yield* Effect.forEach(asked, (index) =>
          Effect.forkChild(withLock(
            `own:${index}`,
            Effect.gen(function*() {
              if (++inside === asked.length) yield* Deferred.succeed(ready, undefined)
              yield* Deferred.await(ready)
              yield* withLock("hot", Effect.sync(() => void order.push(index)))
            })
          )))
        yield* Deferred.await(ready)
        most = 0
        yield* queued(etcd.url, 101, "hot")
        assert.isAtLeast(most, 4)
        yield* Deferred.succeed(released, undefined)
        yield* Effect.forEach([first, ...fibers], Fiber.join)
        assert.lengthOf(order, asked.length)
      }).pipe(Effect.scoped),
    120_000
  )
})

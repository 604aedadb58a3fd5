import { assert, describe, it } from "@effect/vitest"
import { takersTakeTurns } from "dlock-testing/takers"
import { Deferred, Effect, Fiber, Option } from "effect"
import * as Path from "node:path"
import { traffic } from "./sharing.ts"
import { keys as keysAt, locker, lockerOver, plainClient, proxiedSetting, server, timed } from "./support.ts"

/** The sections of each of eight processes. Set `DLOCK_TURNS=1250` for ten thousand in all. */
const count = Number(process.env.DLOCK_TURNS ?? 200)

describe("several locks at once", () => {
  it.live(
    `eight processes take random subsets of six keys ${8 * count} times, and none waits but for those before it`,
    () =>
      Effect.gen(function*() {
        const etcd = yield* server()
        const admin = yield* plainClient(etcd.url)
        yield* takersTakeTurns({
          program: Path.join(import.meta.dirname, "programs/taker.ts"),
          url: etcd.url,
          count,
          perTurn: 50,
          ask: () => admin.get("a key").string()
        })
      }).pipe(Effect.scoped),
    180_000
  )

  it.live("one transaction asks for the locks of a group, one releases them, and they have one token", () =>
    Effect.gen(function*() {
      const { url } = yield* server()
      const sent: Array<string> = []
      const one = yield* lockerOver(url, (port) => ({
        ...port,
        txn: (request, limit, onUnsent) => {
          const text = JSON.stringify(request)
          if (/request_(put|delete_range)/.test(text)) sent.push(text)
          return port.txn(request, limit, onUnsent)
        }
      }))
      const keys = ["a", "b", "c", "d"]
      // The first call makes the lease of the claims.
      yield* one.withLocks(keys, Effect.void)
      sent.length = 0
      const tokens = yield* one.withLocks(keys, (leases) => {
        assert.lengthOf(sent, 1)
        return Effect.succeed(new Set(keys.map(leases.tokenOf)))
      })
      assert.lengthOf(sent, 2)
      assert.strictEqual(tokens.size, 1)
    }).pipe(Effect.scoped))

  it.live("one transaction asks where another holds one of them, and a try grants no part", () =>
    Effect.gen(function*() {
      const { url } = yield* server()
      const [holder, waiter] = [yield* locker({ hosts: url }), yield* locker({ hosts: url })]
      const keys = ["a", "b", "c", "d"]
      const sent = Effect.map(traffic(url), ({ transactions }) => transactions)
      yield* waiter.withLocks(keys, Effect.void)
      yield* Effect.scoped(Effect.gen(function*() {
        yield* holder.scoped("c")
        // What the locks before it have left is cleared.
        yield* Effect.sleep(500)
        const before = yield* sent
        assert.isTrue(Option.isNone(yield* waiter.withLocksIfAvailable(keys, Effect.void)))
        assert.strictEqual((yield* sent) - before, 1)
        const admin = yield* plainClient(url)
        assert.deepStrictEqual(
          (yield* Effect.promise(() => keysAt(admin))).filter((key) => /^dlock:[abd]/.test(key)),
          []
        )
        for (const key of ["a", "b", "d"]) {
          assert.isTrue(Option.isSome(yield* holder.withLockIfAvailable(key, Effect.void)), key)
        }
      }))
    }).pipe(Effect.scoped))

  it.live(
    "a burst of a thousand groups gets its locks, on a server 20 ms away, and keeps nobody else waiting",
    () =>
      Effect.gen(function*() {
        const { proxy, withLock, withLocks } = yield* proxiedSetting({ defaultTtl: "9 seconds" })
        yield* withLock("warm", Effect.void)
        proxy.delay(10)
        const burst = yield* Effect.forkChild(
          Effect.forEach(
            Array.from({ length: 1_000 }, (_, index) => index),
            (index) => withLocks([`x${index}`, `y${index}`], Effect.void, { timeout: "30 seconds" }),
            { concurrency: "unbounded", discard: true }
          )
        )
        yield* Effect.sleep("10 millis")
        const [waited] = yield* timed(withLock("free", Effect.void, { timeout: "10 seconds" }))
        yield* Fiber.join(burst)
        yield* Effect.log(`a single lock waited ${waited.toFixed(0)} ms beside the burst`)
      }).pipe(Effect.scoped),
    120_000
  )

  it.live(
    "those who want several locks and those who want one are served in the order in which they asked",
    () =>
      Effect.gen(function*() {
        const { url } = yield* server()
        const one = yield* locker({ hosts: url })
        const served: Array<number> = []
        const gate = yield* Deferred.make<void>()
        const holder = yield* Effect.forkChild(one.withLock("a", Deferred.await(gate)))
        yield* Effect.sleep("200 millis")
        const fibers = yield* Effect.forEach(
          Array.from({ length: 60 }, (_, index) => index),
          (index) => {
            const note = Effect.sync(() => void served.push(index))
            const section = index % 2 === 0 ? one.withLock("a", note) : one.withLocks(["b", "a"], note)
            return Effect.forkChild(section, { startImmediately: true })
          }
        )
        yield* Effect.sleep("500 millis")
        yield* Deferred.succeed(gate, undefined)
        yield* Effect.forEach([holder, ...fibers], Fiber.join)
        assert.deepStrictEqual(served, served.toSorted((a, b) => a - b))
      }).pipe(Effect.scoped),
    120_000
  )
})

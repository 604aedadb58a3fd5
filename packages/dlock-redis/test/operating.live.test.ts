import { assert, describe, it } from "@effect/vitest"
import { recordLag } from "dlock-testing"
import { Deferred, Effect, Fiber, Option, Stream } from "effect"
import { type Lease, type LockInfo, type OwnershipLost } from "effect-dlock"
import { eventually, locker, plainClient, server, within } from "./support.ts"

/** A server, a process that holds locks, and one that operates them. */
const setting = Effect.gen(function*() {
  const { url } = yield* server
  const redis = yield* plainClient(url)
  return {
    url,
    redis,
    holder: yield* locker({ url, holder: "holder" }),
    operator: yield* locker({ url, holder: "ops" })
  }
})

const ttl = 1_500
const guard = 150

describe("operating locks on Redis", () => {
  it.live("asks a holder, who leaves and hands over, and ends a section that stays", () =>
    Effect.gen(function*() {
      const { holder, operator } = yield* setting
      for (const obeys of [true, false]) {
        const inside = yield* Deferred.make<bigint>()
        const section = yield* Effect.forkChild(Effect.flip(holder.withLock("k", (lease: Lease) =>
          Effect.gen(function*() {
            yield* Deferred.succeed(inside, lease.fencingToken)
            if (!obeys) return yield* Effect.never
            const { by, why } = yield* lease.revocation
            return yield* Effect.fail({ _tag: "left", by, why } as const)
          }))))
        const token = yield* Deferred.await(inside)
        const next = yield* Effect.forkChild(operator.withLock("k", (lease: Lease) =>
          Effect.succeed(lease.fencingToken)))
        yield* eventually("it waits", async () => (await Effect.runPromise(operator.inspect("k"))).queueLength === 1)
        assert.strictEqual(yield* operator.revoke("k", { token: token + 1n, why: "another" }), "notHeld")
        const grace = obeys ? "20 seconds" : "200 millis"
        assert.strictEqual(yield* within(operator.revoke("k", { token, grace, why: "to test" }), 1_000), "released")
        assert.isAbove(Number((yield* within(Fiber.join(next), 1_000)) - token), 0)
        const error = yield* Fiber.join(section)
        if (obeys) assert.deepStrictEqual(error, { _tag: "left", by: "ops", why: "to test" } as never)
        else {
          const { reason, revocation } = error as OwnershipLost
          assert.deepStrictEqual([reason, revocation], ["Revoked", { by: "ops", why: "to test" }])
        }
      }
    }).pipe(Effect.scoped), 30_000)

  it.live(
    "lets nobody in beside a program that does not end, until its claim has run out",
    () =>
      Effect.gen(function*() {
        const { url } = yield* server
        const holder = yield* locker({ url, guardGap: guard })
        const operator = yield* locker({ url, guardGap: guard })
        const recorded = recordLag()
        const inside = yield* Deferred.make<bigint>()
        const section = yield* Effect.forkChild(Effect.exit(holder.withLock(
          "k",
          (lease: Lease) =>
            Effect.andThen(Deferred.succeed(inside, lease.fencingToken), Effect.uninterruptible(Effect.sleep(4 * ttl))),
          { ttl }
        )))
        const token = yield* Deferred.await(inside)
        yield* Effect.sleep(ttl)
        const next = yield* Effect.forkChild(
          operator.withLock("k", Effect.sync(() => performance.now()))
        )
        yield* eventually("it waits", async () => (await Effect.runPromise(operator.inspect("k"))).queueLength === 1)
        const askedAt = performance.now()
        assert.strictEqual(yield* operator.revoke("k", { token, grace: 0 }), "running")
        const enteredAt = yield* within(Fiber.join(next), 10_000)
        // Its last renewal was a third of the ttl ago at the most, and at the least none.
        assert.isAbove(enteredAt - askedAt, ttl * 2 / 3 - recorded.max())
        assert.isBelow(enteredAt - askedAt, ttl + guard + 200 + recorded.max())
        yield* Fiber.join(section)
      }).pipe(Effect.scoped),
    30_000
  )

  it.live("watches a lock, which is told as it changes, and lists what is held", () =>
    Effect.gen(function*() {
      const { holder, operator, redis } = yield* setting
      const seen: Array<LockInfo> = []
      yield* Effect.forkScoped(
        Stream.runForEach(operator.watchKey("k"), (info) => Effect.sync(() => void seen.push(info)))
      )
      const last = () => seen.at(-1)!
      yield* eventually("the free lock", async () => seen.length === 1 && last().holderCount === 0)
      const recorded = recordLag()
      for (let round = 0; round < 5; round++) {
        const leave = yield* Deferred.make<void>()
        const section = yield* Effect.forkChild(holder.withLock("k", Deferred.await(leave)))
        yield* eventually("it is held", async () => last().holderCount === 1, 1_000 + recorded.max())
        yield* Deferred.succeed(leave, undefined)
        yield* Fiber.join(section)
        yield* eventually("it is free", async () => last().holderCount === 0, 1_000 + recorded.max())
      }
      yield* Effect.promise(() => redis.set("dlock:foreign", "x"))
      const infos = yield* holder.withLock("a/b", Stream.runCollect(operator.list("a/")))
      assert.deepStrictEqual(infos.map(({ holders: [one], key }) => [key, one?.holder]), [["a/b", "holder"]])
      const foreign = yield* operator.inspect("foreign")
      assert.isTrue(foreign.holders[0]!.foreign && Option.isSome(foreign.kind))
      const { token } = foreign.holders[0]!
      assert.isFalse(yield* operator.breakLock("foreign", { token: token + 1n }))
      assert.isTrue(yield* operator.breakLock("foreign", { token }))
      assert.strictEqual(yield* operator.withLock("foreign", Effect.succeed("in"), { timeout: "1 second" }), "in")
    }).pipe(Effect.scoped), 30_000)

  it.live("tells a holder at once that its lock was broken", () =>
    Effect.gen(function*() {
      const { holder, operator } = yield* setting
      const inside = yield* Deferred.make<bigint>()
      const section = yield* Effect.forkChild(Effect.flip(holder.withLock("k", (lease: Lease) =>
        Effect.andThen(Deferred.succeed(inside, lease.fencingToken), Effect.never))))
      const token = yield* Deferred.await(inside)
      assert.isTrue(yield* operator.breakLock("k", { token }))
      assert.strictEqual(((yield* within(Fiber.join(section), 200)) as OwnershipLost).reason, "Revoked")
      assert.strictEqual(yield* operator.withLock("k", Effect.succeed("in"), { timeout: "1 second" }), "in")
    }).pipe(Effect.scoped))
})

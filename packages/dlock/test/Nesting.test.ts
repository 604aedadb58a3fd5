import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect } from "effect"
import { Lease, Locker, MemoryLockStore, withLock } from "effect-dlock"
import { HeldLease } from "../src/internal/lease/heldLease.ts"
import { lockerOver, setting } from "./support.ts"

describe("the leases around a section", () => {
  it.effect("do not pile up where each section starts the next one, hand over hand", () =>
    Effect.gen(function*() {
      const locker = yield* lockerOver(yield* MemoryLockStore.make)
      const length = yield* Deferred.make<number>()
      const section = (n: number, before?: Deferred.Deferred<void>): Effect.Effect<unknown> =>
        Effect.orDie(locker.withLock(`k${n}`, (lease) =>
          Effect.gen(function*() {
            // Only now may the one before end.
            if (before !== undefined) yield* Deferred.succeed(before, undefined)
            if (n === 50) {
              assert(lease instanceof HeldLease)
              let count = 0
              for (let at: HeldLease | undefined = lease; at !== undefined; at = at.parent) count++
              return yield* Deferred.succeed(length, count)
            }
            const next = yield* Deferred.make<void>()
            yield* Effect.forkDetach(section(n + 1, next))
            return yield* Deferred.await(next)
          })))
      yield* section(0)
      assert.isAtMost(yield* Deferred.await(length), 3)
    }))

  it.effect("are seen through one that has ended", () =>
    Effect.gen(function*() {
      const locker = yield* lockerOver(yield* MemoryLockStore.make)
      const again = Effect.flip(locker.withLock("outer", Effect.void))
      const inner = locker.withLock("inner", (lease) => Effect.andThen(lease.release, again))
      assert.strictEqual((yield* locker.withLock("outer", inner))._tag, "LockAlreadyHeld")
    }))

  it.effect("are told apart by their store where one scope holds two of a name", () =>
    Effect.gen(function*() {
      const one = yield* lockerOver(yield* MemoryLockStore.make)
      const two = yield* lockerOver(yield* MemoryLockStore.make)
      yield* one.scoped("k")
      yield* two.scoped("k")
      assert.strictEqual((yield* Effect.flip(one.scoped("k", { timeout: 0 })))._tag, "LockAlreadyHeld")
      assert.strictEqual((yield* Effect.flip(two.scoped("k", { timeout: 0 })))._tag, "LockAlreadyHeld")
    }))

  it.effect("may be what a section is for: a service is an effect, though it is a function too", () =>
    Effect.gen(function*() {
      assert.strictEqual((yield* withLock("k", Lease)).key, "k")
      assert.strictEqual((yield* Lease.pipe(withLock("k"))).key, "k")
    }).pipe(Effect.provide(Locker.layerMemory)))
})

describe("sections inside one another", () => {
  it.live("do not overflow the stack where nothing is waited for, and end as they should", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting()
      const nested = (depth: number): Effect.Effect<number, unknown> =>
        depth === 0 ? Effect.succeed(42) : locker.withLock(`k${depth}`, Effect.suspend(() => nested(depth - 1)))
      assert.strictEqual(yield* nested(2_000), 42)
      const failing = (depth: number): Effect.Effect<number, unknown> =>
        depth === 0 ? Effect.fail("own") : locker.withLock(`k${depth}`, () => failing(depth - 1))
      assert.strictEqual(yield* Effect.flip(failing(2_000)), "own")
    }))
})

describe("a request inside a section", () => {
  it.effect("names what is held through other stores, and nothing where there is none", () =>
    Effect.gen(function*() {
      const [one, two] = yield* Effect.all([setting(), setting()])
      yield* one.locker.withLock(
        "a",
        one.locker.withLock("b", two.locker.withLock("c", two.locker.withLock("d", Effect.void)))
      )
      const claims = [...one.sent("request"), ...two.sent("request")].map((call) => call.claims[0]!)
      const [a, b] = claims
      assert.deepStrictEqual(claims.map(({ inside }) => inside), [undefined, undefined, [b!.id, a!.id], [b!.id, a!.id]])
    }))
})

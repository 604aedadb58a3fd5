import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber } from "effect"
import { Lease, LockAlreadyHeld, MemoryLockStore } from "effect-dlock"
import { HeldLease } from "../src/internal/lease/heldLease.ts"
import { LeaseGroup } from "../src/internal/lease/leaseGroup.ts"
import { fork, lockerOver, setting } from "./support.ts"

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
              for (let at: HeldLease["parent"] = lease; at !== undefined; at = at.parent) count++
              return yield* Deferred.succeed(length, count)
            }
            const next = yield* Deferred.make<void>()
            yield* Effect.forkDetach(section(n + 1, next))
            return yield* Deferred.await(next)
          })))
      yield* section(0)
      assert.isAtMost(yield* Deferred.await(length), 3)
    }))

  it.live("do not pile up either where they are groups", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting()
      const counts = yield* Deferred.make<ReadonlyArray<number>>()
      const sizes: Array<number> = []
      const next = (left: number): Effect.Effect<void> =>
        Effect.orDie(locker.withLocks([`a${left}`, `b${left}`], (leases) => {
          assert.instanceOf(leases, LeaseGroup)
          sizes.push(leases.leases.length)
          if (left === 0) return Effect.asVoid(Deferred.succeed(counts, sizes))
          return Effect.asVoid(Effect.forkDetach(Effect.andThen(Effect.sleep(1), next(left - 1))))
        }))
      yield* next(20)
      assert.isAtMost(Math.max(...(yield* Deferred.await(counts))), 4)
    }))

  it.effect("are found around a section whose lease has ended", () =>
    Effect.gen(function*() {
      const locker = yield* lockerOver(yield* MemoryLockStore.make)
      const again = Effect.flip(locker.withLock("outer", Effect.void))
      const inner = locker.withLock("inner", (lease) => Effect.andThen(lease.release, again))
      assert.strictEqual((yield* locker.withLock("outer", inner))._tag, "LockAlreadyHeld")
    }))

  it.effect("are told apart by their stores where one scope holds two locks of one name", () =>
    Effect.gen(function*() {
      const one = yield* lockerOver(yield* MemoryLockStore.make)
      const two = yield* lockerOver(yield* MemoryLockStore.make)
      yield* one.scoped("k")
      yield* two.scoped("k")
      assert.strictEqual((yield* Effect.flip(one.scoped("k", { timeout: 0 })))._tag, "LockAlreadyHeld")
      assert.strictEqual((yield* Effect.flip(two.scoped("k", { timeout: 0 })))._tag, "LockAlreadyHeld")
    }))
})

describe("no self-deadlock in silence", () => {
  it.effect("asking again inside a section fails at once, naming the token, and sends nothing", () =>
    Effect.gen(function*() {
      const { locker, sent } = yield* setting()
      const error = yield* locker.withLock("k", Effect.flip(locker.withLock("k", Effect.void)))
      assert.deepStrictEqual(error, new LockAlreadyHeld({ key: "k", fencingToken: 1n }))
      assert.strictEqual(sent("request").length, 1)
    }))

  it.effect("asking again in a forked child, in the same scope or through another key's section fails at once too", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting()
      const again = Effect.map(Effect.flip(locker.withLock("k", Effect.void)), (error) => error._tag)
      const inChild = yield* locker.withLock("k", Effect.flatMap(Effect.forkChild(again), Fiber.join))
      const deeper = yield* locker.withLock("k", locker.withLock("other", again))
      const inScope = yield* Effect.scoped(
        Effect.andThen(locker.scoped("k"), Effect.map(Effect.flip(locker.scoped("k")), (error) => error._tag))
      )
      const scopeThenSection = yield* Effect.scoped(Effect.andThen(locker.scoped("k"), again))
      assert.deepStrictEqual([inChild, deeper, inScope, scopeThenSection], Array(4).fill("LockAlreadyHeld"))
    }))

  it.effect("a daemon that outlives its section may ask again", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting()
      const over = yield* Deferred.make<void>()
      const daemon = yield* locker.withLock(
        "k",
        fork(Effect.void).pipe(
          Effect.andThen(
            Effect.forkDetach(Effect.andThen(Deferred.await(over), locker.withLock("k", Effect.succeed("again"))))
          )
        )
      )
      yield* Deferred.succeed(over, undefined)
      assert.strictEqual(yield* Fiber.join(daemon), "again")
    }))

  it.effect("another prefix, another locker's store and another key are other locks", () =>
    Effect.gen(function*() {
      const { locker, memory } = yield* setting()
      const prefixed = yield* lockerOver(memory, { prefix: "else:" })
      const elsewhere = yield* lockerOver(yield* MemoryLockStore.make)
      const result = yield* locker.withLock(
        "k",
        prefixed.withLock("k", elsewhere.withLock("k", locker.withLock("j", Effect.succeed(42))))
      )
      assert.strictEqual(result, 42)
    }))

  it.effect("a lease that a test made up holds nothing", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting()
      const lease = yield* locker.withLock("k", (lease) => Effect.succeed({ ...lease, key: "k" }))
      assert.strictEqual(
        yield* Effect.provideService(locker.withLock("k", Effect.succeed(42)), Lease, Lease.of(lease as never)),
        42
      )
    }))

  it.effect("the innermost lease is the one that a program is given", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting()
      const key = Effect.map(Lease, (lease) => lease.key)
      const keys = yield* locker.withLock("a", Effect.all([key, locker.withLock("b", key), key]))
      assert.deepStrictEqual(keys, ["a", "b", "a"])
    }))
})

describe("sections inside one another", () => {
  it.live("do not overflow the stack where none of them waits, and keep their result", () =>
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
  it.effect("names the claims that are held through other stores, and none where there are none", () =>
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

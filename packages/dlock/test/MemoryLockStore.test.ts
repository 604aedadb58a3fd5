import { assert, describe, it } from "@effect/vitest"
import { Clock, Context, Deferred, Duration, Effect, Fiber } from "effect"
import { LockAdmin, Locker, LockStore, MemoryLockStore, withLock } from "effect-dlock"
import { Conformance } from "effect-dlock/testing"
import { TestClock } from "effect/testing"
import { fork, shiftedClock } from "./support.ts"

const cases = ({ admin, client }: Pick<Conformance.Options, "admin" | "client">) =>
  Conformance.cases({ client, admin, advance: TestClock.adjust, ttl: "900 millis", rounds: 10_000 })

/** Clients of one memory, each with an object of its own. */
const shared = Effect.map(MemoryLockStore.makeWithAdmin, (memory) => ({
  client: Effect.sync(() => ({ ...Context.get(memory, LockStore) })),
  admin: Effect.succeed(Context.get(memory, LockAdmin))
}))

describe("the memory store", () => {
  const names = cases({ client: MemoryLockStore.make, admin: Effect.never }).map(({ name }) => name)
  // Each case has a memory of its own.
  for (const [index, name] of names.entries()) {
    it.effect(name, () => Effect.flatMap(shared, (memory) => cases(memory)[index]!.run))
  }

  const claim = {
    id: "one",
    key: "k",
    prefix: "",
    kind: "mutex" as const,
    permits: 1,
    capacity: 1,
    ttl: Duration.seconds(9),
    guardGap: Duration.seconds(1),
    holder: "me"
  }

  it.effect("ends a lease that has run out for every caller, even where its own timer is late", () =>
    Effect.gen(function*() {
      const { clock, shift } = yield* shiftedClock
      const store = yield* Effect.provideService(MemoryLockStore.make, Clock.Clock, clock)
      const other = { ...claim, id: "two" }
      yield* store.request(claim, "try")
      const waiting = yield* store.request({ ...claim, id: "three" }, "queue")
      assert(waiting._tag === "Queued")
      shift.monotonic = 9999
      assert.strictEqual((yield* store.request(other, "try"))._tag, "Busy")
      shift.monotonic = 10_000
      assert.deepStrictEqual(yield* store.renew([{ claim, fencingToken: 1n }]), [{ _tag: "Replaced" }])
      const fiber = yield* fork(waiting.granted)
      assert.isDefined(fiber.pollUnsafe())
      shift.monotonic = 20_000
      assert.strictEqual(yield* store.withdraw({ ...claim, id: "three" }), "notHeld")
      assert.strictEqual((yield* store.request(other, "try"))._tag, "Granted")
    }))

  it.effect("is alone in its memory: two layers share nothing", () =>
    Effect.gen(function*() {
      const request = Effect.flatMap(LockStore, (store) => store.request(claim, "try"))
      const one = yield* Effect.provide(request, MemoryLockStore.layer, { local: true })
      const two = yield* Effect.provide(request, MemoryLockStore.layer, { local: true })
      assert.deepStrictEqual([one._tag, two._tag], ["Granted", "Granted"])
    }))
})

describe("a waiter of the memory store runs on within the call that granted it", () => {
  it.effect("and holds the lock alone when it asks for the same key again at once", () =>
    Effect.gen(function*() {
      let inside = 0
      let most = 0
      const hold = (until: Effect.Effect<void>) =>
        withLock(
          "k",
          Effect.acquireUseRelease(
            Effect.sync(() => {
              most = Math.max(most, ++inside)
            }),
            () => until,
            () => Effect.sync(() => inside--)
          )
        )
      const first = yield* Deferred.make<void>()
      const second = yield* Deferred.make<void>()
      const one = yield* fork(hold(Deferred.await(first)))
      const two = yield* fork(Effect.andThen(hold(Effect.void), hold(Deferred.await(second))))
      yield* Deferred.succeed(first, undefined)
      yield* Fiber.join(one)
      const three = yield* fork(hold(Effect.void))
      yield* Effect.yieldNow
      assert.isUndefined(three.pollUnsafe())
      yield* Deferred.succeed(second, undefined)
      yield* Fiber.joinAll([two, three])
      assert.strictEqual(most, 1)
    }).pipe(Effect.provide(Locker.layerMemory)))

  it.effect("and two thousand of them in a row do not overflow the stack", () =>
    Effect.gen(function*() {
      const gate = yield* Deferred.make<void>()
      let count = 0
      const first = yield* fork(withLock("k", Deferred.await(gate)))
      const waiting = yield* Effect.forEach(
        Array.from({ length: 2000 }),
        () => fork(withLock("k", Effect.sync(() => void count++)))
      )
      yield* Deferred.succeed(gate, undefined)
      yield* Fiber.join(first)
      yield* Fiber.joinAll(waiting)
      assert.strictEqual(count, 2000)
      assert.strictEqual(yield* withLock("k", Effect.succeed("free"), { timeout: 0 }), "free")
    }).pipe(Effect.provide(Locker.layerMemory)))
})

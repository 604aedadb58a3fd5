import { assert, describe, it } from "@effect/vitest"
import { Clock, Duration, Effect } from "effect"
import { LockStore, MemoryLockStore } from "effect-dlock"
import { Conformance } from "effect-dlock/testing"
import { TestClock } from "effect/testing"
import { fork, shiftedClock } from "./support.ts"

const cases = (client: Conformance.Options["client"]) =>
  Conformance.cases({ client, advance: TestClock.adjust, ttl: "900 millis", rounds: 10_000 })

describe("the memory store", () => {
  // Each case has a memory of its own, which all its clients share, each by an object of its own.
  for (const [index, { name }] of cases(MemoryLockStore.make).entries()) {
    it.effect(
      name,
      () => Effect.flatMap(MemoryLockStore.make, (store) => cases(Effect.sync(() => ({ ...store })))[index]!.run)
    )
  }

  const claim = {
    id: "one",
    key: "k",
    prefix: "",
    permits: 1,
    capacity: 1,
    ttl: Duration.seconds(9),
    guardGap: Duration.seconds(1),
    holder: "me"
  }

  it.effect("has ended what has run out for whoever looks, even where its own timer is late", () =>
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

import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import type { Lease } from "effect-dlock"
import { TestClock } from "effect/testing"
import { fork, setting } from "./support.ts"

describe("an observer of a lease's fiber that throws", () => {
  const observed = (lease: Lease["Service"]) =>
    Effect.sync(() => {
      lease.renewal.addObserver(() => {
        throw new Error("on purpose")
      })
    })

  it.effect("stops neither the loss of its lease nor the deadlines of others", () =>
    Effect.gen(function*() {
      const { faulty, locker } = yield* setting()
      yield* faulty.hang("renew")
      const one = yield* fork(
        Effect.flip(locker.withLock("one", (lease) => Effect.andThen(observed(lease), Effect.never)))
      )
      const two = yield* fork(Effect.flip(locker.withLock("two", Effect.never)))
      yield* TestClock.adjust("9 seconds")
      for (const fiber of [one, two]) assert.strictEqual((yield* Fiber.join(fiber))._tag, "OwnershipLost")
    }))

  it.effect("does not keep the claim from being given back", () =>
    Effect.gen(function*() {
      const { locker, sent } = yield* setting()
      assert.strictEqual(yield* locker.withLock("k", (lease) => Effect.as(observed(lease), 42)), 42)
      assert.strictEqual(sent("withdraw").length, 1)
    }))
})

import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { TestClock } from "effect/testing"
import { fork, setting } from "./support.ts"

describe("a lock whose backend has gone is lost when its ttl has passed on the test clock, and not before", () => {
  const lengths = [
    ...Array.from({ length: 60 }, (_, index) => (index + 1) * 1_000),
    // The same for each run, half of them with a fraction.
    ...Array.from(
      { length: 100 },
      (_, index) => 100 + (index * 7_919) % 59_900 + (index % 2) * ((index * 37) % 1_000) / 1_000
    )
  ]

  for (const silence of ["hang", "fail", "dropReplies"] as const) {
    it.effect(`where renewals ${silence}`, () =>
      Effect.gen(function*() {
        const { faulty, locker } = yield* setting()
        yield* faulty[silence]("renew")
        for (const ttl of lengths) {
          const section = yield* fork(Effect.flip(locker.withLock("k", Effect.never, { ttl })))
          yield* TestClock.adjust(ttl - 1)
          assert.isUndefined(section.pollUnsafe(), `held until ${ttl} ms`)
          yield* TestClock.adjust(1)
          assert.isDefined(section.pollUnsafe(), `lost after ${ttl} ms`)
          assert.strictEqual((yield* Fiber.join(section))._tag, "OwnershipLost")
          // Until it has been paid back.
          yield* TestClock.adjust(ttl)
        }
      }))
  }
})

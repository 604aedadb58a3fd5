import { describe, it } from "@effect/vitest"
import { Clock, Effect, Fiber } from "effect"
import { LockStore, MemoryLockStore } from "effect-dlock"
import { TestClock } from "effect/testing"
import { fork, lockerOver, shiftedClock } from "./support.ts"

describe("leases that are renewed in one call", () => {
  it.effect("are told before those who wait for that call to release another one, and may keep the thread busy", () =>
    Effect.gen(function*() {
      const { clock, shift } = yield* shiftedClock
      const memory = yield* MemoryLockStore.make
      const slow = LockStore.of({ ...memory, renew: (held) => Effect.delay(memory.renew(held), "1 second") })
      const locker = yield* Effect.provideService(lockerOver(slow, { defaultTtl: "9 seconds" }), Clock.Clock, clock)
      const other = yield* fork(
        locker.withLock("other", (lease) => Effect.andThen(Effect.sleep("20 seconds"), lease.ensureHeld))
      )
      const blocking = Effect.sync(() => {
        shift.monotonic += 6_000
      })
      // Released while the renewal of both is under way.
      const first = yield* fork(Effect.andThen(locker.withLock("k", Effect.sleep("3500 millis")), blocking))
      yield* TestClock.adjust("4 seconds")
      yield* Fiber.join(first)
      yield* TestClock.adjust("20 seconds")
      yield* Fiber.join(other)
    }))
})

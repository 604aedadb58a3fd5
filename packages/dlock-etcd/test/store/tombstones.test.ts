import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, FiberSet, Scope } from "effect"
import type { Port } from "../../src/internal/client/port.ts"
import { Tombstones } from "../../src/internal/store/tombstones.ts"

describe("the lease of tombstones", () => {
  it.effect("is waited for by nobody once the store has closed", () =>
    Effect.gen(function*() {
      const store = yield* Scope.make()
      const fork = yield* Scope.provide(FiberSet.makeRuntime<never>(), store)
      const port = { grant: () => Effect.never } as unknown as Port
      const tombstones = new Tombstones(port, () => 0, fork)
      const waiter = yield* Effect.forkDetach(Effect.flip(tombstones.lease), { startImmediately: true })
      yield* Scope.close(store, Exit.void)
      assert.strictEqual((yield* Fiber.join(waiter)).cause.message, "the locker has been closed")
    }))
})

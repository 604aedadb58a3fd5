/** How a lock with a `maxHold` ends between two clients of a server, as effects; for tests only, since it loads the test runner. */
import { assert } from "@effect/vitest"
import { Duration, Effect, Fiber } from "effect"
import { lag } from "./live.ts"

/** `withLock` of a locker, or the same for another kind of lock. */
export type UnderLock = <A>(
  key: string,
  program: (lease: { readonly ttl: Duration.Duration }) => Effect.Effect<A>,
  options?: {
    readonly ttl?: Duration.Input
    readonly guardGap?: Duration.Input
    readonly maxHold?: Duration.Input
  }
) => Effect.Effect<A, unknown>

/** Milliseconds in which a server hands a lock over. */
const handOver = 250

const now = Effect.sync(() => performance.now())

const assertMaxHold = (error: unknown): void => {
  const { _tag, reason } = error as { readonly _tag: string; readonly reason?: string }
  assert.deepStrictEqual([_tag, reason], ["OwnershipLost", "MaxHold"])
}

/** A program that needs longer than a `ttl` to end keeps others out until it has ended, and no longer. */
export const keepsOthersOutWhileItEnds = (one: UnderLock, other: UnderLock): Effect.Effect<void> =>
  Effect.gen(function*() {
    const recorded = yield* lag
    const at = { entered: 0, interrupted: 0, ended: 0 }
    const ending = Effect.gen(function*() {
      at.interrupted = performance.now()
      yield* Effect.sleep("3 seconds")
      at.ended = performance.now()
    })
    const held = yield* Effect.forkChild(Effect.flip(one(
      "k",
      () =>
        Effect.andThen(
          Effect.sync(() => at.entered = performance.now()),
          Effect.onInterrupt(Effect.never, () => ending)
        ),
      { ttl: "2 seconds", guardGap: "5 seconds", maxHold: "1 second" }
    )))
    yield* Effect.sleep("300 millis")
    const granted = yield* other("k", () => now)
    assertMaxHold(yield* Fiber.join(held))
    const cap = at.interrupted - at.entered
    yield* Effect.log(
      `interrupted after ${cap.toFixed(1)} ms; the next is in ${(granted - at.ended).toFixed(1)} ms after the end`
    )
    // It counts from the grant, of which the program learns a little later.
    assert.isAtLeast(cap, 1_000 - 20 - recorded.max())
    assert.isAtMost(cap, 1_050 + recorded.max())
    assert.isAtLeast(at.ended - at.interrupted, 2_999)
    assert.isAtLeast(granted, at.ended)
    assert.isAtMost(granted - at.ended, handOver + recorded.max())
  }).pipe(Effect.scoped, Effect.orDie)

/** A program that never ends keeps others out for `maxHold + guardGap + ttl + guardGap` at most. */
export const keepsOthersOutUpToItsBound = (one: UnderLock, other: UnderLock): Effect.Effect<void> =>
  Effect.gen(function*() {
    const recorded = yield* lag
    const at = { entered: 0, ttl: 0 }
    let isOver = false
    const held = yield* Effect.forkChild(Effect.flip(one(
      "k",
      ({ ttl }) =>
        Effect.gen(function*() {
          at.entered = performance.now()
          at.ttl = Duration.toMillis(ttl)
          yield* Effect.uninterruptible(Effect.sleep("12 seconds"))
          isOver = true
        }),
      { ttl: "2 seconds", guardGap: "500 millis", maxHold: "1 second" }
    )))
    yield* Effect.sleep("300 millis")
    const granted = yield* other("k", () => now)
    const waited = granted - at.entered
    const bound = 1_000 + 500 + at.ttl + 500
    yield* Effect.log(`the next is in ${waited.toFixed(0)} ms after the grant; the bound is ${bound} ms`)
    assert.isFalse(isOver)
    assert.isAtLeast(waited, 1_500)
    assert.isAtMost(waited, bound + handOver + recorded.max())
    assertMaxHold(yield* Fiber.join(held))
  }).pipe(Effect.scoped, Effect.orDie)

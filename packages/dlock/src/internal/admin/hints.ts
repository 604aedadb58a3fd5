import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Time } from "../scheduling/time.ts"

/** Hints that a lock may have changed. Any number of them between two waits are one. */
export interface Hints {
  /** Whether hints come. Without them only asking tells of a change. */
  readonly areThere: () => boolean
  /** Waits for a hint since the last wait, at most `millis`. */
  readonly wait: (millis: number) => Effect.Effect<void>
}

/** Collects hints until the scope closes. */
export const collect = (
  changes: Stream.Stream<void> | undefined,
  time: Time
): Effect.Effect<Hints, never, Scope.Scope> =>
  Effect.gen(function*() {
    const latch = Latch.makeUnsafe()
    let areThere = changes !== undefined
    if (changes !== undefined) {
      yield* Stream.runForEach(changes, () => Effect.sync(() => latch.openUnsafe())).pipe(
        // A store whose hints end or break is asked more often instead.
        Effect.ignoreCause,
        Effect.andThen(Effect.sync(() => {
          areThere = false
          latch.openUnsafe()
        })),
        Effect.forkScoped({ startImmediately: true })
      )
    }
    return {
      areThere: () => areThere,
      wait: (millis) =>
        Effect.andThen(Effect.raceFirst(latch.await, time.sleep(millis)), Effect.sync(() => latch.closeUnsafe()))
    }
  })

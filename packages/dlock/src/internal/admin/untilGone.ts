import * as Effect from "effect/Effect"
import type { LockState } from "../../LockAdmin.ts"
import type { LockBackendError } from "../../LockError.ts"
import * as Hints from "./hints.ts"
import type { Watched } from "./watched.ts"

interface Asking {
  /** Whether the hold is there, which is asked if it is not among the holders that are told. */
  readonly isStillHeld: Effect.Effect<boolean, LockBackendError>
  /** The same, and asks its holder again to leave in what is left of its time: the backend has lost what it was told. */
  readonly isAskedAnew: Effect.Effect<boolean, LockBackendError>
  /** Milliseconds. */
  readonly patience: number
}

/**
 * Waits until no claim with this token is held any more, at most `patience` milliseconds. An answer that does not come is
 * no answer, so the hold counts as running then.
 */
export const untilGone = (
  { changes, inspect, time }: Watched,
  token: bigint,
  asking: Asking
): Effect.Effect<"released" | "running", LockBackendError> =>
  Effect.scoped(Effect.gen(function*() {
    const until = time.now() + asking.patience
    const hints = yield* Hints.collect(changes, time)
    const isGone = Effect.suspend(() =>
      Effect.flatMap(inspect, (state) => isHeldIn(state, token, asking)).pipe(
        Effect.catch((error) => error.retryable ? Effect.succeed(true) : Effect.fail(error)),
        Effect.map((isHeld) => !isHeld),
        Effect.raceFirst(Effect.as(time.sleep(Math.max(until - time.now(), lastAnswerWithin)), false))
      )
    )
    // The first hint is answered at once: nearly always the hold has ended. Of a busy lock there is no end of hints.
    let earliest = 0
    for (let pause = shortest; true; pause = Math.min(pause * 2, longest)) {
      const askedAt = time.now()
      if (yield* isGone) return "released"
      const left = until - time.now()
      if (left <= 0) return "running"
      yield* hints.wait(Math.min(pause, left))
      yield* time.sleep(Math.max(0, Math.min(earliest, until) - time.now()))
      earliest = askedAt + shortest
    }
  }))

const isHeldIn = (
  { holderCount, holders }: LockState,
  token: bigint,
  { isAskedAnew, isStillHeld }: Asking
): Effect.Effect<boolean, LockBackendError> => {
  const found = holders.find((holder) => holder.token === token)
  if (found !== undefined) return found.isRevoked || found.isForeign ? Effect.succeed(true) : isAskedAnew
  // Of very many holders only some are told.
  return holderCount > holders.length ? isStillHeld : Effect.succeed(false)
}

/** Milliseconds between two questions, if no hint comes. */
const shortest = 50
const longest = 1_000
/** How many milliseconds the last answer may take: that of a backend that is silent is not awaited. */
const lastAnswerWithin = 1_000

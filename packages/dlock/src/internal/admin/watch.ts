import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import type { LockState } from "../../LockAdmin.ts"
import type { LockBackendError } from "../../LockError.ts"
import * as Hints from "./hints.ts"
import type { Watched } from "./watched.ts"

/** Whether a state that was seen at `now` is news. It remembers what it was asked about. */
export type IsNews = (state: LockState, now: number) => boolean

/**
 * Emits the state of a lock, and again each time that it is news. It asks at each hint, when the first holder may have
 * expired, which nobody hints at, and every few seconds besides, since a hint may be lost.
 *
 * It asks on while its consumer is busy, so that a short time in which nobody holds the lock is told too, and waits for a
 * consumer that is far behind.
 */
export const watch = (
  { changes, inspect, time }: Watched,
  newsOf: () => IsNews = differences
): Stream.Stream<LockState, LockBackendError> =>
  Stream.callback<LockState, LockBackendError>((queue) =>
    Effect.gen(function*() {
      const hints = yield* Hints.collect(changes, time)
      const isNews = newsOf()
      let failures = 0
      while (true) {
        const askedAt = time.now()
        const answer = yield* Effect.result(inspect)
        if (answer._tag === "Failure") {
          if (!answer.failure.retryable) return yield* Effect.fail(answer.failure)
          yield* time.sleep(firstRetryAfter)
          // The first hint after an outage says as well that the backend is back.
          yield* hints.wait(Math.min(firstRetryAfter * 2 ** failures++, longestPause) - firstRetryAfter)
          continue
        }
        failures = 0
        if (isNews(answer.success, time.now())) yield* Queue.offer(queue, answer.success)
        // Hints that come together are one question.
        yield* time.sleep(Math.max(0, askedAt + shortestPause - time.now()))
        yield* hints.wait(pauseAfter(answer.success, hints.areThere()))
      }
    }), { bufferSize: mostUnread })

/** Everything that changes is news, and so is a renewal. */
const differences = (): IsNews => {
  let told: Seen | undefined
  return (state, now) => {
    const seen = seenAt(state, now)
    if (told !== undefined && !differs(told, seen)) return false
    told = seen
    return true
  }
}

/** A state that was seen, as far as it is compared with others. */
interface Seen {
  readonly composition: string
  /** When each of the holders expires, by its token. */
  readonly expiries: ReadonlyMap<bigint, number>
}

const seenAt = ({ holderCount, holders, permitsHeld, queueLength, waiting }: LockState, now: number): Seen => ({
  composition: JSON.stringify([
    holders.map(({ isRevoked, permits, token }) => [String(token), permits, isRevoked]),
    holderCount,
    permitsHeld,
    waiting.map(({ holder, permits }) => [holder, permits]),
    queueLength
  ]),
  expiries: new Map(
    holders.flatMap(({ expiresIn, token }) => expiresIn === undefined ? [] : [[token, now + expiresIn]])
  )
})

const differs = (told: Seen, seen: Seen): boolean => {
  if (told.composition !== seen.composition) return true
  for (const [token, expiry] of seen.expiries) {
    if (expiry > (told.expiries.get(token) ?? Infinity) + renewedBy) return true
  }
  return false
}

const pauseAfter = ({ holders }: LockState, areHintsThere: boolean): number => {
  const longest = areHintsThere ? longestPause : pauseWithoutHints
  const soonest = Math.min(...holders.map(({ expiresIn }) => expiresIn ?? Infinity))
  return Math.min(longest, Math.max(0, soonest))
}

// Milliseconds.

const shortestPause = 50
const longestPause = 5_000
/** Short enough to see that nobody holds a lock for a second. */
const pauseWithoutHints = 500
const firstRetryAfter = 100
/** An expiry that is this much later than the one told shows a renewal, and no trip that took longer. */
const renewedBy = 20

/** How many states wait for the consumer. */
const mostUnread = 16

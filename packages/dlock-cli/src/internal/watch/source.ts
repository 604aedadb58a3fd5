/** What is seen of the locks, again and again. */
import { Locker } from "effect-dlock/Locker"
import type { InvalidLockRequest, LockBackendError } from "effect-dlock/LockError"
import type { LockInfo } from "effect-dlock/LockInfo"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"

export type Sight =
  | { readonly _tag: "Seen"; readonly info: LockInfo }
  /** All locks have been seen that there are. Those that were not are gone. */
  | { readonly _tag: "Complete" }
  /** The server did not answer. The next pass begins by itself. */
  | { readonly _tag: "Failed"; readonly error: LockBackendError }

/**
 * Reads all locks whose keys begin so, in passes. A pass is one `Locker.list`: bounded reads, one after the other. The pause
 * until the next is at least `every`, and four times as long as the pass took, so that a server with very many locks is asked
 * for a fifth of the time at most.
 */
export const inPasses = (
  keys: string,
  every: number
): Stream.Stream<Sight, LockBackendError | InvalidLockRequest, Locker> => {
  const pass = Stream.unwrap(Effect.map(Clock.currentTimeMillis, (startedAt) => {
    let pause = every
    const complete = Effect.map(Clock.currentTimeMillis, (now): Sight => {
      pause = Math.max(every, 4 * (now - startedAt))
      return { _tag: "Complete" }
    })
    return Stream.map(Locker.list(keys), (info): Sight => ({ _tag: "Seen", info })).pipe(
      Stream.concat(Stream.fromEffect(complete)),
      Stream.catch(retry),
      Stream.concat(Stream.fromEffectDrain(Effect.suspend(() => Effect.sleep(pause))))
    )
  }))
  return Stream.forever(pass)
}

/** Watches one lock. Each change that lasts a twentieth of a second is seen. */
export const ofKey = (key: string): Stream.Stream<Sight, LockBackendError | InvalidLockRequest, Locker> =>
  Stream.flatMap(
    Locker.watchKey(key),
    (info) => Stream.make<[Sight, Sight]>({ _tag: "Seen", info }, { _tag: "Complete" })
  )

const retry = (
  error: LockBackendError | InvalidLockRequest
): Stream.Stream<Sight, LockBackendError | InvalidLockRequest> =>
  error._tag === "LockBackendError" && error.retryable
    ? Stream.succeed<Sight>({ _tag: "Failed", error })
    : Stream.fail(error)

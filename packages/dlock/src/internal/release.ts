import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import { LockBackendError } from "../LockError.ts"
import type { Claim, LockStore } from "../LockStore.ts"
import type { Holding } from "./holding.ts"
import type { Limits } from "./limits.ts"
import { logged } from "./log.ts"
import type { Time } from "./time.ts"

/**
 * Gives a held lease back. The belief ends first, then the renewal, then the claim: a renewal that is under way is
 * waited for, so that none is ever answered after the release was sent. A lease that was lost is not released again.
 */
export const giveBack = (withdraw: Withdraw, holding: Holding): Effect.Effect<void> => {
  if (!holding.letGo(holding.keeper.time.now())) return holding.stopRenewal
  const withdrawn = withdraw(holding.key, holding.claim)
  if (holding.underWay === undefined) return Effect.andThen(holding.stopRenewal, withdrawn)
  const answered = Effect.timeoutOption(holding.underWay.await, Math.min(holding.callLimit, patience))
  return Effect.andThen(Effect.andThen(answered, holding.stopRenewal), withdrawn)
}

/** Ends a claim, whatever became of it, and never fails. */
export type Withdraw = (key: string, claim: Claim) => Effect.Effect<void>

/**
 * A withdrawal is waited for within a limit. Where the backend does not answer in that time it goes on behind the
 * caller's back: an outage is over long before a long time to live would end the claim.
 */
export const withdrawals = (
  store: LockStore["Service"],
  time: Time,
  limits: Limits,
  fork: (effect: Effect.Effect<void>) => void
): Withdraw =>
(key, claim) => {
  const ttl = Duration.toMillis(claim.ttl)
  const limit = Math.min(ttl / 3, patience)
  const within = (left: number) => limits.within(store.withdraw(claim), left, Effect.fail(silent))

  const again = Effect.fnUntraced(function*(failed: Cause.Cause<LockBackendError>, until: number) {
    let cause = failed
    while (true) {
      const error = Option.getOrUndefined(Cause.findErrorOption(cause))
      const pause = error === silent ? 0 : limit / 20
      if (error?.retryable !== true || time.now() + pause >= until) break
      yield* time.sleep(pause)
      const withdrawn = yield* Effect.exit(within(until - time.now()))
      if (Exit.isSuccess(withdrawn)) return
      cause = withdrawn.cause
    }
    yield* givenUp(cause)
  })

  const givenUp = (cause: Cause.Cause<LockBackendError>): Effect.Effect<void> => {
    const error = Option.getOrUndefined(Cause.findErrorOption(cause))
    const why = error === silent ? "the backend did not answer in time" : cause
    if (error?.retryable !== true) {
      return logged(Effect.logWarning("A release failed; the time to live will end the claim", why), key)
    }
    fork(
      Effect.retry(within(limit), {
        while: (error) => error.retryable,
        schedule: Schedule.spaced(Math.min(ttl / 10, 500))
      }).pipe(
        Effect.timeoutOption(ttl + Duration.toMillis(claim.guardGap)),
        Effect.ignoreCause
      )
    )
    return logged(
      Effect.logWarning("A release failed; it is tried again until the time to live ends the claim", why),
      key
    )
  }

  return Effect.suspend(() => {
    const until = time.now() + limit
    return Effect.matchCauseEffect(within(limit), {
      onSuccess: () => Effect.void,
      onFailure: (cause) => again(cause, until)
    })
  })
}

const silent = new LockBackendError({
  operation: "release",
  retryable: true,
  cause: new Error("no answer in time")
})

/** For how long a scope's end is held up by a backend that does not answer, where the time to live is long. */
const patience = 2_000

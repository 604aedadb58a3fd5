import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import { LockBackendError } from "../LockError.ts"
import type { Claim, LockStore } from "../LockStore.ts"
import type { Holding } from "./holding.ts"
import { logged } from "./log.ts"

/**
 * Gives a held lease back. The belief ends first, then the renewal, then the claim: a renewal that is under way is
 * waited for, so that none is ever answered after the release was sent. A lease that was lost is not released again.
 */
export const giveBack = (withdraw: Withdraw, holding: Holding, stopRenewal: Effect.Effect<void>) =>
  Effect.suspend(() => {
    if (!holding.letGo(holding.keeper.time.now())) return stopRenewal
    const withdrawn = Effect.andThen(stopRenewal, withdraw(holding.key, holding.claim))
    return holding.underWay === undefined
      ? withdrawn
      : Effect.andThen(Effect.timeoutOption(holding.underWay.await, Math.min(holding.callLimit, patience)), withdrawn)
  })

/** Ends a claim, whatever became of it, and never fails. */
export type Withdraw = (key: string, claim: Claim) => Effect.Effect<void>

/**
 * A withdrawal is waited for within a limit. Where the backend does not answer in that time it goes on behind the
 * caller's back: an outage is over long before a long time to live would end the claim.
 */
export const withdrawals = (
  store: LockStore["Service"],
  fork: (effect: Effect.Effect<void>) => void
): Withdraw =>
(key, claim) => {
  const ttl = Duration.toMillis(claim.ttl)
  const limit = Math.min(ttl / 3, patience)
  const within = <A>(effect: Effect.Effect<A, LockBackendError>) =>
    Effect.timeoutOrElse(effect, { duration: limit, orElse: () => Effect.fail(silent) })
  const untilAnswered = <A>(effect: Effect.Effect<A, LockBackendError>, pause: number) =>
    Effect.retry(effect, { while: (error) => error.retryable, schedule: Schedule.spaced(pause) })

  return within(untilAnswered(store.withdraw(claim), limit / 20)).pipe(
    Effect.asVoid,
    Effect.catchCause((cause) => {
      const error = Option.getOrUndefined(Cause.findErrorOption(cause))
      const why = error === silent ? "the backend did not answer in time" : cause
      if (error?.retryable !== true) {
        return logged(Effect.logWarning("A release failed; the time to live will end the claim", why), key)
      }
      fork(
        untilAnswered(within(store.withdraw(claim)), Math.min(ttl / 10, 500)).pipe(
          Effect.timeoutOption(ttl + Duration.toMillis(claim.guardGap)),
          Effect.ignoreCause
        )
      )
      return logged(
        Effect.logWarning("A release failed; it is tried again until the time to live ends the claim", why),
        key
      )
    })
  )
}

const silent = new LockBackendError({
  operation: "release",
  retryable: true,
  cause: new Error("no answer in time")
})

/** For how long a scope's end is held up by a backend that does not answer, where the time to live is long. */
const patience = 2_000

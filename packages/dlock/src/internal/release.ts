import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import { LockBackendError } from "../LockError.ts"
import { callLimit, type Claim, type LockStore, type Withdrawn } from "../LockStore.ts"
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
  const { stopRenewal, underWay } = holding
  const stopped = underWay === undefined
    ? stopRenewal
    : Effect.andThen(Effect.timeoutOption(underWay.await, Math.min(holding.callLimit, patience)), stopRenewal)
  return Effect.flatMap(stopped, () => withdraw(holding.key, holding.claim))
}

/** Ends a claim, whatever became of it, and never fails. */
export type Withdraw = (key: string, claim: Claim) => Effect.Effect<void>

/** What a release works with, the same for all of them. */
interface Means {
  readonly store: LockStore["Service"]
  readonly time: Time
  readonly limits: Limits
  readonly fork: (effect: Effect.Effect<void>) => void
}

/**
 * A withdrawal is waited for within a limit. Where the backend does not answer in that time it goes on behind the
 * caller's back: an outage is over long before a long time to live would end the claim.
 */
export const withdrawals = (means: Means): Withdraw => (key, claim) => {
  const limit = limitOf(claim)
  const until = means.time.now() + limit
  return Effect.matchCauseEffect(means.limits.net(means.store.withdraw(claim), limit, Effect.fail(silent)), {
    onSuccess: () => Effect.void,
    onFailure: (cause) => again(means, key, claim, cause, until)
  })
}

/** For how long a scope's end is held up by a backend that does not answer: less where the time to live is short. */
const limitOf = (claim: Claim): number => Math.min(callLimit(claim), patience)

const within = ({ limits, store }: Means, claim: Claim, limit: number): Effect.Effect<Withdrawn, LockBackendError> =>
  limits.within(store.withdraw(claim), limit, Effect.fail(silent))

const again = Effect.fnUntraced(function*(
  means: Means,
  key: string,
  claim: Claim,
  failed: Cause.Cause<LockBackendError>,
  until: number
) {
  let cause = failed
  while (true) {
    const error = Option.getOrUndefined(Cause.findErrorOption(cause))
    const pause = limitOf(claim) / 20
    if (error?.retryable !== true || means.time.now() + pause >= until) {
      return yield* givenUp(means, key, claim, cause, error)
    }
    yield* means.time.sleep(pause)
    const withdrawn = yield* Effect.exit(within(means, claim, until - means.time.now()))
    if (Exit.isSuccess(withdrawn)) return
    cause = withdrawn.cause
  }
})

const givenUp = (
  means: Means,
  key: string,
  claim: Claim,
  cause: Cause.Cause<LockBackendError>,
  error: LockBackendError | undefined
): Effect.Effect<void> => {
  const why = error === silent ? "the backend did not answer in time" : cause
  if (error?.retryable !== true) {
    return logged(Effect.logWarning("A release failed; the time to live will end the claim", why), key)
  }
  const ttl = Duration.toMillis(claim.ttl)
  means.fork(
    Effect.retry(within(means, claim, limitOf(claim)), {
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

const silent = new LockBackendError({
  operation: "release",
  retryable: true,
  cause: new Error("no answer in time")
})

/** The longest that a backend which does not answer holds anything up at the end. */
const patience = 2_000

import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type { LockBackendError } from "../LockError.ts"
import type { Claim, LockStore } from "../LockStore.ts"
import type { Holding } from "./holding.ts"
import { logged } from "./log.ts"

/**
 * Gives a held lease back. The belief ends first, then the renewal, then the claim: a renewal that is under way is
 * waited for, so that none is ever answered after the release was sent. A lease that was lost is not released again.
 */
export const giveBack = (store: LockStore["Service"], holding: Holding, stopRenewal: Effect.Effect<void>) =>
  Effect.suspend(() => {
    if (!holding.letGo(holding.keeper.time.now())) return stopRenewal
    const withdrawn = Effect.andThen(stopRenewal, withdraw(store, holding.key, holding.claim))
    return holding.underWay === undefined
      ? withdrawn
      : Effect.andThen(Effect.timeoutOption(holding.underWay.await, Math.min(holding.callLimit, patience)), withdrawn)
  })

/**
 * Ends a claim within a limit, whatever became of it, and never fails: when the backend does not answer, the claim's
 * time to live does the rest.
 */
export const withdraw = (store: LockStore["Service"], key: string, claim: Claim): Effect.Effect<void> => {
  const limit = Math.min(Duration.toMillis(claim.ttl) / 3, patience)
  return store.withdraw(claim).pipe(
    Effect.retry({ while: (error: LockBackendError) => error.retryable, schedule: Schedule.spaced(limit / 20) }),
    Effect.timeoutOption(limit),
    Effect.flatMap((answer) =>
      answer._tag === "Some" ? Effect.void : Effect.fail("the backend did not answer in time")
    ),
    Effect.catchCause((cause) =>
      logged(Effect.logWarning("A release failed; the time to live will end the claim", cause), key)
    )
  )
}

/** For how long a scope's end is held up by a backend that does not answer, where the time to live is long. */
const patience = 2_000

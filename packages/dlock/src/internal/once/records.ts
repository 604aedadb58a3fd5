import * as Effect from "effect/Effect"
import { LockBackendError } from "../../LockError.ts"
import { callLimit, type Claim, type Period, type RunOutcome, type RunState, type RunStore } from "../../LockStore.ts"
import type { HeldLease } from "../lease/heldLease.ts"
import { about } from "../options/request.ts"
import type { CallTimeouts } from "../scheduling/callTimeouts.ts"
import type { Time } from "../scheduling/time.ts"

/** From when a run counts: also one that fails or dies, or only one that succeeds. */
export type Counts = "start" | "success"

/** The records of the runs of one key. Its calls fail with the caller's key, and end in time whatever the store does. */
export class RunRecords {
  readonly time: Time
  private readonly key: string
  private readonly claim: Claim
  private readonly store: RunStore
  private readonly timeouts: CallTimeouts

  /** `claim` names the key for a store. It is never requested. */
  constructor(key: string, claim: Claim, store: RunStore, timeouts: CallTimeouts, time: Time) {
    this.key = key
    this.claim = claim
    this.store = store
    this.timeouts = timeouts
    this.time = time
  }

  find(period: Period | undefined): Effect.Effect<RunState, LockBackendError> {
    return this.limited(Effect.suspend(() => this.store.find(this.claim, period)))
  }

  begin(lease: HeldLease, period: Period, counts: Counts): Effect.Effect<"due" | "done" | "notHeld", LockBackendError> {
    return this.limited(Effect.suspend(() => this.store.begin(lease, period, counts)))
  }

  end(
    lease: HeldLease,
    period: Period,
    counts: Counts,
    outcome: RunOutcome,
    startedAt: number
  ): Effect.Effect<"recorded" | "notHeld", LockBackendError> {
    return this.limited(Effect.suspend(() => {
      const elapsed = Math.max(0, this.time.now() - startedAt)
      return this.store.end(lease, period, { counts, outcome, elapsed })
    }))
  }

  private limited<A>(call: Effect.Effect<A, LockBackendError>): Effect.Effect<A, LockBackendError> {
    const ended = this.timeouts.limitUnlessBounded(call, callLimit(this.claim), Effect.fail(silent))
    return Effect.mapError(ended, about(this.key))
  }
}

const silent = new LockBackendError({
  operation: "acquire",
  retryable: true,
  cause: new Error("the backend did not answer in time")
})

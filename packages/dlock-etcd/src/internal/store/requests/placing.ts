/** What the requests for places of mutexes and of shared claims have in common. */

import type { Answer } from "effect-dlock/LockStore"
import type * as Effect from "effect/Effect"
import type { ITxnResponse } from "etcd3"
import type { CallFailure } from "../../client/failure.ts"
import type { Operation } from "../../protocol/operation.ts"
import type * as Snapshot from "../../protocol/snapshot.ts"
import type * as Transactions from "../../protocol/transactions.ts"
import type { Lease } from "../leases/leases.ts"
import type { Place, TrackedClaim } from "../trackedClaim.ts"

/** A request for a place. */
export interface Putting<Seen> {
  readonly mode: "queue" | "try"
  readonly operation: (epoch: Transactions.Epoch) => Operation
  readonly read: (value: ITxnResponse, base: bigint) => Seen
  readonly take: (seen: Seen) => Effect.Effect<Answer, CallFailure>
}

export type Put = <Seen extends Pick<Snapshot.QueueSnapshot, "own" | "base">>(
  tracked: TrackedClaim,
  lease: Lease<Place>,
  putting: Putting<Seen>
) => Effect.Effect<Answer, CallFailure>

/** What the requests for places have in common. */
export interface Placing {
  readonly put: Put
  /** Ends a claim that has no place. */
  readonly forget: (tracked: TrackedClaim, isLeft: boolean) => void
  /** Withdraws a claim that got a place which it may not have, and then answers. */
  readonly giveUp: (
    tracked: TrackedClaim,
    answer: Effect.Effect<Answer, CallFailure>
  ) => Effect.Effect<Answer, CallFailure>
  readonly refuse: (foreign: Snapshot.Foreign) => Effect.Effect<Answer, CallFailure>
  readonly answerOf: (tracked: TrackedClaim) => Effect.Effect<Answer>
}

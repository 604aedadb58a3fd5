/** Claims that give back permits, and claims that are found to be gone. */

import { type Claim, type Held, isExclusive, type Renewal } from "effect-dlock/LockStore"
import * as Effect from "effect/Effect"
import { backendError } from "../../client/failure.ts"
import { claimKeys, lockKeys } from "../../protocol/keys.ts"
import * as Shared from "../../protocol/sharedSnapshot.ts"
import * as SharedTransactions from "../../protocol/sharedTransactions.ts"
import type { PlaceInQueue } from "../../protocol/transactions.ts"
import type { StoreParts } from "../parts.ts"

type Parts = Pick<StoreParts, "batcher" | "leases" | "registry">

/** Finds out why a claim is no longer held: another claim has the lock, or the claim is gone. */
export const whyNotHeld = ({ batcher }: Pick<Parts, "batcher">, claim: Claim): Effect.Effect<Renewal> =>
  Effect.match(batcher.run(SharedTransactions.findHead(unplaced(claim))), {
    onFailure: (failure): Renewal => ({ _tag: "Unknown", error: backendError("renew")(failure) }),
    onSuccess: ({ value }): Renewal => {
      const head = Shared.readHead(value)
      const isReplaced = head !== undefined && head.value.id !== claim.id &&
        (isExclusive(claim) || isExclusive(head.value))
      return { _tag: isReplaced ? "Replaced" : "Gone" }
    }
  })

/** The place that a claim without a place would have. */
const unplaced = (claim: Claim): PlaceInQueue => {
  const keys = lockKeys(claim.key, claim.prefix)
  return { claim, keys, ...claimKeys(keys, claim, claim.id) }
}

/** Makes the store's `shrink`. `renewOne` confirms a claim. */
export const make = (parts: Parts, renewOne: (held: Held) => Effect.Effect<Renewal>) => {
  const { batcher, leases, registry } = parts

  return (held: Held, permits: number): Effect.Effect<Renewal> =>
    Effect.suspend(() => {
      const tracked = registry.find(held.claim.id)
      const lease = tracked?.place.lease
      if (tracked === undefined || tracked.state !== "held" || lease === undefined) return whyNotHeld(parts, held.claim)
      if (permits >= tracked.permits) return renewOne(held)
      const { place } = tracked
      const isWriter = place.exclusiveKey !== undefined
      // Before the request: the watch may report what it does before the answer comes.
      const { hasShrunk } = place
      place.hasShrunk = isWriter
      return Effect.matchEffect(
        batcher.run(SharedTransactions.shrink(place, place.created!, permits, lease, place.base)),
        {
          onFailure: (failure): Effect.Effect<Renewal> => {
            if (failure.notDone) place.hasShrunk = hasShrunk
            if (!failure.leaseGone) return Effect.succeed({ _tag: "Unknown", error: backendError("renew")(failure) })
            leases.markGone(lease)
            return whyNotHeld(parts, held.claim)
          },
          onSuccess: ({ value: { succeeded } }) => {
            if (!succeeded) {
              registry.markGone(tracked)
              return whyNotHeld(parts, held.claim)
            }
            tracked.permits = permits
            if (isWriter) leases.remove(lease, place.queueKey)
            return renewOne(held)
          }
        }
      )
    })
}

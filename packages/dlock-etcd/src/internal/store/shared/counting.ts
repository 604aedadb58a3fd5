/** Counts the permits that are held on a key. */

import type { Claim } from "effect-dlock/LockStore"
import * as Effect from "effect/Effect"
import type { CallFailure } from "../../client/failure.ts"
import type { RequestBatcher } from "../../client/requestBatcher.ts"
import { claimKeys, lockKeys } from "../../protocol/keys.ts"
import * as Shared from "../../protocol/sharedSnapshot.ts"
import * as SharedTransactions from "../../protocol/sharedTransactions.ts"
import { RoomView } from "../queue/roomView.ts"

/** How many permits are held on the key of a claim. */
export const countHeld = (batcher: RequestBatcher, claim: Claim): Effect.Effect<number, CallFailure> =>
  Effect.map(readQueue(batcher, claim), (view) => {
    let permits = 0
    for (const claim of view.inside()) permits += claim.permits
    return permits
  })

/** Reads the names of all claims on the key of a claim, and the values of those that shrank. */
export const readQueue = (batcher: RequestBatcher, claim: Claim): Effect.Effect<RoomView, CallFailure> => {
  const keys = lockKeys(claim.key, claim.prefix)
  const at = { claim, keys, ...claimKeys(keys, claim, claim.id) }
  const view = new RoomView()
  const readStale: Effect.Effect<void, CallFailure> = Effect.suspend(() => {
    const stale = view.stale()
    if (stale.length === 0) return Effect.void
    return Effect.flatMap(batcher.run(SharedTransactions.readValues(at, stale)), ({ value }) => {
      view.takePermits(stale, Shared.readPermits(value))
      return readStale
    })
  })
  return Effect.flatMap(batcher.run(SharedTransactions.listAll(at)), ({ value }) => {
    view.take(Shared.readAll(value))
    return Effect.as(readStale, view)
  })
}

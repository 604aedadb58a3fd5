/** Requests claims on semaphores and read-write locks. */

import type { Answer } from "effect-dlock/LockStore"
import * as Effect from "effect/Effect"
import type { CallFailure } from "../../client/failure.ts"
import * as Shared from "../../protocol/sharedSnapshot.ts"
import * as SharedTransactions from "../../protocol/sharedTransactions.ts"
import type { Epoch } from "../../protocol/transactions.ts"
import type { Lease } from "../leases/leases.ts"
import type { StoreParts } from "../parts.ts"
import type { Asked } from "../queue/answers.ts"
import type { Room } from "../queue/room.ts"
import type { Placing } from "../requests/placing.ts"
import type { Place, TrackedClaim } from "../trackedClaim.ts"
import type { Waiters } from "../waiters.ts"

export const make = (
  { batcher, registry }: Pick<StoreParts, "batcher" | "registry">,
  waiters: Waiters,
  { answerOf, forget, giveUp, put, refuse }: Placing
) => {
  type Answering = Effect.Effect<Answer, CallFailure>

  /** Puts the claim in its queue, or, for a try, only if it has its permits there. */
  const enter = (tracked: TrackedClaim, lease: Lease<Place>, mode: "queue" | "try"): Answering => {
    const { claim, place } = tracked
    const room = waiters.roomOf(place)
    const asked = room.noteAsked()
    // Where capacities must agree, the claims that are there now have to be known.
    const isStrict = claim.onCapacityChange === "fail"
    const entered = mode === "queue"
      ? enterToWait(tracked, lease, room, asked, isStrict)
      : enterIfInside(tracked, lease, room, asked, isStrict ? undefined : room.knowledge.roomFor(claim))
    return Effect.ensuring(entered, Effect.sync(() => room.noteAnswered(asked)))
  }

  const enterToWait = (
    tracked: TrackedClaim,
    lease: Lease<Place>,
    room: Room,
    asked: Asked,
    isStrict: boolean
  ): Answering => {
    const { place } = tracked
    const last = isStrict ? undefined : room.lastOfMany()
    const known = isStrict ? undefined : room.knowledge.known
    const operation = (epoch: Epoch) => {
      if (last !== undefined) return SharedTransactions.enterBehind(place, lease, epoch, last, last.created!)
      return known === undefined
        ? SharedTransactions.enter(place, lease, epoch)
        : SharedTransactions.enterKnowing(place, lease, epoch, known)
    }
    const from = last === undefined && known !== undefined ? known.upTo + 1n : 0n
    const question = { from, clearFrom: 0n, limit: SharedTransactions.mostListed }
    return put(tracked, lease, {
      mode: "queue",
      operation,
      read: (value, base) => Shared.readEntry(value, place.claim, base, question),
      take: (entry) => take(tracked, lease, room, asked, entry)
    })
  }

  /** Takes the answer to a request that put the claim or found it there. */
  const take = (
    tracked: TrackedClaim,
    lease: Lease<Place>,
    room: Room,
    asked: Asked,
    entry: Shared.Entry,
    isTry = false
  ): Answering => {
    const { claim, place } = tracked
    const { own } = entry
    if (own === undefined) {
      forget(tracked, true)
      return Effect.succeed({ _tag: "Gone" })
    }
    // The held claim was deleted, and this request put a new one in its place. The grant does not hold for the new one.
    const isDisplaced = tracked.state === "held" && place.created !== own
    if (place.created !== own) room.leave(place)
    place.noteCreated(entry)
    if (place.isDeleted) {
      room.takeIn(entry, asked)
      registry.markGone(tracked)
      return Effect.succeed({ _tag: "Gone" })
    }
    room.takeIn(entry, asked, place)
    if (isDisplaced) return giveUp(tracked, Effect.succeed({ _tag: "Gone" }))
    const foreign = Shared.foreignIn(entry, claim) ?? room.knowledge.mismatch(place)
    if (foreign !== undefined) return giveUp(tracked, refuse(foreign))
    if (tracked.state === "held") return Effect.succeed(waiters.grant(tracked, lease))
    tracked.isRepeated = false
    // An earlier request, whose grant was too late for its caller, may have put the claim.
    const isWaiting = room.isWaiting(place)
    if (!isWaiting && (entry.isClear || room.knowledge.isInside(place))) {
      tracked.capacityInUse = room.knowledge.capacityBefore(place)
      return Effect.map(waiters.grantOnFresh(tracked), (grant): Answer => grant ?? { _tag: "Gone" })
    }
    if (isTry) return giveUp(tracked, Effect.succeed({ _tag: "Busy" }))
    if (!isWaiting) {
      tracked.state = "queued"
      room.wait(place)
    }
    return Effect.map(answerOf(tracked), (answer): Answer => {
      if (answer._tag !== "Queued") return answer
      const ahead = () => waiters.aheadOf(tracked)
      const capacityInUse = room.knowledge.capacityBefore(place)
      return { ...answer, place: ahead().place, ahead, ...(capacityInUse !== undefined && { capacityInUse }) }
    })
  }

  /**
   * Tries for permits: puts the claim only if the known claims leave enough, and nobody else came. Otherwise the answer lists all
   * claims, and the try is repeated if they leave enough.
   */
  const enterIfInside = (
    tracked: TrackedClaim,
    lease: Lease<Place>,
    room: Room,
    asked: Asked,
    known: SharedTransactions.Known | undefined
  ): Answering => {
    const { claim, place } = tracked
    const question = { from: 0n, clearFrom: known === undefined ? 0n : known.upTo + 1n, limit: 0 }
    return put(tracked, lease, {
      mode: "try",
      operation: (epoch) => SharedTransactions.enterIfInside(place, lease, epoch, known),
      read: (value, base) => Shared.readEntry(value, place.claim, base, question),
      take: (entry) => {
        if (entry.own !== undefined) {
          const isFound = claim.kind === "readWrite" && !entry.isClear && tracked.state === "asking"
          return isFound ? takeFound(tracked, entry) : take(tracked, lease, room, asked, entry, true)
        }
        // The claim was cancelled before.
        if (entry.head === undefined && entry.listing === undefined) return take(tracked, lease, room, asked, entry)
        room.takeIn(entry, asked)
        const foreign = Shared.foreignIn(entry, claim) ?? room.knowledge.mismatch(place)
        if (foreign !== undefined) return end(tracked, refuse(foreign))
        if (entry.listing === undefined) return end(tracked, Effect.succeed({ _tag: "Busy" }))
        return Effect.flatMap(readStale(place, room), () => {
          if (tracked.isOver) return Effect.succeed<Answer>({ _tag: "Gone" })
          const next = room.knowledge.roomFor(claim)
          if (next === undefined) return end(tracked, Effect.succeed({ _tag: "Busy" }))
          return enterIfInside(tracked, lease, room, asked, next)
        })
      }
    })
  }

  /** A try for a read-write lock found the claim that it put before, without an answer. It has the lock if nothing is before it. */
  const takeFound = (tracked: TrackedClaim, entry: Shared.Entry): Answering => {
    const { claim, place } = tracked
    place.noteCreated(entry)
    const own = place.created!
    return Effect.flatMap(batcher.run(SharedTransactions.look(place, own, own)), ({ value }) => {
      const seen = Shared.readLook(value, claim, own)
      const isFirst = seen.reader === undefined && seen.listing.found.every(({ created }) => created >= own)
      return seen.own === own && isFirst
        ? Effect.map(waiters.grantOnFresh(tracked), (grant): Answer => grant ?? { _tag: "Gone" })
        : giveUp(tracked, Effect.succeed({ _tag: "Busy" }))
    })
  }

  /** Reads how many permits are left to claims that gave some back. */
  const readStale = (place: Place, room: Room): Effect.Effect<void, CallFailure> => {
    const stale = room.knowledge.view.stale()
    if (stale.length === 0) return Effect.void
    return Effect.map(
      batcher.run(SharedTransactions.readValues(place, stale)),
      ({ value }) => room.knowledge.view.takePermits(stale, Shared.readPermits(value))
    )
  }

  /** Ends a claim that has no place. */
  const end = (tracked: TrackedClaim, answer: Answering): Answering =>
    Effect.suspend(() => {
      forget(tracked, true)
      return answer
    })

  return { enter, take }
}

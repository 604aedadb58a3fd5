/** Claims from their places in the queue to the grant, and the watches on those that are held. */

import type { Granted } from "effect-dlock/LockStore"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { CallFailure } from "../client/failure.ts"
import * as Snapshot from "../protocol/snapshot.ts"
import * as Transactions from "../protocol/transactions.ts"
import { type Lease, toMillis } from "./leases/leases.ts"
import type { StoreParts } from "./parts.ts"
import { LocalQueue } from "./queue/localQueue.ts"
import type { Place, TrackedClaim } from "./trackedClaim.ts"

/** Follows each waiting claim to its grant, and watches claims that are held. */
export const make = (parts: StoreParts) => {
  const { registry, fork, leases, now, batcher, wakeBy, watches, telemetry } = parts
  /** Asks whether a claim still stands, where a lease's list lacked it or a watch was refused: both are only hints. */
  const verify = (place: Place): Effect.Effect<bigint, CallFailure> =>
    Effect.map(
      batcher.run(Transactions.look(place, place.created ?? 0n)),
      ({ value }) => {
        const snapshot = Snapshot.readSnapshot(value, place.claim)
        if (snapshot.own !== place.created) registry.markGone(place.tracked)
        return snapshot.revision
      }
    )

  /**
   * Notes until when the holder may count on the claim; a claim that nobody renews is withdrawn after that. Never within a
   * second: a holder that heard too late asks again under the same id, and must not meet its own withdrawal.
   */
  const confirmHeld = (tracked: TrackedClaim, lease: Lease<Place>): bigint => {
    tracked.heldUntil = Math.max(toMillis(lease.confirmedAt) + lease.ttl, now() + askedAgainWithin)
    return lease.confirmedAt
  }

  const grantedBy = (tracked: TrackedClaim, lease: Lease<Place>): Granted => ({
    _tag: "Granted",
    fencingToken: tracked.place.fencingToken,
    ttl: Duration.millis(lease.ttl - Duration.toMillis(tracked.claim.guardGap)),
    confirmedAt: confirmHeld(tracked, lease)
  })

  const grant = (tracked: TrackedClaim, lease: Lease<Place>): Granted => {
    if (tracked.state !== "held") {
      tracked.stopWaiting()
      tracked.state = "held"
      tracked.lookAt = Infinity
      watchHeld(tracked, tracked.place.created!)
    }
    const granted = grantedBy(tracked, lease)
    wakeBy(tracked.heldUntil)
    telemetry.callBack(() => Deferred.doneUnsafe(tracked.granted, Effect.succeed(granted)), tracked.claim.key)
    return granted
  }

  /**
   * A held claim that somebody deletes is lost at once, not at the next renewal. The watch starts a little later than
   * the hold, from the revision at which it was there: a short section never has one, and nothing is missed.
   */
  const watchHeld = (tracked: TrackedClaim, after: bigint): void => {
    unwatched.push({ tracked, after, at: now() + watchDelay })
    if (unwatched.length === 1) fork(watchAllHeld)
  }

  const unwatched: Array<{ readonly tracked: TrackedClaim; readonly after: bigint; readonly at: number }> = []

  const watchAllHeld: Effect.Effect<void> = Effect.suspend(() => {
    for (let first = unwatched[0]; first !== undefined; first = unwatched[0]) {
      const left = first.at - now()
      // Those that have been released are passed over, however young: short sections share a timer.
      if (left > 0 && first.tracked.state === "held") return Effect.andThen(Effect.sleep(Math.ceil(left)), watchAllHeld)
      unwatched.shift()
      watchNow(first.tracked, first.after)
    }
    return Effect.void
  })

  const watchNow = (tracked: TrackedClaim, after: bigint): void => {
    if (tracked.state !== "held") return
    tracked.stopWatching = watches.add(
      { key: tracked.place.keyBytes },
      after,
      () => registry.markGone(tracked),
      () => watchAnew(tracked, after)
    )
  }

  /** Its watch was refused: looks whether the claim stands, and watches again, at a pace that no server minds. */
  const watchAnew = (tracked: TrackedClaim, after: bigint): void => {
    if (tracked.state !== "held") return
    fork(
      Effect.orElseSucceed(verify(tracked.place), () => after).pipe(
        Effect.tap(Effect.sleep(watchAnewDelay)),
        Effect.map((seenAt) => watchNow(tracked, seenAt))
      )
    )
  }

  /** Takes in how a claim stands: it is granted with a lease that is known to live, or waits for those before it. */
  const applySnapshot = (
    tracked: TrackedClaim,
    snapshot: Snapshot.QueueSnapshot
  ): Effect.Effect<void, CallFailure> =>
    Effect.suspend(() => {
      if (tracked.state === "over" || tracked.state === "held") return Effect.void
      if (snapshot.own === undefined) {
        registry.markGone(tracked)
        return Effect.void
      }
      const { claim, place } = tracked
      place.noteCreated(snapshot)
      const before = localQueues.get(claim.key)
      place.ahead = snapshot.isBlind && before !== undefined ? before.behindLast() : Snapshot.ahead(snapshot, claim)
      tracked.state = "queued"
      if (claim.capacity === 1) {
        localQueueOf(place).arrive(place, snapshot, tracked.askedSince)
        return Effect.void
      }
      if (!Snapshot.isGranted(claim, snapshot)) {
        awaitPermits(tracked, snapshot)
        return Effect.void
      }
      return Effect.asVoid(grantOnFresh(tracked))
    })

  /** Grants once the lease is known to live. The claim is verified after that: its snapshot may be older than that answer. */
  const grantOnFresh = (tracked: TrackedClaim): Effect.Effect<Granted | undefined, CallFailure> => {
    const { place } = tracked
    const lease = place.lease!
    if (leases.isFresh(lease)) return Effect.sync(() => grant(tracked, lease))
    return Effect.gen(function*() {
      if (tracked.state !== "held") tracked.state = "queued"
      yield* leases.ensureFresh(lease)
      if (!lease.gone) yield* verify(place)
      else registry.markGone(tracked)
      return tracked.isOver ? undefined : grant(tracked, lease)
    })
  }

  // Of a mutex.

  const localQueues = new Map<string, LocalQueue>()

  const localQueueOf = ({ claim, keys }: Place): LocalQueue => {
    let queue = localQueues.get(claim.key)
    if (queue === undefined) {
      const made = new LocalQueue(keys, {
        ...parts,
        grant: ({ tracked, lease }) => void grant(tracked, lease!),
        onEmpty: () => {
          if (localQueues.get(claim.key) === made) localQueues.delete(claim.key)
        }
      })
      queue = made
      localQueues.set(claim.key, queue)
    }
    return queue
  }

  // Of permits.

  /** Waits for any of those before it to go, with a poll in case the watch falls silent. */
  const awaitPermits = (tracked: TrackedClaim, snapshot: Snapshot.QueueSnapshot): void => {
    tracked.lookAt = now() + tracked.pollAfter
    wakeBy(tracked.lookAt)
    if (tracked.isWatching) return
    tracked.isWatching = true
    // Its watch was refused. The look that follows watches from what it sees, so this ends, unless the server always refuses.
    const check = () => {
      tracked.isWatching = false
      tracked.lookAt = Math.min(tracked.lookAt, Math.max(now(), tracked.lookedAt + lookPause))
      wakeBy(tracked.lookAt)
    }
    const look = () => lookAgain(tracked)
    const { folder: key, folderEnd: rangeEnd } = tracked.place.keys
    tracked.stopWatching = watches.add({ key, rangeEnd }, snapshot.revision, look, check, (revision) => {
      if (revision > snapshot.revision) look()
    })
  }

  /** One look at a time. What happens meanwhile makes it look once more. */
  const lookAgain = (tracked: TrackedClaim): void => {
    const { place } = tracked
    const { created } = place
    if (tracked.state !== "queued" || created === undefined) return
    if (tracked.isLooking) {
      tracked.changedMeanwhile = true
      return
    }
    tracked.isLooking = true
    tracked.changedMeanwhile = false
    tracked.lookedAt = now()
    tracked.lookAt = tracked.lookedAt + tracked.pollAfter
    fork(
      batcher.run(Transactions.look(place, created)).pipe(
        Effect.flatMap(({ value }) => {
          const snapshot = Snapshot.readSnapshot(value, tracked.claim)
          return applySnapshot(tracked, snapshot.own === place.created ? snapshot : { ...snapshot, own: undefined })
        }),
        Effect.catch((failure: CallFailure) => Effect.sync(() => retryLookSoon(tracked, failure))),
        Effect.ensuring(Effect.sync(() => {
          tracked.isLooking = false
          if (tracked.changedMeanwhile) lookAgain(tracked)
          else if (tracked.state === "queued") wakeBy(tracked.lookAt)
        }))
      )
    )
  }

  /** A look had no answer: it is repeated soon, until the lease can no longer be alive. */
  const retryLookSoon = (tracked: TrackedClaim, failure: CallFailure): void => {
    if (tracked.state !== "queued" || tracked.place.lease === undefined) return
    if (!registry.failIfExpired(tracked, failure, now())) tracked.lookAt = now() + tracked.retryAfter
  }

  return { confirmHeld, grantedBy, grant, grantOnFresh, lookAgain, localQueues, applySnapshot, verify }
}

export type Waiters = ReturnType<typeof make>

const watchDelay = 30
const askedAgainWithin = 1_000
const watchAnewDelay = 1_000
const lookPause = 200

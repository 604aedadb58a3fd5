/** Waiting claims from their place in the queue to their grant, and the watches on held claims. */

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
  /**
   * Checks whether a claim still exists, after a lease's list of keys lacked it or a watch was refused. Both are only hints.
   * Returns the revision of the check.
   */
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
   * Records until when the holder may trust the claim. The store withdraws a claim that is not renewed by then, but never
   * within one second: a holder that got the grant too late requests the same id again, and its own withdrawal must not
   * interfere.
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
   * Watches a held claim, so that a deleted claim is lost at once and not at the next renewal. The watch starts 30 ms after the
   * grant, so that a short section has none. It starts from the revision at which the claim existed, so no deletion is missed.
   */
  const watchHeld = (tracked: TrackedClaim, after: bigint): void => {
    unwatched.push({ tracked, after, at: now() + watchDelay })
    if (unwatched.length === 1) fork(watchAllHeld)
  }

  const unwatched: Array<{ readonly tracked: TrackedClaim; readonly after: bigint; readonly at: number }> = []

  const watchAllHeld: Effect.Effect<void> = Effect.suspend(() => {
    for (let first = unwatched[0]; first !== undefined; first = unwatched[0]) {
      const left = first.at - now()
      // Released claims are skipped without waiting, so that short sections share a timer.
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
      () => watchAgain(tracked, after)
    )
  }

  /** Called when the watch was refused: checks that the claim exists and watches again, once a second to spare the server. */
  const watchAgain = (tracked: TrackedClaim, after: bigint): void => {
    if (tracked.state !== "held") return
    fork(
      Effect.orElseSucceed(verify(tracked.place), () => after).pipe(
        Effect.tap(Effect.sleep(watchAgainDelay)),
        Effect.map((seenAt) => watchNow(tracked, seenAt))
      )
    )
  }

  /** Applies a snapshot: grants the claim once its lease is known to be alive, or lets it wait for the claims before it. */
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

  /**
   * Grants a claim once its lease is known to be alive. If the lease had to be confirmed, the claim is checked again after
   * that, because its snapshot is older than the confirmation.
   */
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

  // Mutexes.

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

  // Permits.

  /** Waits until a claim before this one is deleted. Polls too, in case the watch misses an event. */
  const awaitPermits = (tracked: TrackedClaim, snapshot: Snapshot.QueueSnapshot): void => {
    tracked.lookAt = now() + tracked.pollAfter
    wakeBy(tracked.lookAt)
    if (tracked.isWatching) return
    tracked.isWatching = true
    // The watch was refused. The next look starts another watch from the revision that it reads, so this ends unless the server
    // refuses every watch.
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

  /** Reads the queue again. One look runs at a time. If an event arrives meanwhile, another look follows. */
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

  /** Repeats a look that had no answer, until the lease can no longer be alive. */
  const retryLookSoon = (tracked: TrackedClaim, failure: CallFailure): void => {
    if (tracked.state !== "queued" || tracked.place.lease === undefined) return
    if (!registry.failIfExpired(tracked, failure, now())) tracked.lookAt = now() + tracked.retryAfter
  }

  return { confirmHeld, grantedBy, grant, grantOnFresh, lookAgain, localQueues, applySnapshot, verify }
}

export type Waiters = ReturnType<typeof make>

// Milliseconds.

const watchDelay = 30
const askedAgainWithin = 1_000
const watchAgainDelay = 1_000
const lookPause = 200

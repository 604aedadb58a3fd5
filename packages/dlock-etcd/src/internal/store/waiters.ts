/** Waiting claims from their place in the queue to their grant, and the watches on held claims. */

import type { Ahead, Claim, Granted } from "effect-dlock/LockStore"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { CallFailure } from "../client/failure.ts"
import * as SharedTransactions from "../protocol/sharedTransactions.ts"
import * as Snapshot from "../protocol/snapshot.ts"
import * as Transactions from "../protocol/transactions.ts"
import { HeldWatches } from "./heldWatches.ts"
import { type Lease, toMillis } from "./leases/leases.ts"
import type { StoreParts } from "./parts.ts"
import { LocalQueue } from "./queue/localQueue.ts"
import { Room } from "./queue/room.ts"
import type { Place, TrackedClaim } from "./trackedClaim.ts"

/** Follows each waiting claim to its grant, and watches claims that are held. */
export const make = (parts: StoreParts) => {
  const { registry, fork, leases, now, batcher, wakeBy, watches, telemetry, revocations } = parts
  /**
   * Checks whether a claim still exists, after a lease's list of keys lacked it or a watch was refused. Both are only hints.
   * Returns the revision of the check.
   */
  const verify = (place: Place): Effect.Effect<bigint, CallFailure> =>
    place.claim.kind === "mutex" ? verifyMutex(place) : Effect.map(
      batcher.run(SharedTransactions.check(place, place.created ?? 0n, !place.hasShrunk)),
      ({ value: { header, succeeded } }) => {
        if (!succeeded) registry.markGone(place.tracked)
        return BigInt(header.revision)
      }
    )

  const verifyMutex = (place: Place): Effect.Effect<bigint, CallFailure> =>
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
   * interfere. If the claim may not be extended, the latest confirmation before stays.
   */
  const confirmHeld = (tracked: TrackedClaim, lease: Lease<Place>): bigint => {
    if (tracked.confirmedAt !== undefined && revocations.isForbidden(tracked)) return tracked.confirmedAt
    tracked.confirmedAt = lease.confirmedAt
    tracked.heldUntil = Math.max(toMillis(lease.confirmedAt) + lease.ttl, now() + askedAgainWithin)
    return lease.confirmedAt
  }

  const grantedBy = (tracked: TrackedClaim, lease: Lease<Place>): Granted => ({
    _tag: "Granted",
    fencingToken: tracked.place.fencingToken,
    ttl: Duration.millis(lease.ttl - Duration.toMillis(tracked.claim.guardGap)),
    confirmedAt: confirmHeld(tracked, lease),
    ...(tracked.capacityInUse !== undefined && { capacityInUse: tracked.capacityInUse })
  })

  const grant = (tracked: TrackedClaim, lease: Lease<Place>): Granted => {
    if (tracked.state !== "held") {
      tracked.stopWaiting()
      tracked.state = "held"
      if (tracked.claim.kind === "mutex") watchHeld(tracked, tracked.place.created!)
      else tracked.stopWatching = heldWatches.add(tracked)
      if (tracked.place.revocation !== undefined) revocations.noteGranted(tracked)
    }
    const granted = grantedBy(tracked, lease)
    wakeBy(tracked.heldUntil)
    telemetry.callBack(() => Deferred.doneUnsafe(tracked.granted, Effect.succeed(granted)), tracked.claim.key)
    return granted
  }

  const heldWatches = new HeldWatches(parts, verify)

  /**
   * Watches a held claim on a mutex, so that a deleted claim is lost at once and not at the next renewal. The watch starts 30 ms after the
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
    revocations.watchFor(tracked)
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

  /** Lets a claim on a mutex wait for the claims before it. */
  const applySnapshot = (tracked: TrackedClaim, snapshot: Snapshot.QueueSnapshot): void => {
    if (tracked.state === "over" || tracked.state === "held") return
    if (snapshot.own === undefined) return registry.markGone(tracked)
    const { claim, place } = tracked
    place.noteCreated(snapshot)
    const before = localQueues.get(claim.key)
    place.ahead = snapshot.isBlind && before !== undefined ? before.behindLast() : Snapshot.ahead(snapshot)
    tracked.state = "queued"
    localQueueOf(place).arrive(place, snapshot, tracked.askedSince)
  }

  /**
   * Grants a claim once its lease is known to be alive. If the lease had to be confirmed, the claim is checked again after
   * that, because its snapshot is older than the confirmation.
   */
  const grantOnFresh = (tracked: TrackedClaim): Effect.Effect<Granted | undefined, CallFailure> => {
    const { place } = tracked
    const lease = place.lease!
    if (leases.isFresh(lease)) {
      return Effect.sync(() => {
        if (!place.isDeleted) return grant(tracked, lease)
        registry.markGone(tracked)
        return undefined
      })
    }
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

  // Semaphores and read-write locks.

  /** By the kind and the key of a lock. */
  const rooms = new Map<string, Room>()

  const nameOfRoom = ({ key, kind }: Claim): string => `${kind} ${key}`

  const roomOf = ({ claim, keys }: Place): Room => {
    const name = nameOfRoom(claim)
    let room = rooms.get(name)
    if (room === undefined) {
      const made = new Room(keys, claim.kind, {
        ...parts,
        grant: ({ tracked, lease }) => void grant(tracked, lease!),
        check: verify,
        onEmpty: () => {
          if (rooms.get(name) === made) rooms.delete(name)
        }
      })
      room = made
      rooms.set(name, room)
    }
    return room
  }

  /** The queue of a lock, as this process knows it. `undefined` if no claim of this process waits in it. */
  const queueOf = (claim: Claim): LocalQueue | Room | undefined =>
    claim.kind === "mutex" ? localQueues.get(claim.key) : rooms.get(nameOfRoom(claim))

  const aheadOf = ({ claim, place }: TrackedClaim): Ahead => rooms.get(nameOfRoom(claim))?.ahead(place) ?? place.ahead

  return {
    confirmHeld,
    grantedBy,
    grant,
    grantOnFresh,
    localQueues,
    rooms,
    roomOf,
    queueOf,
    aheadOf,
    applySnapshot,
    verify
  }
}

export type Waiters = ReturnType<typeof make>

// Milliseconds.

const watchDelay = 30
const askedAgainWithin = 1_000
const watchAgainDelay = 1_000

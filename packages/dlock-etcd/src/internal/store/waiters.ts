import { callBack, type Granted } from "effect-dlock/LockStore"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { CallFailure } from "../client/failure.ts"
import * as Queue from "../protocol/transactions.ts"
import { type Lease, toMillis } from "./leases/leases.ts"
import type { Desk } from "./parts.ts"
import { Room } from "./queue/localQueue.ts"
import type { Seat } from "./queue/place.ts"
import type { Entry } from "./trackedClaim.ts"

/** Whose turn is it? Follows each claim from its place in the queue to the grant, and watches over what is held. */
export const make = (desk: Desk) => {
  const { claims, fork, leases, now, outgoing, stir, watches } = desk
  /** Is it still there? Asked where a list lacked it or a watch was refused: lists and watches are hints. */
  const verify = (seat: Seat): Effect.Effect<bigint, CallFailure> =>
    Effect.map(
      outgoing.run(Queue.look(seat, seat.created ?? 0n)),
      ({ value }) => {
        const view = Queue.view(value, seat.claim)
        if (view.own !== seat.created) claims.markGone(seat.entry)
        return view.revision
      }
    )

  /**
   * What the holder is told it may believe; whoever tells it nothing more lets the claim go with that. Not at once where
   * it is too late already: the holder asks once more under the same id then, and must not meet its own withdrawal.
   */
  const believe = (entry: Entry, lease: Lease<Seat>): bigint => {
    entry.until = Math.max(toMillis(lease.confirmedAt) + lease.ttl, now() + askedAgainWithin)
    return lease.confirmedAt
  }

  const grantedBy = (entry: Entry, lease: Lease<Seat>): Granted => ({
    _tag: "Granted",
    fencingToken: entry.seat.fencingToken,
    ttl: Duration.millis(lease.ttl - Duration.toMillis(entry.claim.guardGap)),
    confirmedAt: believe(entry, lease)
  })

  const grant = (entry: Entry, lease: Lease<Seat>): Granted => {
    if (entry.state !== "held") {
      entry.stopWaiting()
      entry.state = "held"
      entry.lookAt = Infinity
      guard(entry, entry.seat.created!)
    }
    const granted = grantedBy(entry, lease)
    stir(entry.until)
    callBack(() => Deferred.doneUnsafe(entry.granted, Effect.succeed(granted)), entry.claim.key)
    return granted
  }

  /**
   * A held claim that somebody deletes is lost at once, not at the next renewal. The watch starts a little later than
   * the hold, from the revision at which it was there: a short section never has one, and nothing is missed.
   */
  const guard = (entry: Entry, after: bigint): void => {
    unguarded.push({ entry, after, at: now() + guardDelay })
    if (unguarded.length === 1) fork(guardAll)
  }

  const unguarded: Array<{ readonly entry: Entry; readonly after: bigint; readonly at: number }> = []

  const guardAll: Effect.Effect<void> = Effect.suspend(() => {
    for (let first = unguarded[0]; first !== undefined; first = unguarded[0]) {
      const left = first.at - now()
      // Those that have been released are passed over, however young: short sections share a timer.
      if (left > 0 && first.entry.state === "held") return Effect.andThen(Effect.sleep(Math.ceil(left)), guardAll)
      unguarded.shift()
      guardNow(first.entry, first.after)
    }
    return Effect.void
  })

  const guardNow = (entry: Entry, after: bigint): void => {
    if (entry.state !== "held") return
    entry.stopWatching = watches.add(
      { key: entry.seat.place },
      after,
      () => claims.markGone(entry),
      () => guardAnew(entry, after)
    )
  }

  /** Its watch was refused: what is there now, and from there on, at a pace that no server minds. */
  const guardAnew = (entry: Entry, after: bigint): void => {
    if (entry.state !== "held") return
    fork(
      Effect.orElseSucceed(verify(entry.seat), () => after).pipe(
        Effect.tap(Effect.sleep(guardAnewDelay)),
        Effect.map((seenAt) => guardNow(entry, seenAt))
      )
    )
  }

  /** Takes in how a claim stands: it is granted on a lease that is known to live, or told what to wait for. */
  const settle = (entry: Entry, view: Queue.View): Effect.Effect<void, CallFailure> =>
    Effect.suspend(() => {
      if (entry.state === "over" || entry.state === "held") return Effect.void
      if (view.own === undefined) {
        claims.markGone(entry)
        return Effect.void
      }
      const { claim, seat } = entry
      seat.standAs(view)
      const before = rooms.get(claim.key)
      seat.ahead = view.isBlind && before !== undefined ? before.behindLast() : Queue.ahead(view, claim)
      entry.state = "queued"
      if (claim.capacity === 1) {
        roomOf(seat).arrive(seat, view, entry.askedSince)
        return Effect.void
      }
      if (!Queue.isGranted(claim, view)) {
        awaitPermits(entry, view)
        return Effect.void
      }
      return Effect.asVoid(grantOnFresh(entry))
    })

  /** What was seen of it may be older than the answer about its lease, so it is looked at once more. */
  const grantOnFresh = (entry: Entry): Effect.Effect<Granted | undefined, CallFailure> => {
    const { seat } = entry
    const lease = seat.lease!
    if (leases.isFresh(lease)) return Effect.sync(() => grant(entry, lease))
    return Effect.gen(function*() {
      if (entry.state !== "held") entry.state = "queued"
      yield* leases.freshen(lease)
      if (!lease.gone) yield* verify(seat)
      else claims.markGone(entry)
      return entry.isOver ? undefined : grant(entry, lease)
    })
  }

  // Of a mutex.

  const rooms = new Map<string, Room>()

  const roomOf = ({ claim, names }: Seat): Room => {
    let room = rooms.get(claim.key)
    if (room === undefined) {
      const made = new Room(names, {
        ...desk,
        grant: ({ entry, lease }) => void grant(entry, lease!),
        onEmpty: () => {
          if (rooms.get(claim.key) === made) rooms.delete(claim.key)
        }
      })
      room = made
      rooms.set(claim.key, room)
    }
    return room
  }

  // Of permits.

  /** Any may come free that stand before. A poll is the net. */
  const awaitPermits = (entry: Entry, view: Queue.View): void => {
    entry.lookAt = now() + entry.pollAfter
    stir(entry.lookAt)
    if (entry.isWatching) return
    entry.isWatching = true
    // Its watch was refused. A look watches from what it sees, so this does not go on, but for a server that always refuses.
    const check = () => {
      entry.isWatching = false
      entry.lookAt = Math.min(entry.lookAt, Math.max(now(), entry.lookedAt + lookPause))
      stir(entry.lookAt)
    }
    const look = () => lookAgain(entry)
    const { folder: key, folderEnd: rangeEnd } = entry.seat.names
    entry.stopWatching = watches.add({ key, rangeEnd }, view.revision, look, check, (revision) => {
      if (revision > view.revision) look()
    })
  }

  /** One look at a time; what happens meanwhile has it look once more. */
  const lookAgain = (entry: Entry): void => {
    const { seat } = entry
    const { created } = seat
    if (entry.state !== "queued" || created === undefined) return
    if (entry.looking) {
      entry.stale = true
      return
    }
    entry.looking = true
    entry.stale = false
    entry.lookedAt = now()
    entry.lookAt = entry.lookedAt + entry.pollAfter
    fork(
      outgoing.run(Queue.look(seat, created)).pipe(
        Effect.flatMap(({ value }) => {
          const view = Queue.view(value, entry.claim)
          return settle(entry, view.own === seat.created ? view : { ...view, own: undefined })
        }),
        Effect.catch((failure: CallFailure) => Effect.sync(() => retryLookSoon(entry, failure))),
        Effect.ensuring(Effect.sync(() => {
          entry.looking = false
          if (entry.stale) lookAgain(entry)
          else if (entry.state === "queued") stir(entry.lookAt)
        }))
      )
    )
  }

  /** No answer: again soon, until the lease can no longer be alive. */
  const retryLookSoon = (entry: Entry, failure: CallFailure): void => {
    if (entry.state !== "queued" || entry.seat.lease === undefined) return
    if (!claims.failIfExpired(entry, failure, now())) entry.lookAt = now() + entry.retryAfter
  }

  return { believe, grantedBy, grant, grantOnFresh, lookAgain, rooms, settle, verify }
}

export type Turns = ReturnType<typeof make>

const guardDelay = 30
const askedAgainWithin = 1_000
const guardAnewDelay = 1_000
const lookPause = 200

/** Requests claims from the server and withdraws them. */

import type { LockBackendError } from "effect-dlock/LockError"
import { type Answer, callLimit, type Claim, refusalOf, type Withdrawn } from "effect-dlock/LockStore"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { ITxnResponse } from "etcd3"
import { backendError, type CallFailure, closedFailure, silentFailure } from "../client/failure.ts"
import type { Port, Reply } from "../client/port.ts"
import { SingleFlight } from "../client/singleFlight.ts"
import { lockKeys } from "../protocol/keys.ts"
import type { Operation } from "../protocol/operation.ts"
import * as Snapshot from "../protocol/snapshot.ts"
import * as Transactions from "../protocol/transactions.ts"
import { Epochs } from "./epochs.ts"
import type { Lease } from "./leases/leases.ts"
import type { StoreParts } from "./parts.ts"
import type { Tombstones } from "./tombstones.ts"
import type { Place, TrackedClaim } from "./trackedClaim.ts"
import type { Waiters } from "./waiters.ts"

/** Makes the store's `request` and `withdraw`: the transactions they send, and what the answers mean. */
export const make = (
  port: Port,
  { registry, fork, hasClosed, leases, askingOrder, liveness, now, batcher, wakeBy }: StoreParts,
  waiters: Waiters,
  tombstones: Tombstones
) => {
  const epochs = new Epochs()

  const request = (claim: Claim, mode: "queue" | "try"): Effect.Effect<Answer, LockBackendError> =>
    Effect.suspend(() => {
      const refusal = refusalOf(claim)
      if (refusal !== undefined) return Effect.fail(refusal)
      if (registry.hasEnded(claim)) return Effect.succeed<Answer>({ _tag: "Gone" })
      if (hasClosed()) return Effect.fail(backendError("acquire")(closedFailure))
      const tracked = registry.track(claim)
      const asked = mode === "try"
        // A try takes no place in the queue, and its caller needs an answer within one second.
        ? Effect.timeoutOrElse(ask(tracked, mode), { duration: tryLimit, orElse: () => Effect.fail(silentFailure) })
        : askingOrder.inTurn(tracked, ask(tracked, mode))
      return Effect.mapError(asked, backendError("acquire"))
    })

  /** Requests the claim. If its lease is known to be alive, this is one call. */
  const ask = (tracked: TrackedClaim, mode: "queue" | "try"): Effect.Effect<Answer, CallFailure> =>
    Effect.suspend(() => {
      if (hasClosed()) return Effect.fail(closedFailure)
      return tracked.isOver ? Effect.succeed<Answer>({ _tag: "Gone" }) : askNow(tracked, mode)
    })

  const askNow = (tracked: TrackedClaim, mode: "queue" | "try"): Effect.Effect<Answer, CallFailure> => {
    const lease = tracked.place.lease ?? joinNow(tracked)
    if (lease !== undefined && leases.isFresh(lease)) {
      wakeBy(leases.dueAt(lease))
      return enter(tracked, lease, mode)
    }
    return Effect.timeoutOrElse(askOnFresh(tracked, mode), {
      duration: callLimit(tracked.claim),
      orElse: () => Effect.fail(silentFailure)
    })
  }

  const joinNow = ({ claim, place }: TrackedClaim) => leases.joinNow(seconds(claim), place.key, place)
  const join = ({ claim, place }: TrackedClaim) => leases.join(seconds(claim), place.key, place)

  const askOnFresh = (tracked: TrackedClaim, mode: "queue" | "try"): Effect.Effect<Answer, CallFailure> =>
    Effect.gen(function*() {
      const lease = tracked.place.lease ?? (yield* join(tracked))
      wakeBy(leases.dueAt(lease))
      yield* leases.ensureFresh(lease)
      if (tracked.isOver) return { _tag: "Gone" }
      return yield* lease.gone ? askAgain(tracked, mode) : enter(tracked, lease, mode)
    })

  const askAgain = (tracked: TrackedClaim, mode: "queue" | "try"): Effect.Effect<Answer, CallFailure> =>
    Effect.suspend(() => {
      tracked.place.lease = undefined
      return ask(tracked, mode)
    })

  const enter = (
    tracked: TrackedClaim,
    lease: Lease<Place>,
    mode: "queue" | "try"
  ): Effect.Effect<Answer, CallFailure> => {
    if (mode === "queue") return enterSigned(tracked, lease)
    if (tracked.claim.capacity === 1) {
      return put(tracked, lease, mode, (epoch) => Transactions.enterIfEmpty(tracked.place, lease.id, epoch))
    }
    return Effect.flatMap(
      batcher.run(Transactions.look(tracked.place, 0n)),
      ({ value }) => enterIfFits(tracked, lease, Snapshot.readSnapshot(value, tracked.claim))
    )
  }

  /**
   * Enters a claim that may have to wait. A waiting claim needs a sign of life of its process, so that the claims behind it do
   * not wait for a dead process. The first claim that waits has the sign put.
   */
  const enterSigned = (
    tracked: TrackedClaim,
    lease: Lease<Place>,
    expectsOthers = false
  ): Effect.Effect<Answer, CallFailure> => {
    const { claim: { capacity, key, prefix }, place } = tracked
    if (capacity > 1) return put(tracked, lease, "queue", (epoch) => Transactions.enter(place, lease.id, epoch))
    const queue = waiters.localQueues.get(key)
    const sign = liveness.signOf(prefix)
    const last = queue?.lastOfMany()
    const life = sign === undefined ? undefined : liveness.lifeIn(prefix)
    const operation = (epoch: Transactions.Epoch) => {
      if (last !== undefined) return Transactions.enterBehind(place, lease.id, epoch, sign, last, last.created!)
      if (expectsOthers || queue !== undefined) return Transactions.enterToWait(place, lease.id, epoch, sign)
      if (sign !== undefined && life === undefined) return Transactions.enterIfFree(place, lease.id, epoch)
      return Transactions.enter(place, lease.id, epoch, sign)
    }
    place.lifeLease = life
    const askedAt = queue?.noteAsked()
    if (askedAt !== undefined) tracked.askedSince = askedAt
    const asked = put(
      tracked,
      lease,
      "queue",
      operation,
      (snapshot) => {
        if (snapshot.isUnsigned) return Effect.flatMap(liveness.show(prefix), () => enterSigned(tracked, lease, true))
        if (!snapshot.isUnread) return undefined
        // An earlier request, whose answer was lost, put the claim.
        place.noteCreated(snapshot)
        return enterSigned(tracked, lease, true)
      }
    )
    return askedAt === undefined ? asked : Effect.ensuring(asked, Effect.sync(() => queue!.noteAnswered(askedAt)))
  }

  /**
   * Tries for permits. The try reads the queue first and enters only if the permits are free: other claims would count a place
   * that is given back. If another claim entered after the read, the answer shows that claim, and the try is repeated.
   */
  const enterIfFits = (
    tracked: TrackedClaim,
    lease: Lease<Place>,
    snapshot: Snapshot.QueueSnapshot
  ): Effect.Effect<Answer, CallFailure> => {
    if (tracked.isOver) return Effect.succeed({ _tag: "Gone" })
    const { claim } = tracked
    if (
      snapshot.own !== undefined || Snapshot.isMismatched(claim, snapshot) || !Snapshot.fits(claim, snapshot)
    ) {
      return takeAnswer(tracked, lease, "try", snapshot)
    }
    // Not the revision of the answer: another claim may have entered in the same transaction, after the read.
    const since = snapshot.before[snapshot.before.length - 1]?.created ?? 0n
    const operation = (epoch: Transactions.Epoch) =>
      Transactions.enterIfNobodyCame(tracked.place, lease.id, epoch, since)
    const isMissed = ({ before, own }: Snapshot.QueueSnapshot): boolean =>
      own === undefined && before.some(({ created }) => created > since)
    return put(
      tracked,
      lease,
      "try",
      operation,
      (seen) => isMissed(seen) ? enterIfFits(tracked, lease, seen) : undefined
    )
  }

  const put = (
    tracked: TrackedClaim,
    lease: Lease<Place>,
    mode: "queue" | "try",
    operation: (epoch: Transactions.Epoch) => Operation,
    again: (snapshot: Snapshot.QueueSnapshot) => Effect.Effect<Answer, CallFailure> | undefined = () => undefined
  ): Effect.Effect<Answer, CallFailure> => {
    const { claim, place } = tracked
    const epoch = epochs.of(claim.prefix)
    const wasSent = tracked.isSent
    place.unanswered++
    tracked.underWay++
    tracked.isSent = true
    const onUnsent = () => {
      noteAnswered(tracked, place, true)
      tracked.isSent = wasSent
    }
    const onLate = (outcome: Exit.Exit<Reply<ITxnResponse>, CallFailure>) => {
      if (Exit.isSuccess(outcome) && place.created === undefined) {
        place.noteCreated(Snapshot.readSnapshot(outcome.value.value, place.claim, epoch.base))
      }
      noteAnswered(tracked, place, Exit.isSuccess(outcome) ? !outcome.value.doubled : isNotDone(outcome))
    }
    return Effect.matchEffect(batcher.run({ ...operation(epoch), onUnsent, onLate }), {
      onSuccess: ({ doubled, value }) => {
        // If the request was sent twice, this answer does not tell what became of the other sending.
        noteAnswered(tracked, place, !doubled)
        // A closed store would never tell the claim that it has the turn.
        if (hasClosed()) return Effect.fail(closedFailure)
        if (tracked.isOver) return Effect.succeed<Answer>({ _tag: "Gone" })
        // The lease ended while the answer was on its way, and the server deleted the claim with it.
        if (lease.gone) return askAgain(tracked, mode)
        const current = Transactions.epochIn(value)
        if (current !== undefined && current.text !== epoch.text) {
          const learnt = epochs.learn(claim.prefix, current.text)
          return Effect.flatMap(learnt, () => put(tracked, lease, mode, operation, again))
        }
        const snapshot = Snapshot.readSnapshot(value, place.claim, epoch.base)
        return again(snapshot) ?? takeAnswer(tracked, lease, mode, snapshot)
      },
      onFailure: (failure) => {
        noteAnswered(tracked, place, failure.notDone)
        if (!failure.leaseGone) return Effect.fail(failure)
        leases.markGone(lease)
        return tracked.isOver ? Effect.succeed<Answer>({ _tag: "Gone" }) : askAgain(tracked, mode)
      }
    })
  }

  /** Records that a request of the claim has ended. `isKnown`: this process knows whether the server executed it. */
  const noteAnswered = (tracked: TrackedClaim, place: Place, isKnown: boolean): void => {
    if (isKnown) place.unanswered--
    if (--tracked.underWay === 0) tracked.settled?.end(Exit.void)
  }

  const takeAnswer = (
    tracked: TrackedClaim,
    lease: Lease<Place>,
    mode: "queue" | "try",
    snapshot: Snapshot.QueueSnapshot
  ): Effect.Effect<Answer, CallFailure> => {
    const { claim, place } = tracked
    if (snapshot.own === undefined) {
      // The claim was cancelled before, or it is a try that found another claim in the queue.
      const busy = mode === "try" && snapshot.before.length > 0
      const mismatched = busy && Snapshot.isMismatched(claim, snapshot)
      forget(tracked, true)
      return Effect.succeed({ _tag: mismatched ? "CapacityMismatch" : busy ? "Busy" : "Gone" })
    }
    const mismatched = Snapshot.isMismatched(claim, snapshot)
    const granted = Snapshot.isGranted(claim, snapshot)
    // The held claim was deleted, and this request put a new one in its place. The grant does not hold for the new one.
    const displaced = tracked.state === "held" && place.created !== snapshot.own
    place.noteCreated(snapshot)
    if (mismatched || displaced || (mode === "try" && !granted)) {
      // Uninterruptible: the caller may give up before the answer, and the place must still be withdrawn.
      return Effect.uninterruptible(
        Effect.map(
          Effect.exit(batcher.run(Transactions.withdraw(place, snapshot.own, undefined, false))),
          (left) => {
            registry.endId(tracked, now())
            forget(tracked, Exit.isSuccess(left) && Transactions.readWithdrawal(left.value.value).deleted)
            return { _tag: displaced ? "Gone" : mismatched ? "CapacityMismatch" : "Busy" }
          }
        )
      )
    }
    if (tracked.state === "held") return Effect.succeed(waiters.grant(tracked, lease))
    // A claim that was requested earlier may be behind this one in the queue.
    const isFirst = !askingOrder.isAwaited(tracked) && waiters.localQueues.get(claim.key)?.hasEarlier(tracked) !== true
    if (granted && isFirst) {
      return Effect.map(waiters.grantOnFresh(tracked), (grant): Answer => grant ?? { _tag: "Gone" })
    }
    tracked.isRepeated = false
    return Effect.flatMap(waiters.applySnapshot(tracked, snapshot), () => answerOf(tracked))
  }

  const answerOf = (tracked: TrackedClaim): Effect.Effect<Answer> => {
    const { ahead, lease } = tracked.place
    if (tracked.state === "held" && lease !== undefined) return Effect.succeed(waiters.grantedBy(tracked, lease))
    if (tracked.state !== "queued") return Effect.succeed({ _tag: "Gone" })
    return Effect.succeed({
      _tag: "Queued",
      place: ahead.place,
      ahead: () => tracked.place.ahead,
      granted: Deferred.await(tracked.granted)
    })
  }

  /**
   * Ends a claim that has no place. If one of its requests may still be executed, the claim is withdrawn: that deletes what the
   * request put, or leaves a tombstone that stops it. The name of the place is reused only if nothing can be under it.
   */
  const forget = (tracked: TrackedClaim, isLeft: boolean): void => {
    registry.end(tracked)
    if (isLeft && tracked.place.unanswered === 0) return registry.placeNames.free(tracked.place.name)
    registry.placeNames.endGeneration()
    if (tracked.place.unanswered > 0) fork(Effect.ignore(withdrawTracked(tracked, false)))
  }

  const withdraw = (claim: Claim): Effect.Effect<Withdrawn, LockBackendError> =>
    Effect.suspend(() => {
      const standIn = standIns.get(claim.id)
      if (standIn !== undefined && registry.withdrawn(claim)?.isAwaitingSuccessor !== true) {
        return Effect.as(endStandIn(claim.id, standIn), "released")
      }
      const known = registry.find(claim.id)
      const state = known?.state
      if (state === "held" && known!.place.unanswered === 0) {
        known!.successor = waiters.localQueues.get(claim.key)?.handOver(known!.place)
      }
      const tracked = registry.beginWithdrawal(claim, now())
      if (tracked === undefined) return withdrawUnknown(claim)
      return Effect.matchEffect(withdrawTracked(tracked, state === "queued"), {
        onFailure: (failure) => {
          waiters.localQueues.get(claim.key)?.noteWithdrawn(tracked.place.key, undefined)
          registry.placeNames.endGeneration()
          return Effect.fail(backendError("release")(failure))
        },
        onSuccess: (deleted) => {
          if (!isStandIn(tracked)) registry.noteWithdrawn(tracked)
          if (!deleted) return Effect.succeed(tracked.isSent ? "notHeld" : "notSent")
          return Effect.succeed(state === "queued" ? "cancelled" : "released")
        }
      })
    })

  /**
   * The stand-ins, by the ids of their successors. A stand-in is a released claim that stays in the queue because its successor
   * was granted and then deleted by another client. It keeps other processes out until the section of the successor has ended.
   */
  const standIns = new Map<string, TrackedClaim>()

  const isStandIn = (tracked: TrackedClaim): boolean =>
    tracked.successor !== undefined && standIns.get(tracked.successor.tracked.claim.id) === tracked

  const endStandIn = (successor: string, tracked: TrackedClaim): Effect.Effect<void> =>
    Effect.suspend(() => {
      if (!standIns.delete(successor)) return Effect.void
      const { created, key, lease } = tracked.place
      leases.remove(lease!, key)
      return Effect.match(withdrawAlone(tracked, created!, undefined, false), {
        onFailure: () => registry.placeNames.endGeneration(),
        onSuccess: () => registry.noteWithdrawn(tracked)
      })
    })

  /**
   * Withdraws a claim that handed its lock over. If the successor was deleted, the claim stays as a stand-in until the
   * successor's section has ended.
   */
  const withdrawHandedOver = (tracked: TrackedClaim, successorPlace: Place): Effect.Effect<boolean, CallFailure> => {
    const { place } = tracked
    const [created, itsCreated] = [place.created!, successorPlace.created!]
    const onQueued = () => waiters.localQueues.get(place.claim.key)?.letSuccessorIn()
    const operation = { ...Transactions.withdrawHandedOver(place, created, successorPlace, itsCreated), onQueued }
    return Effect.map(batcher.run(operation), ({ value }) => {
      const { tracked: successor } = successorPlace
      const { isDeleted, isSuccessorThere, isThere } = Transactions.readHandedOver(value, created, itsCreated)
      if (isDeleted || !isThere) {
        waiters.localQueues.get(place.claim.key)?.noteWithdrawn(place.key, BigInt(value.header.revision))
      }
      // If this claim was deleted before, an earlier released claim may be the stand-in that keeps other processes out for it.
      const earlier = standIns.get(tracked.claim.id)
      const standIn = isThere ? tracked : earlier
      if (isSuccessorThere) {
        if (earlier !== undefined) fork(endStandIn(tracked.claim.id, earlier))
      } else if (standIn === undefined) registry.markGone(successor)
      else {
        standIns.delete(tracked.claim.id)
        beginStandIn(successor, standIn)
      }
      return isThere || isDeleted
    })
  }

  /** Makes a released claim the stand-in for its deleted successor. */
  const beginStandIn = (successor: TrackedClaim, standIn: TrackedClaim): void => {
    const { key, lease } = standIn.place
    standIns.set(successor.claim.id, standIn)
    lease!.claims.set(key, standIn.place)
    const isInside = successor.state === "held"
    registry.markGone(successor, true)
    // The successor may have handed the lock over as well. The answer to its withdrawal tells whether the next claim exists.
    const last = successor.isAwaitingSuccessor ? successor.successor!.tracked : successor
    const most = isInside || last !== successor ? Math.min(last.heldUntil, now() + lease!.ttl) : 0
    fork(Effect.delay(endStandIn(successor.claim.id, standIn), Math.max(0, Math.ceil(most - now()))))
  }

  /** Deletes the claim and returns whether anything was deleted. Leaves a tombstone if a request may still arrive. */
  const withdrawTracked = (tracked: TrackedClaim, waited: boolean): Effect.Effect<boolean, CallFailure> => {
    if (tracked.underWay === 0) return withdrawNow(tracked, waited)
    // Waiting for the answers saves a tombstone, which would stay at the server for a quarter of an hour.
    tracked.settled ??= new SingleFlight()
    const settled = Effect.timeoutOption(tracked.settled.await, callLimit(tracked.claim))
    return Effect.flatMap(settled, () => withdrawNow(tracked, waited))
  }

  const withdrawNow = (tracked: TrackedClaim, waited: boolean): Effect.Effect<boolean, CallFailure> => {
    if (tracked.place.unanswered === 0) {
      // The server has nothing of a claim that was refused or never sent.
      const { created } = tracked.place
      if (created === undefined) return Effect.succeed(false)
      const { successor } = tracked
      // If this withdrawal is a repeat, the successor may have ended already.
      if (successor === undefined || successor.tracked.isOver) return withdrawAlone(tracked, created, undefined, waited)
      return withdrawHandedOver(tracked, successor)
    }
    registry.placeNames.endGeneration()
    return Effect.timeoutOrElse(
      Effect.flatMap(
        tombstones.lease,
        (lease) => onTombstoneLease(withdrawAlone(tracked, undefined, lease, waited), lease)
      ),
      { duration: callLimit(tracked.claim), orElse: () => Effect.fail(silentFailure) }
    )
  }

  const withdrawAlone = (
    tracked: TrackedClaim,
    created: bigint | undefined,
    tombstoneLease: string | undefined,
    waited: boolean
  ) =>
    Effect.suspend(() => {
      const { claim, place } = tracked
      const queue = waiters.localQueues.get(claim.key)
      const asks = waited && (queue === undefined || queue.mayAskForHolder())
      return Effect.map(batcher.run(Transactions.withdraw(place, created, tombstoneLease, asks)), ({ value }) => {
        const { deleted, holder, length } = Transactions.readWithdrawal(value)
        if (asks) place.ahead = { holder, place: place.ahead.place, waiting: Math.max(1, length) }
        queue?.noteWithdrawn(place.key, BigInt(value.header.revision))
        return deleted
      })
    })

  /** Withdraws a claim of which this process knows only the id. The claim was requested earlier or by another process. */
  const withdrawUnknown = (claim: Claim): Effect.Effect<Withdrawn, LockBackendError> =>
    Effect.gen(function*() {
      const its = lockKeys(claim.key, claim.prefix)
      const lease = yield* tombstones.lease
      const { value } = yield* onTombstoneLease(
        port.txn(Transactions.withdrawById(its, claim.id, lease), callLimit(claim)),
        lease
      )
      const found = Transactions.readWithdrawalById(value, claim.id)
      // If two claims of this process exchanged places, the entry with this id belongs to another claim.
      if (found === undefined || registry.isOurs(found.keyBytes.toString())) return "notHeld"
      const place = { claim, keys: its, keyBytes: found.keyBytes }
      const reply = yield* batcher.run(Transactions.withdraw(place, found.created, undefined, false))
      return Transactions.readWithdrawal(reply.value).deleted ? "released" : "notHeld"
    }).pipe(
      Effect.timeoutOrElse({ duration: callLimit(claim), orElse: () => Effect.fail(silentFailure) }),
      Effect.mapError(backendError("release"))
    )

  /** Runs a call that puts a tombstone. If the lease of the tombstones has ended, the next tombstone gets a new lease. */
  const onTombstoneLease = <A>(call: Effect.Effect<A, CallFailure>, lease: string) =>
    Effect.tapError(call, (failure) =>
      Effect.sync(() => {
        if (failure.leaseGone) tombstones.forgetLease(lease)
      }))

  return { request, withdraw }
}

const isNotDone = (outcome: Exit.Failure<unknown, CallFailure>): boolean => {
  const [reason] = outcome.cause.reasons
  return reason?._tag === "Fail" && reason.error.notDone
}

/** How long a try waits for its answer, in milliseconds. */
const tryLimit = 900

/** How long the claim's lease is: ttl plus guard gap, rounded up, because etcd's leases are whole seconds. */
const seconds = (claim: Claim): number =>
  Math.ceil((Duration.toMillis(claim.ttl) + Duration.toMillis(claim.guardGap)) / 1_000)

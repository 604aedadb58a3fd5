/** Requests claims from the server and withdraws them. */

import type { LockBackendError } from "effect-dlock/LockError"
import { type Answer, callLimit, type Claim, refusalOf, type Withdrawn, withoutHeld } from "effect-dlock/LockStore"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { ITxnResponse } from "etcd3"
import { backendError, type CallFailure, closedFailure, newerFailure, silentFailure } from "../../client/failure.ts"
import type { Port, Reply } from "../../client/port.ts"
import { SingleFlight } from "../../client/singleFlight.ts"
import { lockKeys } from "../../protocol/keys.ts"
import * as Snapshot from "../../protocol/snapshot.ts"
import * as Transactions from "../../protocol/transactions.ts"
import { Epochs } from "../epochs.ts"
import type { Lease } from "../leases/leases.ts"
import type { StoreParts } from "../parts.ts"
import * as SharedRequests from "../shared/sharedRequests.ts"
import type { Tombstones } from "../tombstones.ts"
import type { Place, TrackedClaim } from "../trackedClaim.ts"
import type { Waiters } from "../waiters.ts"
import type { Put } from "./placing.ts"
import * as SeveralRequests from "./severalRequests.ts"

/** Makes the store's `request`, `requestAll` and `withdraw`: the transactions they send, and what the answers mean. */
export const make = (
  port: Port,
  parts: StoreParts,
  waiters: Waiters,
  tombstones: Tombstones
) => {
  const { askingOrder, batcher, fork, hasClosed, leases, liveness, now, registry, wakeBy } = parts
  const epochs = new Epochs()

  const request = (claim: Claim, mode: "queue" | "try"): Effect.Effect<Answer, LockBackendError> =>
    Effect.suspend(() => {
      const refusal = refusalOf(claim)
      if (refusal !== undefined) return Effect.fail(refusal)
      if (registry.hasEnded(claim)) return Effect.succeed<Answer>({ _tag: "Gone" })
      if (hasClosed()) return Effect.fail(backendError("acquire")(closedFailure))
      const tracked = registry.track(mode === "queue" && askingOrder.isAsking(claim.key) ? nameless(claim) : claim)
      const asked = mode === "try"
        // A try takes no place in the queue, and its caller needs an answer within one second.
        ? Effect.timeoutOrElse(ask(tracked, mode), { duration: tryLimit, orElse: () => Effect.fail(silentFailure) })
        : askingOrder.inTurn(tracked, ask(tracked, mode))
      return Effect.mapError(asked, backendError("acquire"))
    })

  /**
   * A claim that comes while others of this process ask for the same lock. Only claims that are alike in all that the server
   * knows may be asked for abreast and exchange their places, so it does not name what its caller holds.
   */
  const nameless = (claim: Claim): Claim => {
    const holder = withoutHeld(claim.holder)
    return claim.kind !== "mutex" || holder === claim.holder ? claim : { ...claim, holder }
  }

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

  const joinNow = ({ claim, place }: TrackedClaim) => leases.joinNow(seconds(claim), place.allKeys, place)
  const join = ({ claim, place }: TrackedClaim) => leases.join(seconds(claim), place.allKeys, place)

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
    if (tracked.claim.kind !== "mutex") return shared.enter(tracked, lease, mode)
    if (mode === "queue") return enterSigned(tracked, lease)
    const operation = (epoch: Transactions.Epoch) => Transactions.enterIfEmpty(tracked.place, lease, epoch)
    return put(tracked, lease, { mode, operation, ...forMutex(tracked, lease, mode) })
  }

  const forMutex = (tracked: TrackedClaim, lease: Lease<Place>, mode: "queue" | "try") => ({
    read: (value: ITxnResponse, base: bigint) => Snapshot.readSnapshot(value, tracked.place.claim, base),
    take: (snapshot: Snapshot.QueueSnapshot) => takeAnswer(tracked, lease, mode, snapshot)
  })

  /**
   * Enters a claim that may have to wait. A waiting claim needs a sign of life of its process, so that the claims behind it do
   * not wait for a dead process. The first claim that waits has the sign put.
   */
  const enterSigned = (
    tracked: TrackedClaim,
    lease: Lease<Place>,
    expectsOthers = false
  ): Effect.Effect<Answer, CallFailure> => {
    const { claim: { key, maxQueue, prefix }, place } = tracked
    const queue = waiters.localQueues.get(key)
    const sign = liveness.signOf(prefix)
    // Behind another claim of this process nothing is counted.
    const last = maxQueue === undefined ? queue?.lastOfMany() : undefined
    const life = sign === undefined ? undefined : liveness.lifeIn(prefix)
    const operation = (epoch: Transactions.Epoch) => {
      if (last !== undefined) return Transactions.enterBehind(place, lease, epoch, sign, last, last.created!)
      if (expectsOthers || queue !== undefined) return Transactions.enterToWait(place, lease, epoch, sign)
      if (sign !== undefined && life === undefined) return Transactions.enterIfFree(place, lease, epoch)
      return Transactions.enter(place, lease, epoch, sign)
    }
    place.lifeLease = life
    const askedAt = queue?.noteAsked()
    if (askedAt !== undefined) tracked.askedSince = askedAt
    const { read, take } = forMutex(tracked, lease, "queue")
    const asked = put(tracked, lease, {
      mode: "queue",
      operation,
      read,
      take: (snapshot) => {
        if (snapshot.isUnsigned) return Effect.flatMap(liveness.show(prefix), () => enterSigned(tracked, lease, true))
        if (!snapshot.isUnread) return take(snapshot)
        // An earlier request, whose answer was lost, put the claim.
        place.noteCreated(snapshot)
        return enterSigned(tracked, lease, true)
      }
    })
    return askedAt === undefined ? asked : Effect.ensuring(asked, Effect.sync(() => queue!.noteAnswered(askedAt)))
  }

  /** Sends a request for a place, and takes its answer. */
  const put: Put = (tracked, lease, { mode, operation, read, take }) => {
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
        place.noteCreated(read(outcome.value.value, epoch.base))
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
          return Effect.flatMap(learnt, () => put(tracked, lease, { mode, operation, read, take }))
        }
        return take(read(value, epoch.base))
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
    const foreign = Snapshot.foreignIn(snapshot)
    if (snapshot.own === undefined) {
      // The claim was cancelled before, or it is a try that found another claim in the queue.
      const busy = mode === "try" && snapshot.before.length > 0
      forget(tracked, true)
      return busy && foreign !== undefined ? refuse(foreign) : Effect.succeed({ _tag: busy ? "Busy" : "Gone" })
    }
    const granted = Snapshot.isGranted(snapshot)
    // The held claim was deleted, and this request put a new one in its place. The grant does not hold for the new one.
    const displaced = tracked.state === "held" && place.created !== snapshot.own
    place.noteCreated(snapshot)
    if (displaced) return giveUp(tracked, Effect.succeed({ _tag: "Gone" }))
    if (foreign !== undefined) return giveUp(tracked, refuse(foreign))
    if (mode === "try" && !granted) return giveUp(tracked, Effect.succeed({ _tag: "Busy" }))
    if (tracked.state === "held") return Effect.succeed(waiters.grant(tracked, lease))
    // A claim that was requested earlier may be behind this one in the queue.
    const isFirst = !askingOrder.isAwaited(tracked) && waiters.localQueues.get(claim.key)?.hasEarlier(tracked) !== true
    if (granted && isFirst) {
      return Effect.map(waiters.grantOnFresh(tracked), (grant): Answer => grant ?? { _tag: "Gone" })
    }
    tracked.isRepeated = false
    waiters.applySnapshot(tracked, snapshot)
    return answerOf(tracked)
  }

  /** Withdraws a claim that got a place which it may not have, and then answers. */
  const giveUp = (
    tracked: TrackedClaim,
    answer: Effect.Effect<Answer, CallFailure>
  ): Effect.Effect<Answer, CallFailure> => {
    const { place } = tracked
    // Uninterruptible: the caller may give up before the answer, and the place must still be withdrawn.
    return Effect.uninterruptible(
      Effect.flatMap(
        Effect.exit(batcher.run(Transactions.withdraw(place, place.created, undefined, false))),
        (left) => {
          if (Exit.isSuccess(left)) noteLeft(place, left.value.value)
          registry.endId(tracked, now())
          forget(tracked, Exit.isSuccess(left) && Transactions.readWithdrawal(left.value.value).deleted)
          return answer
        }
      )
    )
  }

  const noteLeft = (place: Place, { header }: ITxnResponse): void =>
    waiters.queueOf(place.claim)?.noteWithdrawn(place.queueKey, BigInt(header.revision))

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
          waiters.queueOf(claim)?.noteWithdrawn(tracked.place.key, undefined)
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
    // The successor may have handed the lock over as well. The answer to its withdrawal tells whether the next claim exists, unless
    // that answer was here first: requests may overtake each other.
    const isAnswered = registry.withdrawn(successor.claim) === undefined
    const last = successor.isAwaitingSuccessor && !isAnswered ? successor.successor!.tracked : successor
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
      const queue = waiters.queueOf(claim)
      const asks = waited && (queue === undefined || queue.mayAskForHolder())
      return Effect.map(batcher.run(Transactions.withdraw(place, created, tombstoneLease, asks)), ({ value }) => {
        const { deleted, holder, length } = Transactions.readWithdrawal(value)
        if (asks) place.ahead = { holder, place: place.ahead.place, waiting: Math.max(1, length) }
        noteLeft(place, value)
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
      const [first, second] = found
      if (first === undefined || found.some(({ key }) => registry.isOurs(key.toString()))) return "notHeld"
      const { created, key: keyBytes } = first
      const place = { claim, keys: its, keyBytes, ...(second !== undefined && { exclusiveKey: second.key }) }
      const reply = yield* batcher.run(Transactions.withdraw(place, created, undefined, false))
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

  const shared = SharedRequests.make({ batcher, registry }, waiters, { put, forget, giveUp, refuse, answerOf })
  const { requestAll } = SeveralRequests.make(parts, waiters, epochs, {
    forget,
    giveUp,
    refuse,
    join,
    joinNow,
    noteAnswered,
    takeMutex: takeAnswer,
    takeShared: shared.take,
    isNotDone,
    tryLimit
  })

  return { request, requestAll, withdraw }
}

/** The answer to a claim that can have no place beside the claims on the key. */
const refuse = (foreign: Snapshot.Foreign): Effect.Effect<Answer, CallFailure> =>
  foreign === "newer" ? Effect.fail(newerFailure) : Effect.succeed(foreign)

const isNotDone = (outcome: Exit.Failure<unknown, CallFailure>): boolean => {
  const [reason] = outcome.cause.reasons
  return reason?._tag === "Fail" && reason.error.notDone
}

/** How long a try waits for its answer, in milliseconds. */
const tryLimit = 900

/** How long the claim's lease is: ttl plus guard gap, rounded up, because etcd's leases are whole seconds. */
const seconds = (claim: Claim): number =>
  Math.ceil((Duration.toMillis(claim.ttl) + Duration.toMillis(claim.guardGap)) / 1_000)

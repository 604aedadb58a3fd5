import type { LockBackendError } from "effect-dlock/LockError"
import { type Answer, callLimit, type Claim, refusalOf, type Withdrawn } from "effect-dlock/LockStore"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { ITxnResponse } from "etcd3"
import { backendError, type CallFailure, closedFailure, silentFailure } from "../client/failure.ts"
import type { Port, Reply } from "../client/port.ts"
import { Shared } from "../client/singleFlight.ts"
import { names } from "../protocol/keys.ts"
import type { Operation } from "../protocol/operation.ts"
import * as Queue from "../protocol/transactions.ts"
import { Epochs } from "./epochs.ts"
import type { Lease } from "./leases/leases.ts"
import type { Desk } from "./parts.ts"
import type { Seat } from "./queue/place.ts"
import type { Marks } from "./tombstones.ts"
import type { Entry } from "./trackedClaim.ts"
import type { Turns } from "./waiters.ts"

/** Asks for claims, and ends them: what goes to the server, and what may be made of its answer. */
export const make = (
  port: Port,
  { claims, fork, hasClosed, leases, line, liveness, now, outgoing, stir }: Desk,
  turns: Turns,
  marks: Marks
) => {
  const epochs = new Epochs()

  const request = (claim: Claim, mode: "queue" | "try"): Effect.Effect<Answer, LockBackendError> =>
    Effect.suspend(() => {
      const refusal = refusalOf(claim)
      if (refusal !== undefined) return Effect.fail(refusal)
      if (claims.hasEnded(claim)) return Effect.succeed<Answer>({ _tag: "Gone" })
      if (hasClosed()) return Effect.fail(backendError("acquire")(closedFailure))
      const entry = claims.open(claim)
      const asked = mode === "try"
        // It takes no place, and is to be answered within a second.
        ? Effect.timeoutOrElse(ask(entry, mode), { duration: tryLimit, orElse: () => Effect.fail(silentFailure) })
        : line.inTurn(entry, ask(entry, mode))
      return Effect.mapError(asked, backendError("acquire"))
    })

  /** On a lease that is known to live there is one call to make. */
  const ask = (entry: Entry, mode: "queue" | "try"): Effect.Effect<Answer, CallFailure> =>
    Effect.suspend(() => {
      if (hasClosed()) return Effect.fail(closedFailure)
      return entry.isOver ? Effect.succeed<Answer>({ _tag: "Gone" }) : askNow(entry, mode)
    })

  const askNow = (entry: Entry, mode: "queue" | "try"): Effect.Effect<Answer, CallFailure> => {
    const lease = entry.seat.lease ?? joinNow(entry)
    if (lease !== undefined && leases.isFresh(lease)) {
      stir(leases.dueAt(lease))
      return enter(entry, lease, mode)
    }
    return Effect.timeoutOrElse(askOnFresh(entry, mode), {
      duration: callLimit(entry.claim),
      orElse: () => Effect.fail(silentFailure)
    })
  }

  const joinNow = ({ claim, seat }: Entry) => leases.joinNow(seconds(claim), seat.key, seat)
  const join = ({ claim, seat }: Entry) => leases.join(seconds(claim), seat.key, seat)

  const askOnFresh = (entry: Entry, mode: "queue" | "try"): Effect.Effect<Answer, CallFailure> =>
    Effect.gen(function*() {
      const lease = entry.seat.lease ?? (yield* join(entry))
      stir(leases.dueAt(lease))
      yield* leases.freshen(lease)
      if (entry.isOver) return { _tag: "Gone" }
      return yield* lease.gone ? askAgain(entry, mode) : enter(entry, lease, mode)
    })

  const askAgain = (entry: Entry, mode: "queue" | "try"): Effect.Effect<Answer, CallFailure> =>
    Effect.suspend(() => {
      entry.seat.lease = undefined
      return ask(entry, mode)
    })

  const enter = (entry: Entry, lease: Lease<Seat>, mode: "queue" | "try"): Effect.Effect<Answer, CallFailure> => {
    if (mode === "queue") return enterSigned(entry, lease)
    if (entry.claim.capacity === 1) {
      return put(entry, lease, mode, (epoch) => Queue.enterIfEmpty(entry.seat, lease.id, epoch))
    }
    return Effect.flatMap(
      outgoing.run(Queue.look(entry.seat, 0n)),
      ({ value }) => enterIfFits(entry, lease, Queue.view(value, entry.claim))
    )
  }

  /** Where others behind it depend on it, a claim waits under a sign of life: the first to wait has that put there. */
  const enterSigned = (entry: Entry, lease: Lease<Seat>): Effect.Effect<Answer, CallFailure> => {
    const { claim: { capacity, key, prefix }, seat } = entry
    if (capacity > 1) return put(entry, lease, "queue", (epoch) => Queue.enter(seat, lease.id, epoch))
    const room = turns.rooms.get(key)
    const sign = liveness.signOf(prefix)
    const last = room?.lastOfCrowd()
    const operation = (epoch: Queue.Epoch) =>
      last === undefined
        ? Queue.enter(seat, lease.id, epoch, sign)
        : Queue.enterBehind(seat, lease.id, epoch, sign, last, last.created!)
    seat.life = sign === undefined ? undefined : liveness.lifeIn(prefix)
    if (room !== undefined) entry.askedSince = room.noteAsked()
    const asked = put(
      entry,
      lease,
      "queue",
      operation,
      ({ isUnsigned }) =>
        isUnsigned ? Effect.flatMap(liveness.show(prefix), () => enterSigned(entry, lease)) : undefined
    )
    return room === undefined ? asked : Effect.ensuring(asked, Effect.sync(() => room.noteAnswered()))
  }

  /**
   * A try for permits takes no place that it would have to leave again: others would count it meanwhile. Where somebody has
   * come since it looked it has been told who, and tries once more.
   */
  const enterIfFits = (entry: Entry, lease: Lease<Seat>, view: Queue.View): Effect.Effect<Answer, CallFailure> => {
    if (entry.isOver) return Effect.succeed({ _tag: "Gone" })
    const { claim } = entry
    if (view.own !== undefined || Queue.isMismatched(claim, view) || !Queue.fits(claim, view)) {
      return takeAnswer(entry, lease, "try", view)
    }
    // Not the revision of the answer: somebody may have come together with the look, behind it.
    const since = view.before[view.before.length - 1]?.created ?? 0n
    const operation = (epoch: Queue.Epoch) => Queue.enterIfNobodyCame(entry.seat, lease.id, epoch, since)
    const isMissed = ({ before, own }: Queue.View): boolean =>
      own === undefined && before.some(({ created }) => created > since)
    return put(entry, lease, "try", operation, (seen) => isMissed(seen) ? enterIfFits(entry, lease, seen) : undefined)
  }

  const put = (
    entry: Entry,
    lease: Lease<Seat>,
    mode: "queue" | "try",
    operation: (epoch: Queue.Epoch) => Operation,
    again: (view: Queue.View) => Effect.Effect<Answer, CallFailure> | undefined = () => undefined
  ): Effect.Effect<Answer, CallFailure> => {
    const { claim, seat } = entry
    const epoch = epochs.of(claim.prefix)
    const wasSent = entry.isSent
    seat.unanswered++
    entry.underWay++
    entry.isSent = true
    const onUnsent = () => {
      noteAnswered(entry, seat, true)
      entry.isSent = wasSent
    }
    const onLate = (outcome: Exit.Exit<Reply<ITxnResponse>, CallFailure>) => {
      if (Exit.isSuccess(outcome) && seat.created === undefined) {
        seat.standAs(Queue.view(outcome.value.value, seat.claim, epoch.base))
      }
      noteAnswered(entry, seat, Exit.isSuccess(outcome) ? !outcome.value.doubled : isNotDone(outcome))
    }
    return Effect.matchEffect(outgoing.run({ ...operation(epoch), onUnsent, onLate }), {
      onSuccess: ({ doubled, value }) => {
        // An answer to a second sending says nothing of the first.
        noteAnswered(entry, seat, !doubled)
        // Nobody would tell it any more that its turn has come.
        if (hasClosed()) return Effect.fail(closedFailure)
        if (entry.isOver) return Effect.succeed<Answer>({ _tag: "Gone" })
        // Gone while the answer was on its way, and what was put on it with it.
        if (lease.gone) return askAgain(entry, mode)
        const current = Queue.epochIn(value)
        if (current !== undefined && current.text !== epoch.text) {
          const learnt = epochs.learn(claim.prefix, current.text)
          return Effect.flatMap(learnt, () => put(entry, lease, mode, operation, again))
        }
        const view = Queue.view(value, seat.claim, epoch.base)
        return again(view) ?? takeAnswer(entry, lease, mode, view)
      },
      onFailure: (failure) => {
        noteAnswered(entry, seat, failure.notDone)
        if (!failure.leaseGone) return Effect.fail(failure)
        leases.lost(lease)
        return entry.isOver ? Effect.succeed<Answer>({ _tag: "Gone" }) : askAgain(entry, mode)
      }
    })
  }

  /** `isKnown`: what became of the request. */
  const noteAnswered = (entry: Entry, seat: Seat, isKnown: boolean): void => {
    if (isKnown) seat.unanswered--
    if (--entry.underWay === 0) entry.settled?.end(Exit.void)
  }

  const takeAnswer = (
    entry: Entry,
    lease: Lease<Seat>,
    mode: "queue" | "try",
    view: Queue.View
  ): Effect.Effect<Answer, CallFailure> => {
    const { claim, seat } = entry
    if (view.own === undefined) {
      // Cancelled before, or a try that found somebody there.
      const busy = mode === "try" && view.before.length > 0
      const mismatched = busy && Queue.isMismatched(claim, view)
      forget(entry, true)
      return Effect.succeed({ _tag: mismatched ? "CapacityMismatch" : busy ? "Busy" : "Gone" })
    }
    const mismatched = Queue.isMismatched(claim, view)
    const granted = Queue.isGranted(claim, view)
    // It was held, had gone, and this request has put it there anew: the grant was for another place.
    const displaced = entry.state === "held" && seat.created !== view.own
    seat.standAs(view)
    if (mismatched || displaced || (mode === "try" && !granted)) {
      // Who asked may have no more time to hear of it.
      return Effect.uninterruptible(
        Effect.map(
          Effect.exit(outgoing.run(Queue.leave(seat, view.own, undefined, false))),
          (left) => {
            claims.endId(entry, now())
            forget(entry, Exit.isSuccess(left) && Queue.left(left.value.value).deleted)
            return { _tag: displaced ? "Gone" : mismatched ? "CapacityMismatch" : "Busy" }
          }
        )
      )
    }
    if (entry.state === "held") return Effect.succeed(turns.grant(entry, lease))
    // What was asked for before it may stand behind it.
    const isFirst = !line.isAwaited(entry) && turns.rooms.get(claim.key)?.hasEarlier(entry) !== true
    if (granted && isFirst) {
      return Effect.map(turns.grantOnFresh(entry), (grant): Answer => grant ?? { _tag: "Gone" })
    }
    entry.isRepeated = false
    return Effect.flatMap(turns.settle(entry, view), () => standing(entry))
  }

  const standing = (entry: Entry): Effect.Effect<Answer> => {
    const { ahead, lease } = entry.seat
    if (entry.state === "held" && lease !== undefined) return Effect.succeed(turns.grantedBy(entry, lease))
    if (entry.state !== "queued") return Effect.succeed({ _tag: "Gone" })
    return Effect.succeed({
      _tag: "Queued",
      place: ahead.place,
      ahead: () => entry.seat.ahead,
      granted: Deferred.await(entry.granted)
    })
  }

  /**
   * Its id is over. A request of it that may yet be executed is swept, or finds the mark of its withdrawal. Its name is
   * another's from now on, if nothing is left under it and nothing will be.
   */
  const forget = (entry: Entry, isLeft: boolean): void => {
    claims.over(entry)
    if (isLeft && entry.seat.unanswered === 0) return claims.slots.free(entry.seat.slot)
    claims.slots.endEpoch()
    if (entry.seat.unanswered > 0) fork(Effect.ignore(leave(entry, false)))
  }

  const withdraw = (claim: Claim): Effect.Effect<Withdrawn, LockBackendError> =>
    Effect.suspend(() => {
      const debt = debts.get(claim.id)
      if (debt !== undefined) return Effect.as(payOff(claim.id, debt), "released")
      const known = claims.find(claim.id)
      const state = known?.state
      if (state === "held" && known!.seat.unanswered === 0) {
        known!.heir = turns.rooms.get(claim.key)?.handOver(known!.seat)
      }
      const entry = claims.leaving(claim, now())
      if (entry === undefined) return withdrawStranger(claim)
      return Effect.matchEffect(leave(entry, state === "queued"), {
        onFailure: (failure) => {
          turns.rooms.get(claim.key)?.noteWithdrawn(entry.seat.key, undefined)
          claims.slots.endEpoch()
          return Effect.fail(backendError("release")(failure))
        },
        onSuccess: (deleted) => {
          if (!isOwed(entry)) claims.noteWithdrawn(entry)
          if (!deleted) return Effect.succeed(entry.isSent ? "notHeld" : "notSent")
          return Effect.succeed(state === "queued" ? "cancelled" : "released")
        }
      })
    })

  /**
   * Claims that keep the others out for one behind them that was let in and then was deleted by somebody: by the id of that
   * one, until its section has ended.
   */
  const debts = new Map<string, Entry>()

  const isOwed = (entry: Entry): boolean => entry.heir !== undefined && debts.get(entry.heir.entry.claim.id) === entry

  const payOff = (heir: string, entry: Entry): Effect.Effect<void> =>
    Effect.suspend(() => {
      if (!debts.delete(heir)) return Effect.void
      const { created, key, lease } = entry.seat
      leases.leave(lease!, key)
      return Effect.match(leaveOnly(entry, created!, undefined, false), {
        onFailure: () => claims.slots.endEpoch(),
        onSuccess: () => claims.noteWithdrawn(entry)
      })
    })

  /** Where the one that was let in has gone, this one stays until its section has ended, or can no longer go on. */
  const leaveTo = (entry: Entry, heirSeat: Seat): Effect.Effect<boolean, CallFailure> => {
    const { seat } = entry
    const [created, itsCreated] = [seat.created!, heirSeat.created!]
    const onQueued = () => turns.rooms.get(seat.claim.key)?.goOn()
    const operation = { ...Queue.leaveTo(seat, created, heirSeat, itsCreated), onQueued }
    return Effect.map(outgoing.run(operation), ({ value }) => {
      const { entry: heir } = heirSeat
      const { isDeleted, isHeirThere, isThere } = Queue.leftTo(value, created, itsCreated)
      if (isDeleted || !isThere) turns.rooms.get(seat.claim.key)?.noteWithdrawn(seat.key, BigInt(value.header.revision))
      if (isDeleted) return true
      if (isHeirThere || !isThere) {
        if (!isHeirThere) claims.markGone(heir)
        return false
      }
      debts.set(heir.claim.id, entry)
      seat.lease!.claims.set(seat.key, seat)
      const isInside = heir.state === "held"
      claims.markGone(heir, true)
      fork(Effect.delay(payOff(heir.claim.id, entry), isInside ? Math.max(0, Math.ceil(heir.until - now())) : 0))
      return true
    })
  }

  /** Whether anything was deleted. With a mark, where a request may yet arrive; then its name is not used again. */
  const leave = (entry: Entry, waited: boolean): Effect.Effect<boolean, CallFailure> => {
    if (entry.underWay === 0) return leaveNow(entry, waited)
    // Its answer spares a mark, which would stay for a quarter of an hour.
    entry.settled ??= new Shared()
    const settled = Effect.timeoutOption(entry.settled.await, callLimit(entry.claim))
    return Effect.flatMap(settled, () => leaveNow(entry, waited))
  }

  const leaveNow = (entry: Entry, waited: boolean): Effect.Effect<boolean, CallFailure> => {
    if (entry.seat.unanswered === 0) {
      // What was refused, or never sent, is nowhere.
      const { created } = entry.seat
      if (created === undefined) return Effect.succeed(false)
      const { heir } = entry
      // A repeat, when that one has been released in its turn.
      if (heir === undefined || heir.entry.isOver) return leaveOnly(entry, created, undefined, waited)
      return leaveTo(entry, heir)
    }
    claims.slots.endEpoch()
    return Effect.timeoutOrElse(
      Effect.flatMap(marks.lease, (lease) => marked(leaveOnly(entry, undefined, lease, waited), lease)),
      { duration: callLimit(entry.claim), orElse: () => Effect.fail(silentFailure) }
    )
  }

  const leaveOnly = (entry: Entry, created: bigint | undefined, mark: string | undefined, waited: boolean) =>
    Effect.suspend(() => {
      const { claim, seat } = entry
      const room = turns.rooms.get(claim.key)
      const asks = waited && (room === undefined || room.mayAskForHolder())
      return Effect.map(outgoing.run(Queue.leave(seat, created, mark, asks)), ({ value }) => {
        const { deleted, holder, length } = Queue.left(value)
        if (asks) seat.ahead = { holder, place: seat.ahead.place, waiting: Math.max(1, length) }
        room?.noteWithdrawn(seat.key, BigInt(value.header.revision))
        return deleted
      })
    })

  /** A claim of which this process knows nothing but the id: it may have been asked for, here before or elsewhere. */
  const withdrawStranger = (claim: Claim): Effect.Effect<Withdrawn, LockBackendError> =>
    Effect.gen(function*() {
      const its = names(claim.key, claim.prefix)
      const lease = yield* marks.lease
      const { value } = yield* marked(port.txn(Queue.cancel(its, claim.id, lease), callLimit(claim)), lease)
      const found = Queue.found(value, claim.id)
      // Where two of ours have exchanged their seats another stands under its id.
      if (found === undefined || claims.isOurs(found.place.toString())) return "notHeld"
      const place = { claim, names: its, place: found.place }
      const reply = yield* outgoing.run(Queue.leave(place, found.created, undefined, false))
      return Queue.left(reply.value).deleted ? "released" : "notHeld"
    }).pipe(
      Effect.timeoutOrElse({ duration: callLimit(claim), orElse: () => Effect.fail(silentFailure) }),
      Effect.mapError(backendError("release"))
    )

  const marked = <A>(call: Effect.Effect<A, CallFailure>, lease: string) =>
    Effect.tapError(call, (failure) =>
      Effect.sync(() => {
        if (failure.leaseGone) marks.forgetLease(lease)
      }))

  return { request, withdraw }
}

const isNotDone = (outcome: Exit.Failure<unknown, CallFailure>): boolean => {
  const [reason] = outcome.cause.reasons
  return reason?._tag === "Fail" && reason.error.notDone
}

/** Milliseconds. */
const tryLimit = 900

/** Leases are whole seconds: as many as hold the claim's own time and the guard gap behind it. */
const seconds = (claim: Claim): number =>
  Math.ceil((Duration.toMillis(claim.ttl) + Duration.toMillis(claim.guardGap)) / 1_000)

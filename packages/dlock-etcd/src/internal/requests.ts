import type { LockBackendError } from "effect-dlock/LockError"
import type { Answer, Claim, Withdrawn } from "effect-dlock/LockStore"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { Entry, limitOf } from "./entry.ts"
import { backendError, type CallFailure } from "./failure.ts"
import type { Marks } from "./marks.ts"
import * as Queue from "./queue.ts"
import type { Desk, Turns } from "./turns.ts"

/** Asks for claims, and ends them: what goes to the server, and what may be made of its answer. */
export const make = ({ claims, fork, leases, port, stir }: Desk, turns: Turns, marks: Marks) => {
  const isOver = (entry: Entry): boolean => entry.state === "over"

  const request = (claim: Claim, mode: "queue" | "try"): Effect.Effect<Answer, LockBackendError> =>
    Effect.suspend(() => Effect.mapError(ask(claims.open(claim), mode), backendError("acquire")))

  const ask = (entry: Entry, mode: "queue" | "try"): Effect.Effect<Answer, CallFailure> =>
    Effect.gen(function*() {
      const { claim } = entry
      const lease = entry.lease ?? (yield* leases.join(seconds(claim), entry.key, entry))
      stir(leases.dueAt(lease))
      yield* leases.freshen(lease)
      if (isOver(entry)) return { _tag: "Gone" }
      if (lease.gone) return yield* askAgain(entry, mode)
      const enter = mode === "try" && claim.capacity === 1 ? Queue.enterIfEmpty : Queue.enter
      entry.unanswered++
      const reply = yield* port.txn(enter(entry.names, claim, lease.id), limitOf(claim)).pipe(
        // An answer to a second sending says nothing of the first.
        Effect.tap(({ doubled }) => Effect.sync(() => doubled || entry.unanswered--)),
        Effect.catch((failure: CallFailure) => {
          if (failure.notDone) entry.unanswered--
          if (!failure.leaseGone) return Effect.fail(failure)
          leases.lost(lease)
          return Effect.undefined
        })
      )
      if (isOver(entry)) return { _tag: "Gone" }
      // Gone while the answer was on its way, and what was put on it with it.
      if (reply === undefined || lease.gone) return yield* askAgain(entry, mode)
      const view = Queue.view(reply.value)
      if (view.own === undefined) {
        // Cancelled before, or a try that found somebody there.
        const busy = mode === "try" && view.before.length > 0
        const mismatched = busy && Queue.isMismatched(claim, view)
        forget(entry)
        return { _tag: mismatched ? "CapacityMismatch" : busy ? "Busy" : "Gone" }
      }
      const mismatched = Queue.isMismatched(claim, view)
      // It was held, had gone, and this request has put it there anew: the grant was for another place.
      const displaced = entry.state === "held" && entry.created !== view.own
      if (mismatched || displaced || (mode === "try" && !Queue.isGranted(claim, view))) {
        yield* Effect.ignore(port.txn(Queue.leave(entry.names, claim, view.own, undefined)))
        forget(entry)
        return { _tag: displaced ? "Gone" : mismatched ? "CapacityMismatch" : "Busy" }
      }
      entry.created = view.own
      if (entry.state === "held") return turns.isGranted(entry, lease)
      yield* turns.settle(entry, view)
      return yield* standing(entry)
    })

  const askAgain = (entry: Entry, mode: "queue" | "try"): Effect.Effect<Answer, CallFailure> =>
    Effect.suspend(() => {
      entry.lease = undefined
      return ask(entry, mode)
    })

  const standing = (entry: Entry): Effect.Effect<Answer> => {
    if (entry.state === "held" && entry.lease !== undefined) return Effect.succeed(turns.grantedBy(entry, entry.lease))
    if (entry.state !== "queued") return Effect.succeed({ _tag: "Gone" })
    return Effect.succeed({
      _tag: "Queued",
      place: entry.ahead.place,
      ahead: () => entry.ahead,
      granted: Deferred.await(entry.granted)
    })
  }

  /** Its id is over. A request of it that may yet be executed is swept, or finds the mark of its withdrawal. */
  const forget = (entry: Entry): void => {
    claims.over(entry)
    if (entry.unanswered > 0) fork(Effect.ignore(withdrawEntry(entry, true)))
  }

  const withdraw = (claim: Claim): Effect.Effect<Withdrawn, LockBackendError> =>
    Effect.suspend(() => {
      const entry = claims.find(claim.id)
      const known = entry ?? new Entry(claim)
      const { state } = known
      if (entry !== undefined) claims.over(entry)
      return Effect.map(
        Effect.mapError(withdrawEntry(known, entry === undefined || known.unanswered > 0), backendError("release")),
        (deleted) => deleted ? (state === "queued" ? "cancelled" : "released") : "notHeld"
      )
    })

  const withdrawEntry = (entry: Entry, mark: boolean): Effect.Effect<boolean, CallFailure> =>
    Effect.gen(function*() {
      const lease = mark ? yield* marks.lease : undefined
      const created = mark ? undefined : entry.created
      const leave = port.txn(Queue.leave(entry.names, entry.claim, created, lease), limitOf(entry.claim))
      const { value } = yield* Effect.tapError(leave, (failure) =>
        Effect.sync(() => {
          if (failure.leaseGone && lease !== undefined) marks.isGone(lease)
        }))
      const { deleted, holder, length } = Queue.left(value)
      entry.ahead = { holder, place: entry.ahead.place, waiting: Math.max(1, length) }
      return deleted
    })

  return { request, withdraw }
}

/** Leases are whole seconds: as many as hold the claim's own time and the guard gap behind it. */
const seconds = (claim: Claim): number =>
  Math.ceil((Duration.toMillis(claim.ttl) + Duration.toMillis(claim.guardGap)) / 1_000)

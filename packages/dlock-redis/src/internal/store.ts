import { LockBackendError } from "effect-dlock/LockError"
import {
  type Answer,
  callLimit,
  type Claim,
  type Held,
  LockStore,
  type Renewal,
  type Withdrawn
} from "effect-dlock/LockStore"
import * as Arr from "effect/Array"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import { chunks } from "./chunks.ts"
import { Claims, labelOf, toMillis } from "./claims.ts"
import type { Entry } from "./entry.ts"
import { backendError, silent } from "./failure.ts"
import { type Names, names } from "./names.ts"
import type { CallFailure, Port } from "./port.ts"
import * as Replicas from "./replicas.ts"
import * as Scripts from "./scripts.ts"
import * as Upkeep from "./upkeep.ts"

export interface StoreOptions {
  /** Stands before every name, as the client's own `keyPrefix` would. */
  readonly keyPrefix: string
  /** Milliseconds. */
  readonly retryInterval: number
  /** Milliseconds that one call of the store's own making may take. */
  readonly callLimit: number
  /** Whether a release frees the key for everybody instead of handing it to the next in line. */
  readonly interop: boolean
  /** Replicas that must have a grant before it counts. */
  readonly waitReplicas: number
}

/**
 * The store over a port: the client's half of the protocol. The scripts decide; this keeps what may be believed, asks
 * again where a message may be missing, and ends every claim that was ever asked for.
 */
export const make = Effect.fnUntraced(function*(port: Port, options: StoreOptions) {
  const { interop, waitReplicas } = options
  const clock = yield* Clock.clockWith(Effect.succeed)
  const fork = yield* FiberSet.makeRuntime<never>()
  const claims = new Claims(options.keyPrefix, options.retryInterval)

  const leave = (names: Names, id: string, mark: boolean, limit?: number) =>
    port.run(Scripts.leave, { names, id, mark, interop }, undefined, limit)

  /** Ends a claim that nobody waits for, without anybody waiting for that. */
  const leaveBehind = (names: Names, id: string, mark: boolean): void => {
    fork(Effect.ignore(Effect.timeoutOption(leave(names, id, mark), options.callLimit)))
  }

  /** Its id is over. A request that may yet run must find it cancelled. */
  const forget = (entry: Entry): void => {
    claims.end(entry)
    if (entry.unanswered > 0) leaveBehind(entry.names, entry.claim.id, true)
  }

  const request = (claim: Claim, mode: "queue" | "try"): Effect.Effect<Answer, LockBackendError> =>
    Effect.suspend(() => {
      // Its leave may run at any time, and would end what this grants.
      if (claims.find(claim.id)?.state === "leaving") return Effect.succeed<Answer>({ _tag: "Gone" })
      const entry = claims.asked(claim, clock.monotonicTimeNanosUnsafe())
      const limit = callLimit(claim) - (waitReplicas === 0 ? 0 : Replicas.limitOf(claim))
      return Effect.matchEffect(port.run(Scripts.acquire, acquireArgs(entry, mode), entry, limit), {
        onFailure: (failure) => Effect.fail(backendError("acquire")(failure)),
        onSuccess: ({ sentAt, value }) =>
          waitReplicas === 0 || value._tag !== "Granted"
            ? Effect.succeed(answer(entry, sentAt, value))
            : confirmed(entry, value.token, sentAt)
      })
    })

  const acquireArgs = ({ claim, names }: Entry, mode: "queue" | "try"): Scripts.AcquireArgs => ({
    names,
    id: claim.id,
    inbox: port.inbox,
    ttl: Duration.toMillis(claim.ttl),
    guard: Duration.toMillis(claim.guardGap),
    permits: claim.permits,
    capacity: claim.capacity,
    mode,
    label: claim.holder
  })

  const answer = (entry: Entry, sentAt: bigint, reply: Scripts.AcquireReply): Answer => {
    switch (reply._tag) {
      case "Granted":
        return claims.isGranted(entry, reply.token, sentAt)
      case "Queued":
        claims.isQueued(entry, sentAt, reply)
        return {
          _tag: "Queued",
          place: entry.ahead.place,
          ahead: () => entry.ahead,
          granted: Deferred.await(entry.granted)
        }
      case "Busy":
        forget(entry)
        return { _tag: "Busy" }
      case "Mismatch":
        forget(entry)
        return { _tag: "CapacityMismatch" }
      case "Cancelled":
        forget(entry)
        return { _tag: "Gone" }
    }
  }

  /** A grant that too few replicas have is given back. */
  const confirmed = (entry: Entry, token: bigint, sentAt: bigint): Effect.Effect<Answer> => {
    claims.isConfirming(entry)
    return Effect.map(Replicas.confirm(port, waitReplicas, entry, token), (enough): Answer => {
      if (enough) return claims.isGranted(entry, token, sentAt)
      giveBack(entry)
      return Replicas.tooFew(waitReplicas)
    })
  }

  /** Leaves a claim that nobody waits for. Until the server has answered it is known as one that is leaving. */
  const giveBack = (entry: Entry): void => {
    claims.leave(entry)
    const { claim, names } = entry
    fork(
      Effect.suspend(() => leave(names, claim.id, entry.unanswered > 0)).pipe(
        Effect.retry({ while: ({ retryable }) => retryable, schedule: Schedule.spaced(leaveAgainAfter) }),
        Effect.timeoutOption(Duration.sum(claim.ttl, claim.guardGap)),
        Effect.ignore,
        Effect.andThen(Effect.sync(() => claims.end(entry)))
      )
    )
  }

  /** A waiting claim was granted. With replicas to wait for, it is told so when they have the grant. */
  const isGranted = (entry: Entry, token: bigint, sentAt: bigint): void => {
    if (waitReplicas === 0) return void claims.isGranted(entry, token, sentAt)
    claims.isConfirming(entry)
    fork(Effect.map(Replicas.confirm(port, waitReplicas, entry, token), (enough) => {
      if (entry.state !== "confirming") return
      if (enough) return void claims.isGranted(entry, token, sentAt)
      giveBack(entry)
      Deferred.doneUnsafe(entry.granted, Effect.succeed(Replicas.tooFew(waitReplicas)))
    }))
  }

  const isGone = (entry: Entry): void => {
    forget(entry)
    Deferred.doneUnsafe(entry.granted, Effect.succeed({ _tag: "Gone" }))
  }

  const withdraw = (claim: Claim): Effect.Effect<Withdrawn, LockBackendError> =>
    Effect.suspend(() => {
      const names = claims.namesOf(claim)
      const entry = claims.find(claim.id)
      // A claim that is not known any more may have been asked for; better a mark too many.
      const mark = entry === undefined || entry.unanswered > 0
      if (entry !== undefined) claims.end(entry)
      return Effect.matchEffect(leave(names, claim.id, mark, callLimit(claim)), {
        onFailure: (failure) => Effect.fail(backendError("release")(failure)),
        onSuccess: ({ value }) => {
          if (value._tag === "Released") return Effect.succeed("released")
          if (entry !== undefined) {
            entry.ahead = { holder: labelOf(value.holder), place: entry.ahead.place, waiting: value.length + 1 }
          }
          return Effect.succeed(value._tag === "Cancelled" ? "cancelled" : "notHeld")
        }
      })
    })

  const renewSome = (held: ReadonlyArray<Held>): Effect.Effect<ReadonlyArray<Renewal>, CallFailure> =>
    Effect.map(
      port.run(Scripts.renew, {
        claims: held.map(({ claim, fencingToken }) => ({
          names: claims.namesOf(claim),
          id: claim.id,
          token: fencingToken,
          ttl: Duration.toMillis(claim.ttl),
          guard: Duration.toMillis(claim.guardGap),
          capacity: claim.capacity
        }))
      }),
      ({ sentAt, value }) =>
        value.map((reply, index): Renewal => {
          if (reply === "ok") return { _tag: "Confirmed", confirmedAt: sentAt }
          const entry = claims.find(held[index]!.claim.id)
          if (entry !== undefined) forget(entry)
          return { _tag: reply === "expired" ? "Gone" : "Replaced" }
        })
    )

  /** While their slot moves, locks that are not all on one side of the move are refused together and served apart. */
  const renewTogetherOrApart = (held: ReadonlyArray<Held>): Effect.Effect<ReadonlyArray<Renewal>> =>
    renewSome(held).pipe(
      Effect.catchIf(
        ({ cause }) => held.length > 1 && cause.message.startsWith("TRYAGAIN"),
        () => Effect.map(Effect.forEach(held, (one) => renewInTime([one]), { concurrency: "unbounded" }), Arr.flatten)
      ),
      Effect.catch((failure) => Effect.succeed(unknown(held, failure)))
    )

  /**
   * A call ends before the limit of the core is over for all of them: what one node of a cluster does not answer costs
   * the locks on the others nothing.
   */
  const renewInTime = (held: ReadonlyArray<Held>): Effect.Effect<ReadonlyArray<Renewal>> =>
    Effect.timeoutOrElse(renewTogetherOrApart(held), {
      duration: Math.min(...held.map(({ claim }) => Duration.toMillis(claim.ttl))) / 8,
      orElse: () => Effect.succeed(unknown(held, silent))
    })

  /** As many claims a call as the server takes: on a cluster those of one slot. */
  const renew = (held: ReadonlyArray<Held>): Effect.Effect<ReadonlyArray<Renewal>> => {
    if (held.length <= renewalsPerCall && (held.length === 1 || !port.slotted)) return renewInTime(held)
    const indexes = Array.from(held.keys())
    const slots = port.slotted
      ? Array.from(Map.groupBy(indexes, (index) => claims.namesOf(held[index]!.claim).hashed).values())
      : [indexes]
    const calls = slots.flatMap((slot) => chunks(slot, renewalsPerCall))
    return Effect.map(
      Effect.forEach(calls, (call) => renewInTime(call.map((index) => held[index]!)), { concurrency: "unbounded" }),
      (answers) => {
        const all: Array<Renewal> = []
        calls.forEach((call, nth) => call.forEach((index, place) => (all[index] = answers[nth]![place]!)))
        return all
      }
    )
  }

  const hear = (message: string): void => {
    const push = Scripts.decodePush(message)
    if (push === undefined) return
    if (push._tag === "Wake") return claims.hurry(toMillis(clock.monotonicTimeNanosUnsafe()), push.lock)
    const entry = claims.find(push.id)
    if (entry === undefined) {
      // A late ghost, or somebody else's joke: either way nobody here will ever release it.
      const lock = names(push.lock)
      return lock === undefined ? undefined : leaveBehind(lock, push.id, true)
    }
    if (entry.state !== "asking" && entry.state !== "queued") return
    const sentAt = entry.isKnownElsewhere ? undefined : entry.baseOf(push.token, clock.monotonicTimeNanosUnsafe())
    if (sentAt !== undefined) return isGranted(entry, push.token, sentAt)
    entry.refreshAt = 0
    claims.stirred.openUnsafe()
  }

  // Those who still wait when the store goes would never hear of it. They withdraw by themselves; the same once more,
  // behind them on the one connection, tells when that is done.
  yield* Effect.addFinalizer(() => {
    const left = claims.all().filter(({ state }) => state !== "held")
    const cause = new Error("the store has been closed")
    const failed = Effect.fail(new LockBackendError({ operation: "wait", retryable: false, cause }))
    for (const entry of left) Deferred.doneUnsafe(entry.granted, failed)
    return Effect.timeoutOption(
      Effect.forEach(
        left,
        ({ claim, names, unanswered }) => Effect.ignore(leave(names, claim.id, unanswered > 0)),
        { concurrency: "unbounded" }
      ),
      options.callLimit
    )
  })

  port.onMessage(hear)
  port.onLeft(() => claims.isLeft())
  port.onReconnect(() => claims.hurry(toMillis(clock.monotonicTimeNanosUnsafe())))
  yield* Upkeep.keep(port, claims, options.callLimit, { granted: isGranted, gone: isGone })

  return LockStore.of({ request, renew, withdraw, bounded: true, losses: Stream.empty })
})

const renewalsPerCall = 256

/** Milliseconds. */
const leaveAgainAfter = 100

const unknown = (held: ReadonlyArray<Held>, failure: CallFailure): ReadonlyArray<Renewal> => {
  const error = backendError("renew")(failure)
  return held.map(() => ({ _tag: "Unknown", error }))
}

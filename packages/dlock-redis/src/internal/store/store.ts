import { LockBackendError } from "effect-dlock/LockError"
import {
  type Answer,
  callLimit,
  type Claim,
  type Gone,
  type Granted,
  type Held,
  LockStore,
  refusalOf,
  type Renewal,
  type Withdrawn
} from "effect-dlock/LockStore"
import * as Arr from "effect/Array"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Function from "effect/Function"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import { backendError } from "../client/failure.ts"
import type { CallFailure, Port, Reply } from "../client/port.ts"
import * as Scripts from "../protocol/index.ts"
import { type Names, names } from "../protocol/keys.ts"
import { chunks } from "./chunks.ts"
import { labelOf } from "./queueGroup.ts"
import { Claims } from "./registry.ts"
import * as Replicas from "./replicas.ts"
import * as Timing from "./timing.ts"
import { type Entry, toMillis } from "./trackedClaim.ts"
import * as Waiting from "./waiters.ts"

export interface StoreOptions {
  /** Stands before every name, as the client's own `keyPrefix` would. */
  readonly keyPrefix: string
  /** Milliseconds. */
  readonly retryInterval: number
  /** Milliseconds that one call of the store's own making may take. */
  readonly operationTimeout: number
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
  const claims = new Claims(options.keyPrefix)
  const now = () => toMillis(clock.monotonicTimeNanosUnsafe())
  let isClosing = false
  const waiting = yield* Waiting.make(port, options.retryInterval, {
    onGranted: (entry, token, sentAt) => grant(entry, token, sentAt),
    onGone: (entry) => lose(entry)
  })

  const request = (
    claim: Claim,
    mode: "queue" | "try",
    until = Infinity
  ): Effect.Effect<Answer, LockBackendError> =>
    Effect.suspend(() => {
      // What is granted from now on nobody would leave.
      if (isClosing) {
        claims.refuse(claim, now())
        return closed
      }
      const known = claims.find(claim.id)
      // Its leave may run at any time, and would end what this grants.
      if (known?.isOver === true) return Effect.succeed<Answer>({ _tag: "Gone" })
      const entry = known ?? claims.open(claim)
      known?.ask()
      const refusal = refusalOf(claim)
      if (refusal !== undefined) {
        // Nor does its withdrawal have anything to end.
        giveUp(entry, true)
        return Effect.fail(refusal)
      }
      const longest = mode === "try" ? Math.min(callLimit(claim), tryLimit) : callLimit(claim)
      const reserve = waitReplicas === 0 ? 0 : Replicas.limitOf(claim, longest)
      const limit = (until === Infinity ? longest : until - now()) - reserve
      return Effect.matchEffect(port.run(Scripts.acquire, acquireArgs(entry, mode), entry, limit), {
        onFailure: (failure) => Effect.fail(backendError("acquire")(failure)),
        onSuccess: ({ sentAt, value }) => {
          // Who asked has left it meanwhile; its leave comes behind this, and ends what it was given.
          if (entry.isOver) return Effect.succeed<Answer>({ _tag: "Gone" })
          if (value._tag === "Busy" && value.more && value.holder === undefined) {
            // Nobody has it: more dead ones wait there than one call gets through with, and the next goes on.
            const end = Math.min(until, toMillis(sentAt) + longest)
            if (now() + reserve < end) return request(claim, mode, end)
          }
          return waitReplicas === 0 || value._tag !== "Granted"
            ? Effect.succeed(takeAnswer(entry, sentAt, value))
            : confirm(entry, value.token, sentAt, reserve)
        }
      })
    })

  const acquireArgs = ({ claim, guard, names, ttl }: Entry, mode: "queue" | "try"): Scripts.AcquireArgs => ({
    names,
    id: claim.id,
    inbox: port.inbox,
    ttl,
    guard,
    permits: claim.permits,
    capacity: claim.capacity,
    mode,
    label: claim.holder,
    inside: claim.inside
  })

  const takeAnswer = (entry: Entry, sentAt: bigint, reply: Scripts.AcquireReply): Answer => {
    if ("more" in reply && reply.more) waiting.moveOn(entry.names, entry.claim.capacity)
    switch (reply._tag) {
      case "Granted":
        return entry.grant(reply.token, sentAt)
      case "Queued":
        waiting.place(entry, sentAt, reply)
        return {
          _tag: "Queued",
          place: reply.place,
          ahead: () => waiting.aheadOf(entry),
          granted: Deferred.await(entry.granted)
        }
      case "Busy":
        giveUp(entry)
        return { _tag: "Busy" }
      case "AlreadyHeld":
        giveUp(entry)
        return { _tag: "AlreadyHeld", fencingToken: reply.token }
      case "Mismatch":
        giveUp(entry)
        return { _tag: "CapacityMismatch" }
      case "Cancelled":
        giveUp(entry)
        return { _tag: "Gone" }
    }
  }

  /** A grant counts when enough replicas have it; else it is given back. */
  const confirm = (entry: Entry, token: bigint, sentAt: bigint, limit: number): Effect.Effect<Granted | Gone> => {
    entry.state = "confirming"
    return Effect.map(Replicas.confirm(port, waitReplicas, entry, token, limit), (confirmed): Granted | Gone => {
      // Whoever asked may have given up, and left it.
      if (entry.state !== "confirming") return { _tag: "Gone" }
      if (confirmed === "enough") return entry.grant(token, sentAt)
      if (confirmed === "tooFew") {
        leaveBehind(entry)
        return Replicas.tooFew(waitReplicas)
      }
      giveUp(entry)
      return { _tag: "Gone" }
    })
  }

  /** A waiting claim was granted. */
  const grant = (entry: Entry, token: bigint, sentAt: bigint): void => {
    waiting.remove(entry, token)
    if (waitReplicas === 0) return void entry.grant(token, sentAt)
    const limit = Replicas.limitOf(entry.claim, callLimit(entry.claim))
    fork(Effect.map(confirm(entry, token, sentAt, limit), (answer) => {
      if (answer._tag === "Gone") entry.end(Effect.succeed(answer))
    }))
  }

  /** Neither held nor queued. A request that may yet run must find it cancelled. */
  const giveUp = (entry: Entry, isExpectingMore?: boolean): void => {
    if (entry.isInDoubt) leaveBehind(entry)
    else claims.end(entry, now(), isExpectingMore)
  }

  const lose = (entry: Entry): void => {
    waiting.remove(entry)
    giveUp(entry)
    entry.end(Effect.succeed({ _tag: "Gone" }))
  }

  /**
   * The one way in which a claim ends that a server may know. From here on it is leaving: it is not asked for again, and
   * what still comes for it is not for us. It is left behind its own request, whose answer tells that no other comes
   * after; where that answer is lost, with a mark.
   */
  const leave = <A, E>(
    entry: Entry,
    limit: number | undefined,
    told: (reply: Scripts.LeaveReply) => A,
    failed: (failure: CallFailure) => E
  ): Effect.Effect<A, E> => {
    const { claim, names } = entry
    entry.state = "leaving"
    waiting.remove(entry)
    const send = () =>
      entry.isUnheardOf ? unheardOf : port.run(
        Scripts.leave,
        { names, id: claim.id, capacity: claim.capacity, mark: entry.isInDoubt, interop },
        undefined,
        limit
      )
    return Effect.matchEffect(entry.isSettled ? send() : Effect.flatMap(entry.settled, send), {
      onFailure: (failure) => {
        claims.endLater(entry, now() + entry.ttl + entry.guard, now())
        return Effect.fail(failed(failure))
      },
      onSuccess: ({ value }) => {
        claims.end(entry, now())
        if (value.more) waiting.moveOn(names, claim.capacity)
        return Effect.succeed(told(value))
      }
    })
  }

  /** The same where nobody asks what the server said. */
  const leaveSilently = (entry: Entry): Effect.Effect<void, CallFailure> =>
    Effect.suspend(() => leave(entry, undefined, Function.constVoid, Function.identity))

  /** The same for a claim that nobody waits for: whatever refuses it, credentials too, may be over in time. */
  const leaveBehind = (entry: Entry): void => {
    const { claim } = entry
    fork(
      leaveSilently(entry).pipe(
        Effect.retry(Schedule.exponential(leaveAgainAfter, 1.2)),
        Effect.timeoutOption(Duration.sum(claim.ttl, claim.guardGap)),
        Effect.ignore
      )
    )
  }

  /** The same where nothing is known of it but its id. */
  const leaveUnknown = (id: string, names: Names) =>
    port.run(Scripts.leave, { names, id, capacity: undefined, mark: true, interop })

  const withdraw = (claim: Claim): Effect.Effect<Withdrawn, LockBackendError> =>
    Effect.suspend(() => {
      const entry = claims.find(claim.id)
      if (entry === undefined && claims.hasLeft(claim.id)) return Effect.succeed("notHeld")
      const told = (reply: Scripts.LeaveReply): Withdrawn => {
        if (reply._tag === "Released") return "released"
        if (reply === nothing) return "notSent"
        if (entry?.last !== undefined) {
          entry.last = { holder: labelOf(reply.holder), place: entry.last.place, waiting: reply.length + 1 }
        }
        return reply._tag === "Cancelled" ? "cancelled" : "notHeld"
      }
      const failed = backendError("release")
      if (entry !== undefined) return leave(entry, callLimit(claim), told, failed)
      // It is not known any more, and may have been asked for; better a mark too many.
      const left = leaveUnknown(claim.id, claims.namesOf(claim))
      return Effect.mapBoth(left, { onFailure: failed, onSuccess: ({ value }) => told(value) })
    })

  /**
   * A call ends before the limit of the core is over for all of them: what one node of a cluster does not answer costs
   * the locks on the others nothing. The port knows what has been read by then.
   */
  const renewSome = (held: ReadonlyArray<Held>): Effect.Effect<ReadonlyArray<Renewal>, CallFailure> => {
    let limit = Infinity
    const renewed = held.map(({ claim, fencingToken }) => {
      const ttl = Duration.toMillis(claim.ttl)
      limit = Math.min(limit, Timing.renewalTimeout(ttl))
      return {
        names: claims.namesOf(claim),
        id: claim.id,
        token: fencingToken,
        ttl,
        guard: Duration.toMillis(claim.guardGap),
        capacity: claim.capacity
      }
    })
    return Effect.map(
      port.run(Scripts.renew, { claims: renewed }, undefined, limit),
      ({ sentAt, value }) =>
        value.map((reply, index): Renewal => {
          if (reply === "ok") return { _tag: "Confirmed", confirmedAt: sentAt }
          const entry = claims.find(held[index]!.claim.id)
          // Its release may have been decided before this was heard.
          if (entry !== undefined) giveUp(entry, true)
          return { _tag: reply === "expired" ? "Gone" : "Replaced" }
        })
    )
  }

  /** While their slot moves, locks that are not all on one side of the move are refused together and served apart. */
  const renewTogetherOrApart = (held: ReadonlyArray<Held>): Effect.Effect<ReadonlyArray<Renewal>> =>
    renewSome(held).pipe(
      Effect.catchIf(
        ({ cause }) => held.length > 1 && cause.message.startsWith("TRYAGAIN"),
        () =>
          Effect.map(
            Effect.forEach(held, (one) => renewTogetherOrApart([one]), { concurrency: "unbounded" }),
            Arr.flatten
          )
      ),
      Effect.catch((failure) => Effect.succeed(unknown(held, failure)))
    )

  /** As many claims a call as the server takes: on a cluster those of one slot. */
  const renew = (held: ReadonlyArray<Held>): Effect.Effect<ReadonlyArray<Renewal>> => {
    if (held.length <= renewalsPerCall && (held.length === 1 || !port.slotted)) return renewTogetherOrApart(held)
    const indexes = Array.from(held.keys())
    const slots = port.slotted
      ? Array.from(Map.groupBy(indexes, (index) => claims.namesOf(held[index]!.claim).hashed).values())
      : [indexes]
    const calls = slots.flatMap((slot) => chunks(slot, renewalsPerCall))
    return Effect.map(
      Effect.forEach(calls, (call) => renewTogetherOrApart(call.map((index) => held[index]!)), {
        concurrency: "unbounded"
      }),
      (answers) => {
        const all: Array<Renewal> = []
        calls.forEach((call, nth) => call.forEach((index, place) => (all[index] = answers[nth]![place]!)))
        return all
      }
    )
  }

  const takeNotification = (message: string): void => {
    const push = Scripts.decodePush(message)
    const lock = push && names(push.lock)
    if (push === undefined || lock === undefined) return
    if (push._tag === "Wake") return waiting.hurry(lock)
    const entry = claims.find(push.id)
    if (entry === undefined) {
      // A late ghost, or somebody else's joke: either way nobody here will ever release it.
      if (!claims.hasLeft(push.id)) fork(Effect.ignore(leaveUnknown(push.id, lock)))
      return
    }
    if (entry.state !== "asking" && entry.state !== "queued") return
    const sentAt = entry.isKnownElsewhere ? undefined : entry.baseOf(push.token, clock.monotonicTimeNanosUnsafe())
    if (sentAt !== undefined) grant(entry, push.token, sentAt)
    else waiting.hurryOne(entry)
  }

  // Those who still wait when the store goes would never hear of it. They withdraw by themselves; the same once more,
  // behind them on the one connection, tells when that is done.
  yield* Effect.addFinalizer(() => {
    isClosing = true
    const left = claims.all().filter(({ state }) => state !== "held")
    for (const entry of left) entry.end(closed)
    return Effect.timeoutOption(
      Effect.forEach(left, (entry) => Effect.ignore(leaveSilently(entry)), { concurrency: "unbounded", discard: true }),
      options.operationTimeout
    )
  })

  port.onMessage(takeNotification)
  port.onLeft(() => {
    for (const entry of claims.all()) entry.isKnownElsewhere = true
  })
  port.onReconnect(waiting.hurryAll)

  return LockStore.of({
    request,
    renew,
    withdraw,
    bounded: true,
    heardAt: (claim) => port.heardAt(claims.namesOf(claim).lock),
    losses: Stream.empty
  })
})

const closed = Effect.fail(
  new LockBackendError({ operation: "wait", retryable: false, cause: new Error("the store has been closed") })
)

const renewalsPerCall = 256

/** Milliseconds, and a little more each time. Like the next. */
const leaveAgainAfter = 100

/** A try ends within a second, whatever becomes of it. */
const tryLimit = 900

/** What leaving a claim finds that no server has heard of. */
const nothing: Scripts.LeaveReply = { _tag: "NotHeld", length: 0, holder: undefined, more: false }
const unheardOf = Effect.succeed<Pick<Reply<Scripts.LeaveReply>, "value">>({ value: nothing })

const unknown = (held: ReadonlyArray<Held>, failure: CallFailure): ReadonlyArray<Renewal> => {
  const error = backendError("renew")(failure)
  return held.map(() => ({ _tag: "Unknown", error }))
}

/** The lock store over a port. */

import type { LockBackendError } from "effect-dlock/LockError"
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
import { backendError, closed as closedFailure } from "../client/failure.ts"
import type { CallFailure, Port, Reply } from "../client/port.ts"
import * as Scripts from "../protocol/index.ts"
import { keysOf, type LockKeys } from "../protocol/keys.ts"
import { chunks } from "./chunks.ts"
import { labelOf } from "./queueGroup.ts"
import { Registry } from "./registry.ts"
import * as Replicas from "./replicas.ts"
import * as Timing from "./timing.ts"
import { toMillis, type TrackedClaim } from "./trackedClaim.ts"
import * as Waiters from "./waiters.ts"

export interface StoreOptions {
  /** Stands before every key, as the client's own `keyPrefix` would. */
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
 * again where a message may be missing, and withdraws every claim that was ever asked for.
 */
export const make = Effect.fnUntraced(function*(port: Port, options: StoreOptions) {
  const { interop, waitReplicas } = options
  const clock = yield* Clock.clockWith(Effect.succeed)
  const fork = yield* FiberSet.makeRuntime<never>()
  const registry = new Registry(options.keyPrefix, port.telemetry)
  const now = () => toMillis(clock.monotonicTimeNanosUnsafe())
  let isClosing = false
  const waiters = yield* Waiters.make(port, options.retryInterval, {
    onGranted: (tracked, token, sentAt) => grant(tracked, token, sentAt),
    onGone: (tracked) => lose(tracked)
  })

  const request = (
    claim: Claim,
    mode: "queue" | "try",
    until = Infinity
  ): Effect.Effect<Answer, LockBackendError> =>
    Effect.suspend(() => {
      // What is granted from now on nobody would withdraw.
      if (isClosing) {
        registry.refuse(claim, now())
        return closed
      }
      const known = registry.find(claim.id)
      // Its withdrawal may run at any time, and would end what this grants.
      if (known?.isWithdrawn === true) return Effect.succeed<Answer>({ _tag: "Gone" })
      const tracked = known ?? registry.track(claim)
      known?.askAgain()
      const refusal = refusalOf(claim)
      if (refusal !== undefined) {
        // Nor does its withdrawal have anything to end.
        giveUp(tracked, true)
        return Effect.fail(refusal)
      }
      const longest = mode === "try" ? Math.min(callLimit(claim), tryLimit) : callLimit(claim)
      const reserve = waitReplicas === 0 ? 0 : Replicas.limitOf(claim, longest)
      const limit = (until === Infinity ? longest : until - now()) - reserve
      return Effect.matchEffect(port.run(Scripts.acquire, acquireArgs(tracked, mode), tracked, limit), {
        onFailure: (failure) => Effect.fail(backendError("acquire")(failure)),
        onSuccess: ({ sentAt, value }) => {
          // It was withdrawn meanwhile; its release comes behind this request, and ends what it was given.
          if (tracked.isWithdrawn) return Effect.succeed<Answer>({ _tag: "Gone" })
          if (value._tag === "Busy" && value.more && value.holder === undefined) {
            // Nobody has it: more dead ones wait there than one call gets through with, and the next goes on.
            const end = Math.min(until, toMillis(sentAt) + longest)
            if (now() + reserve < end) return request(claim, mode, end)
          }
          return waitReplicas === 0 || value._tag !== "Granted"
            ? Effect.succeed(takeReply(tracked, sentAt, value))
            : confirm(tracked, value.token, sentAt, reserve)
        }
      })
    })

  const acquireArgs = ({ claim, guard, keys, ttl }: TrackedClaim, mode: "queue" | "try"): Scripts.AcquireArgs => ({
    keys,
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

  const takeReply = (tracked: TrackedClaim, sentAt: bigint, reply: Scripts.AcquireReply): Answer => {
    if ("more" in reply && reply.more) waiters.moveQueueOn(tracked.keys, tracked.claim.capacity)
    switch (reply._tag) {
      case "Granted":
        return tracked.grant(reply.token, sentAt)
      case "Queued":
        waiters.notePlace(tracked, sentAt, reply)
        return {
          _tag: "Queued",
          place: reply.place,
          ahead: () => waiters.aheadOf(tracked),
          granted: Deferred.await(tracked.granted)
        }
      case "Busy":
        giveUp(tracked)
        return { _tag: "Busy" }
      case "AlreadyHeld":
        giveUp(tracked)
        return { _tag: "AlreadyHeld", fencingToken: reply.token }
      case "Mismatch":
        giveUp(tracked)
        return { _tag: "CapacityMismatch" }
      case "Cancelled":
        giveUp(tracked)
        return { _tag: "Gone" }
    }
  }

  /** Waits for replicas: a grant counts when enough of them have it, and is given back otherwise. */
  const confirm = (
    tracked: TrackedClaim,
    token: bigint,
    sentAt: bigint,
    limit: number
  ): Effect.Effect<Granted | Gone> => {
    tracked.state = "confirming"
    return Effect.map(Replicas.confirm(port, waitReplicas, tracked, token, limit), (confirmed): Granted | Gone => {
      // The caller may have given up and withdrawn it.
      if (tracked.state !== "confirming") return { _tag: "Gone" }
      if (confirmed === "enough") return tracked.grant(token, sentAt)
      if (confirmed === "tooFew") {
        withdrawInBackground(tracked)
        return Replicas.tooFew(waitReplicas)
      }
      giveUp(tracked)
      return { _tag: "Gone" }
    })
  }

  /** Takes in that a waiting claim was granted. */
  const grant = (tracked: TrackedClaim, token: bigint, sentAt: bigint): void => {
    waiters.remove(tracked, token)
    if (waitReplicas === 0) return void tracked.grant(token, sentAt)
    const limit = Replicas.limitOf(tracked.claim, callLimit(tracked.claim))
    fork(Effect.map(confirm(tracked, token, sentAt, limit), (answer) => {
      if (answer._tag === "Gone") tracked.endWait(Effect.succeed(answer))
    }))
  }

  /** Ends a claim that is neither held nor queued. A request that may yet run must find it cancelled. */
  const giveUp = (tracked: TrackedClaim, isExpectingMore?: boolean): void => {
    if (tracked.isInDoubt) withdrawInBackground(tracked)
    else registry.remove(tracked, now(), isExpectingMore)
  }

  /** Ends a waiting claim that the server does not know any more. */
  const lose = (tracked: TrackedClaim): void => {
    waiters.remove(tracked)
    giveUp(tracked)
    tracked.endWait(Effect.succeed({ _tag: "Gone" }))
  }

  /**
   * Withdraws a claim that a server may know; no such claim ends in another way. From here on it is not asked for
   * again, and what still comes for it is not for us. The release is sent behind the claim's own request, whose answer
   * tells that no other comes after; where that answer is lost, it leaves a tombstone.
   */
  const withdrawTracked = <A, E>(
    tracked: TrackedClaim,
    limit: number | undefined,
    onReply: (reply: Scripts.ReleaseReply) => A,
    failed: (failure: CallFailure) => E
  ): Effect.Effect<A, E> => {
    const { claim, keys } = tracked
    tracked.state = "withdrawing"
    waiters.remove(tracked)
    const send = () =>
      tracked.isUnheardOf ? unheardOf : port.run(
        Scripts.release,
        { keys, id: claim.id, capacity: claim.capacity, tombstone: tracked.isInDoubt, interop },
        undefined,
        limit
      )
    return Effect.matchEffect(tracked.isIdle ? send() : Effect.flatMap(tracked.idle, send), {
      onFailure: (failure) => {
        registry.removeLater(tracked, now() + tracked.ttl + tracked.guard, now())
        return Effect.fail(failed(failure))
      },
      onSuccess: ({ value }) => {
        registry.remove(tracked, now())
        if (value.more) waiters.moveQueueOn(keys, claim.capacity)
        return Effect.succeed(onReply(value))
      }
    })
  }

  /** Withdraws a claim where nobody asks what the server said. */
  const withdrawSilently = (tracked: TrackedClaim): Effect.Effect<void, CallFailure> =>
    Effect.suspend(() => withdrawTracked(tracked, undefined, Function.constVoid, Function.identity))

  /** Withdraws a claim that nobody waits for: whatever refuses it, credentials too, may be over in time. */
  const withdrawInBackground = (tracked: TrackedClaim): void => {
    const { claim } = tracked
    fork(
      withdrawSilently(tracked).pipe(
        Effect.retry(Schedule.exponential(withdrawAgainAfter, 1.2)),
        Effect.timeoutOption(Duration.sum(claim.ttl, claim.guardGap)),
        Effect.ignore
      )
    )
  }

  /** Withdraws a claim of which nothing is known but its id. */
  const withdrawUnknown = (id: string, keys: LockKeys) =>
    port.run(Scripts.release, { keys, id, capacity: undefined, tombstone: true, interop })

  const withdraw = (claim: Claim): Effect.Effect<Withdrawn, LockBackendError> =>
    Effect.suspend(() => {
      const tracked = registry.find(claim.id)
      if (tracked === undefined && registry.isWithdrawn(claim.id)) return Effect.succeed("notHeld")
      const onReply = (reply: Scripts.ReleaseReply): Withdrawn => {
        if (reply._tag === "Released") return "released"
        if (reply === nothing) return "notSent"
        if (tracked?.lastAhead !== undefined) {
          tracked.lastAhead = {
            holder: labelOf(reply.holder),
            place: tracked.lastAhead.place,
            waiting: reply.length + 1
          }
        }
        return reply._tag === "Cancelled" ? "cancelled" : "notHeld"
      }
      const failed = backendError("release")
      if (tracked !== undefined) return withdrawTracked(tracked, callLimit(claim), onReply, failed)
      // It is not known any more, and may have been asked for; better a tombstone too many.
      const withdrawn = withdrawUnknown(claim.id, registry.keysOf(claim))
      return Effect.mapBoth(withdrawn, { onFailure: failed, onSuccess: ({ value }) => onReply(value) })
    })

  /**
   * Renews these in one call. It ends before the core's own limit for all of them does: what one node of a cluster does
   * not answer costs the locks on the others nothing. The port knows what has been read by then.
   */
  const renewSome = (held: ReadonlyArray<Held>): Effect.Effect<ReadonlyArray<Renewal>, CallFailure> => {
    let limit = Infinity
    const renewed = held.map(({ claim, fencingToken }) => {
      const ttl = Duration.toMillis(claim.ttl)
      limit = Math.min(limit, Timing.renewalTimeout(ttl))
      return {
        keys: registry.keysOf(claim),
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
          const tracked = registry.find(held[index]!.claim.id)
          // Its withdrawal may have been decided before this was known.
          if (tracked !== undefined) giveUp(tracked, true)
          return { _tag: reply === "expired" ? "Gone" : "Replaced" }
        })
    )
  }

  /** Renews these together, or apart: while their slot moves, locks on both sides of the move are refused together. */
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

  /** Renews as many claims in a call as the server takes: on a cluster those of one slot. */
  const renew = (held: ReadonlyArray<Held>): Effect.Effect<ReadonlyArray<Renewal>> => {
    if (held.length <= renewalsPerCall && (held.length === 1 || !port.slotted)) return renewTogetherOrApart(held)
    const indexes = Array.from(held.keys())
    const slots = port.slotted
      ? Array.from(Map.groupBy(indexes, (index) => registry.keysOf(held[index]!.claim).hashed).values())
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
    const notification = Scripts.decodeNotification(message)
    const lock = notification && keysOf(notification.lock)
    if (notification === undefined || lock === undefined) return
    if (notification._tag === "Wake") return waiters.hurry(lock)
    const tracked = registry.find(notification.id)
    if (tracked === undefined) {
      // A late grant, or somebody else's joke: either way nobody here will ever release it.
      if (!registry.isWithdrawn(notification.id)) fork(Effect.ignore(withdrawUnknown(notification.id, lock)))
      return
    }
    if (tracked.state !== "asking" && tracked.state !== "queued") return
    const sentAt = tracked.isKnownElsewhere
      ? undefined
      : tracked.baseOf(notification.token, clock.monotonicTimeNanosUnsafe())
    if (sentAt !== undefined) grant(tracked, notification.token, sentAt)
    else waiters.hurryOne(tracked)
  }

  // The claims that still wait when the store closes end here. Their callers withdraw them; a second withdrawal, behind
  // the first on the one connection, tells when that is done.
  yield* Effect.addFinalizer(() => {
    isClosing = true
    const waiting = registry.all().filter(({ state }) => state !== "held")
    for (const tracked of waiting) tracked.endWait(closed)
    return Effect.timeoutOption(
      Effect.forEach(waiting, (tracked) => Effect.ignore(withdrawSilently(tracked)), {
        concurrency: "unbounded",
        discard: true
      }),
      options.operationTimeout
    )
  })

  port.onMessage(takeNotification)
  port.onServerLeft(() => {
    for (const tracked of registry.all()) tracked.isKnownElsewhere = true
  })
  port.onReconnect(waiters.hurryAll)

  return LockStore.of({
    request,
    renew,
    withdraw,
    bounded: true,
    heardAt: (claim) => port.heardAt(registry.keysOf(claim).lock),
    telemetry: port.telemetry,
    losses: Stream.empty
  })
})

const closed = Effect.fail(backendError("wait")(closedFailure))

const renewalsPerCall = 256

/** Milliseconds, and a little more each time. Like the next. */
const withdrawAgainAfter = 100

/** A try ends within a second, whatever becomes of it. */
const tryLimit = 900

/** What the withdrawal of a claim finds that no server has heard of. */
const nothing: Scripts.ReleaseReply = { _tag: "NotHeld", length: 0, holder: undefined, more: false }
const unheardOf = Effect.succeed<Pick<Reply<Scripts.ReleaseReply>, "value">>({ value: nothing })

const unknown = (held: ReadonlyArray<Held>, failure: CallFailure): ReadonlyArray<Renewal> => {
  const error = backendError("renew")(failure)
  return held.map(() => ({ _tag: "Unknown", error }))
}

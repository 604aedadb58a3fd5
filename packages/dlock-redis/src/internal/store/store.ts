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
  type Loss,
  refusalOf,
  type Renewal,
  type Revocation,
  type RevocationNotice,
  type Withdrawn
} from "effect-dlock/LockStore"
import * as Arr from "effect/Array"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Function from "effect/Function"
import * as PubSub from "effect/PubSub"
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
import * as Runs from "./runs.ts"
import * as Timing from "./timing.ts"
import { tallyOf, toMillis, type TrackedClaim } from "./trackedClaim.ts"
import * as Waiters from "./waiters.ts"

export interface StoreOptions {
  /** Text in front of every key, like the `keyPrefix` of a Redis client. */
  readonly keyPrefix: string
  /** How often the head of a queue asks while a client of another library holds the key, in milliseconds. */
  readonly retryInterval: number
  /** How many milliseconds one call may take that the store makes on its own. */
  readonly operationTimeout: number
  /** Whether a release frees the key for every client instead of handing it over to the next waiter. */
  readonly interop: boolean
  /** How many replicas must have a grant before it counts. */
  readonly waitReplicas: number
}

/**
 * Makes the store over a port: the client's half of the protocol. The scripts decide who holds a lock. The store tracks
 * which answers still count, asks again when a notification may be missing, and withdraws every claim that it
 * requested.
 */
export const make = Effect.fnUntraced(function*(port: Port, options: StoreOptions) {
  const { interop, waitReplicas } = options
  const clock = yield* Clock.clockWith(Effect.succeed)
  const fork = yield* FiberSet.makeRuntime<never>()
  const registry = new Registry(options.keyPrefix, port.telemetry)
  const now = () => toMillis(clock.monotonicTimeNanosUnsafe())
  const losses = yield* PubSub.unbounded<Loss | RevocationNotice>()
  let isClosing = false
  const waiters = yield* Waiters.make(port, options.retryInterval, {
    onGranted: (tracked, granted, sentAt) => grant(tracked, granted, sentAt),
    onGone: (tracked) => lose(tracked),
    onRevoked: (tracked) => {
      tracked.endWait(Effect.succeed(gone))
      withdrawInBackground(tracked)
    }
  })

  const longestRequest = (claim: Claim, mode: "queue" | "try"): number =>
    mode === "try" ? Math.min(callLimit(claim), tryLimit) : callLimit(claim)

  const request = (
    claim: Claim,
    mode: "queue" | "try",
    until = Infinity
  ): Effect.Effect<Answer, LockBackendError> =>
    Effect.suspend(() => {
      // The store is closing, so nothing would withdraw a claim that is granted from now on.
      if (isClosing) {
        registry.refuse(claim, now())
        return closed
      }
      const known = registry.find(claim.id)
      // The claim's withdrawal may run at any time, and would end what this request is granted.
      if (known?.isWithdrawn === true) return Effect.succeed<Answer>({ _tag: "Gone" })
      const tracked = known ?? registry.track(claim)
      const wasHeld = known?.state === "held"
      known?.askAgain()
      const refusal = refusalOf(claim)
      if (refusal !== undefined) {
        // The claim was never sent, so its withdrawal has nothing to end.
        giveUp(tracked, true)
        return Effect.fail(refusal)
      }
      const longest = longestRequest(claim, mode)
      const reserve = waitReplicas === 0 ? 0 : Replicas.limitOf(claim, longest)
      const limit = (until === Infinity ? longest : until - now()) - reserve
      return Effect.matchEffect(port.run(Scripts.acquire, acquireArgs(tracked, mode), tracked, limit), {
        onFailure: (failure) => Effect.fail(backendError("acquire")(failure)),
        onSuccess: ({ sentAt, value }) => {
          // The claim was withdrawn meanwhile. Its release follows this request on the same connection, and ends this
          // grant.
          if (tracked.isWithdrawn) return Effect.succeed<Answer>({ _tag: "Gone" })
          if (value._tag === "Granted") noteContention(tracked, value)
          if (value._tag === "Revoked" && wasHeld) {
            // Its holder may still be at work. It withdraws the claim when it has ended, or the claim expires.
            tracked.state = "held"
            return Effect.succeed<Answer>(gone)
          }
          const isUndecided = claim.kind !== "mutex" || (value._tag === "Busy" && value.holder === undefined)
          if (value._tag === "Busy" && value.more && isUndecided) {
            // There may be room, but more that is dead is in the way than one call can drop. The next call drops more.
            const end = Math.min(until, toMillis(sentAt) + longest)
            if (now() + reserve < end) return request(claim, mode, end)
          }
          return waitReplicas === 0 || value._tag !== "Granted"
            ? Effect.succeed(takeReply(tracked, sentAt, value, mode))
            : confirm(tracked, value.token, sentAt, reserve)
        }
      })
    })

  /** Requests several claims in one call. If one of them has no place, the server keeps none, and all end here. */
  const requestAll = (
    claims: ReadonlyArray<Claim>,
    mode: "queue" | "try",
    until = Infinity
  ): Effect.Effect<ReadonlyArray<Answer>, LockBackendError> =>
    Effect.suspend(() => {
      if (isClosing) {
        for (const claim of claims) registry.refuse(claim, now())
        return closed
      }
      const known = claims.map(({ id }) => registry.find(id))
      if (known.some((one) => one?.isWithdrawn === true)) return Effect.succeed(claims.map(() => gone))
      const all = claims.map((claim, index) => known[index] ?? registry.track(claim))
      for (const one of known) one?.askAgain()
      const refusal = claims.map(refusalOf).find((one) => one !== undefined)
      if (refusal !== undefined) {
        for (const tracked of all) giveUp(tracked, true)
        return Effect.fail(refusal)
      }
      const longest = Math.min(...claims.map((claim) => longestRequest(claim, mode)))
      const reserve = waitReplicas === 0 ? 0 : Math.min(...claims.map((claim) => Replicas.limitOf(claim, longest)))
      const limit = (until === Infinity ? longest : until - now()) - reserve
      const args: Scripts.AcquireAllArgs = {
        inbox: port.inbox,
        mode,
        // A claim that allows fewer than the others is refused by the core.
        maxQueue: Math.max(...claims.map(({ maxQueue = Infinity }) => maxQueue)),
        claims: all.map((tracked) => acquireArgs(tracked, mode)),
        inside: claims.find(({ inside }) => inside !== undefined)?.inside
      }
      return Effect.matchEffect(port.run(Scripts.acquireAll, args, tallyOf(all), limit), {
        onFailure: (failure) => Effect.fail(backendError("acquire")(failure)),
        onSuccess: ({ sentAt, value }) => {
          if (all.some(({ isWithdrawn }) => isWithdrawn)) return Effect.succeed(claims.map(() => gone))
          if (value._tag === "Placed") {
            return Effect.forEach(all, (tracked, index): Effect.Effect<Answer> => {
              const reply = value.claims[index]!
              if (reply._tag === "Granted") noteContention(tracked, reply)
              return waitReplicas === 0 || reply._tag !== "Granted"
                ? Effect.succeed(takeReply(tracked, sentAt, reply, mode))
                : confirm(tracked, reply.token, sentAt, reserve)
            }, { concurrency: "unbounded" })
          }
          if (value._tag === "Refused" && value.more) {
            const end = Math.min(until, toMillis(sentAt) + longest)
            if (now() + reserve < end) return requestAll(claims, mode, end)
          }
          // The server may still have some of the claims. The caller withdraws all of them.
          if (value._tag !== "Refused") return Effect.succeed(claims.map(() => gone))
          return Effect.succeed(all.map((tracked, index): Answer => {
            const refused = value.claims[index]
            giveUp(tracked)
            return refused === undefined ? gone : refusalAnswer(refused, mode)
          }))
        }
      })
    })

  const acquireArgs = ({ claim, guard, keys, ttl }: TrackedClaim, mode: "queue" | "try"): Scripts.AcquireArgs => ({
    keys,
    id: claim.id,
    inbox: port.inbox,
    ttl,
    guard,
    kind: claim.kind,
    permits: claim.permits,
    capacity: claim.capacity,
    isStrict: claim.onCapacityChange === "fail",
    mode,
    maxQueue: claim.maxQueue,
    label: claim.holder,
    inside: claim.inside
  })

  const takeReply = (
    tracked: TrackedClaim,
    sentAt: bigint,
    reply: Scripts.AcquireReply,
    mode: "queue" | "try"
  ): Answer => {
    if ("more" in reply && reply.more) waiters.moveQueueOn(tracked.keys, tracked.claim.kind)
    switch (reply._tag) {
      case "Granted":
        return withOtherCapacity(tracked.grant(reply.token, sentAt), reply)
      case "Queued":
        waiters.notePlace(tracked, sentAt, reply)
        return {
          _tag: "Queued",
          place: reply.place,
          ahead: () => waiters.aheadOf(tracked),
          ...withOtherCapacity({}, reply),
          granted: Deferred.await(tracked.granted)
        }
      case "Busy":
      case "AlreadyHeld":
      case "Mismatch":
        giveUp(tracked)
        return refusalAnswer(reply, mode)
      case "Cancelled":
        giveUp(tracked)
        return gone
      case "Revoked":
        // Nobody was told of the grant, so nobody is at work under it, and the next claim can have the lock at once.
        withdrawInBackground(tracked)
        return gone
    }
  }

  /** Waits for replicas. The grant counts if enough of them have it. Otherwise the claim is withdrawn. */
  const confirm = (
    tracked: TrackedClaim,
    token: bigint,
    sentAt: bigint,
    limit: number
  ): Effect.Effect<Granted | Gone> => {
    tracked.state = "confirming"
    return Effect.map(
      Replicas.confirm(port, waitReplicas, tracked.keys, tracked.claim, token, limit),
      (confirmed): Granted | Gone => {
        // The caller may have given up and withdrawn the claim.
        if (tracked.state !== "confirming") return { _tag: "Gone" }
        if (confirmed === "enough") return tracked.grant(token, sentAt)
        if (confirmed === "tooFew") {
          withdrawInBackground(tracked)
          return Replicas.tooFew(waitReplicas)
        }
        giveUp(tracked)
        return { _tag: "Gone" }
      }
    )
  }

  const noteContention = ({ claim: { id, key } }: TrackedClaim, { isContended }: Scripts.Token): void => {
    if (isContended) registry.contention.note(id, key)
  }

  /** Records that a waiting claim was granted. */
  const grant = (tracked: TrackedClaim, granted: Scripts.Token, sentAt: bigint): void => {
    const { token } = granted
    waiters.remove(tracked, token)
    noteContention(tracked, granted)
    if (waitReplicas === 0) return void tracked.grant(token, sentAt)
    const limit = Replicas.limitOf(tracked.claim, callLimit(tracked.claim))
    fork(Effect.map(confirm(tracked, token, sentAt, limit), (answer) => {
      if (answer._tag === "Gone") tracked.endWait(Effect.succeed(answer))
    }))
  }

  /**
   * Ends a claim that is neither held nor queued. If a request of it may still run, it must find the claim cancelled.
   */
  const giveUp = (tracked: TrackedClaim, isExpectingMore?: boolean): void => {
    if (tracked.isInDoubt) withdrawInBackground(tracked)
    else registry.remove(tracked, now(), isExpectingMore)
  }

  /** Ends a waiting claim that the server no longer knows. */
  const lose = (tracked: TrackedClaim): void => {
    waiters.remove(tracked)
    giveUp(tracked)
    tracked.endWait(Effect.succeed({ _tag: "Gone" }))
  }

  /**
   * Withdraws a claim that a server may know. Every such claim ends here.
   *
   * From now on the claim is not requested again, and later messages for it are ignored. The release is sent after the
   * last request of the claim is answered, so that no request can arrive after it. If an answer is missing, the release
   * leaves a tombstone.
   */
  const withdrawTracked = <A, E>(
    tracked: TrackedClaim,
    limit: number | undefined,
    onReply: (reply: Scripts.ReleaseReply) => A,
    failed: (failure: CallFailure) => E
  ): Effect.Effect<A, E> => {
    const { claim, keys } = tracked
    beginWithdrawal(tracked)
    const send = () =>
      tracked.isUnheardOf ? unheardOf : port.run(
        Scripts.release,
        { keys, id: claim.id, kind: claim.kind, tombstone: tracked.isInDoubt, interop },
        undefined,
        limit
      )
    return Effect.matchEffect(tracked.isIdle ? send() : Effect.flatMap(tracked.idle, send), {
      onFailure: (failure) => {
        noteUnanswered(tracked)
        return Effect.fail(failed(failure))
      },
      onSuccess: ({ value }) => {
        noteReleased(tracked, value)
        return Effect.succeed(onReply(value))
      }
    })
  }

  const beginWithdrawal = (tracked: TrackedClaim): void => {
    tracked.state = "withdrawing"
    waiters.remove(tracked)
  }

  /** The release may still be executed. A claim that it has not ended stands until its time is over. */
  const noteUnanswered = (tracked: TrackedClaim): void =>
    registry.removeLater(tracked, now() + tracked.ttl + tracked.guard, now())

  const noteReleased = (tracked: TrackedClaim, { more }: Scripts.ReleaseReply): void => {
    registry.remove(tracked, now())
    if (more) waiters.moveQueueOn(tracked.keys, tracked.claim.kind)
  }

  /** Withdraws a claim when no caller needs the server's answer. */
  const withdrawSilently = (tracked: TrackedClaim): Effect.Effect<void, CallFailure> =>
    Effect.suspend(() => withdrawTracked(tracked, undefined, Function.constVoid, Function.identity))

  /**
   * Withdraws a claim in the background. It retries after every failure, even a refusal of the credentials, because the
   * cause may go away in time.
   */
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

  /** Withdraws a claim of which only the id is known. */
  const withdrawUnknown = (id: string, keys: LockKeys) =>
    port.run(Scripts.release, { keys, id, kind: undefined, tombstone: true, interop })

  const withdraw = (claim: Claim): Effect.Effect<Withdrawn, LockBackendError> =>
    Effect.suspend(() => {
      const tracked = registry.find(claim.id)
      if (tracked === undefined && registry.isWithdrawn(claim.id)) return Effect.succeed("notHeld")
      const onReply = (reply: Scripts.ReleaseReply): Withdrawn => {
        if (reply === nothing) return "notSent"
        if (reply._tag === "Released") return "released"
        if (tracked?.lastAhead !== undefined) {
          tracked.lastAhead = {
            holder: labelOf(reply.holder),
            place: tracked.lastAhead.place,
            waiting: reply.length + 1
          }
        }
        return withdrawnBy(reply)
      }
      const failed = backendError("release")
      if (tracked !== undefined) return withdrawTracked(tracked, callLimit(claim), onReply, failed)
      // The store no longer knows the claim, but may have requested it. An unneeded tombstone is better than a missing
      // one.
      const withdrawn = withdrawUnknown(claim.id, registry.keysOf(claim))
      return Effect.mapBoth(withdrawn, { onFailure: failed, onSuccess: ({ value }) => onReply(value) })
    })

  /** Withdraws the claims that need nothing but their release in one call, and the others one by one. */
  const withdrawAll = (claims: ReadonlyArray<Claim>): Effect.Effect<ReadonlyArray<Withdrawn | LockBackendError>> =>
    Effect.suspend(() => {
      const all = claims.map(({ id }) => registry.find(id))
      const isReady = (tracked: TrackedClaim | undefined): tracked is TrackedClaim =>
        tracked !== undefined && tracked.isIdle && !tracked.isUnheardOf && !tracked.isInDoubt
      const ready = all.filter(isReady)
      if (interop || ready.length < all.length) {
        const each = (claim: Claim) =>
          Effect.match(withdraw(claim), { onFailure: Function.identity, onSuccess: Function.identity })
        return Effect.forEach(claims, each, { concurrency: "unbounded" })
      }
      for (const tracked of ready) beginWithdrawal(tracked)
      const limit = Math.min(...claims.map(callLimit))
      return Effect.matchEffect(port.run(Scripts.releaseAll, { claims: ready.map(releaseArgs) }, undefined, limit), {
        onFailure: (failure) => {
          for (const tracked of ready) noteUnanswered(tracked)
          return Effect.succeed(ready.map(() => backendError("release")(failure)))
        },
        onSuccess: ({ value }) =>
          Effect.succeed(ready.map((tracked, index): Withdrawn => {
            const reply = value[index]!
            noteReleased(tracked, reply)
            return withdrawnBy(reply)
          }))
      })
    })

  const releaseArgs = ({ claim: { id, kind }, keys }: TrackedClaim) => ({ id, keys, kind })

  /**
   * Renews these claims in one call. The call ends before the core's limit for all renewals, so that a cluster node
   * that does not answer costs nothing to the locks on the other nodes. The port reads the replies that have arrived
   * before that limit counts.
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
        kind: claim.kind,
        permits: claim.permits,
        capacity: claim.capacity,
        isWatched: registry.contention.isWatched(claim.id)
      }
    })
    return Effect.map(
      port.run(Scripts.renew, { claims: renewed }, undefined, limit),
      ({ sentAt, value }) => value.map((reply, index) => takeRenewal(held[index]!, reply, sentAt))
    )
  }

  const takeRenewal = ({ claim }: Held, reply: Scripts.RenewReply, sentAt: bigint): Renewal => {
    if (typeof reply === "object") {
      if (reply.isContended) registry.contention.note(claim.id, claim.key)
      const revocation = revocationOf(reply)
      // A claim that is revoked stays at the server, and so it stays known until it is withdrawn.
      return reply._tag === "Revoked"
        ? { _tag: "Revoked", revocation }
        : { _tag: "Confirmed", confirmedAt: sentAt, revocation }
    }
    if (reply === "contended") {
      registry.contention.note(claim.id, claim.key)
      reply = "ok"
    }
    if (reply === "ok") return { _tag: "Confirmed", confirmedAt: sentAt }
    const tracked = registry.find(claim.id)
    // A withdrawal may have been decided before this answer, so the claim stays known for a moment.
    if (tracked !== undefined) giveUp(tracked, true)
    return { _tag: reply === "expired" ? "Gone" : "Replaced" }
  }

  /** Leaves a holder only some of its permits. The call takes no longer than a renewal. */
  const shrink = (held: Held, kept: number): Effect.Effect<Renewal> =>
    Effect.suspend(() => {
      const { claim, fencingToken } = held
      const { capacity, id, kind, permits } = claim
      const keys = registry.keysOf(claim)
      const ttl = Duration.toMillis(claim.ttl)
      const guard = Duration.toMillis(claim.guardGap)
      const args = { keys, id, token: fencingToken, ttl, guard, kind, capacity, permits, kept }
      return Effect.match(port.run(Scripts.shrink, args, undefined, Timing.renewalTimeout(ttl)), {
        onFailure: (failure): Renewal => ({ _tag: "Unknown", error: backendError("renew")(failure) }),
        onSuccess: ({ sentAt, value }) => {
          if (value.more) waiters.moveQueueOn(keys, kind)
          return takeRenewal(held, value.outcome, sentAt)
        }
      })
    })

  /**
   * Renews these claims in one call, or each in its own if the server refuses them together. It does that while their
   * slot moves, if some of the locks are already on the other node.
   */
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

  /** Renews as many claims per call as the server accepts. On a cluster, all of them must be in one slot. */
  const renew = (held: ReadonlyArray<Held>): Effect.Effect<ReadonlyArray<Renewal>> => {
    if (held.length <= renewalsPerCall && (held.length === 1 || !port.slotOf)) return renewTogetherOrApart(held)
    const indexes = Array.from(held.keys())
    const slots = port.slotOf
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

  /** Waits until enough replicas have what was written under a claim that is held. */
  const confirmHeld = ({ claim, fencingToken }: Held): Effect.Effect<void, LockBackendError> => {
    if (waitReplicas === 0) return Effect.void
    const limit = Replicas.limitOf(claim, callLimit(claim))
    const confirmed = Replicas.confirm(port, waitReplicas, registry.keysOf(claim), claim, fencingToken, limit)
    return Effect.flatMap(
      confirmed,
      (outcome) => outcome === "enough" ? Effect.void : Effect.fail(Replicas.tooFew(waitReplicas).error!)
    )
  }

  const tell = (news: Loss | RevocationNotice): void => void PubSub.publishUnsafe(losses, news)

  /**
   * Tells the holder of a claim whose grant this process has not taken yet: the answer is still on its way, or replicas have not
   * confirmed it. Otherwise it would hear with the answer to its first renewal.
   */
  const tellOnceHeld = (tracked: TrackedClaim, { grace, ...revoker }: Revocation): Effect.Effect<void> => {
    const { id } = tracked.claim
    const endsAt = now() + Duration.toMillis(grace)
    const look: Effect.Effect<void> = Effect.suspend(() => {
      if (registry.find(id) !== tracked || tracked.isWithdrawn) return Effect.void
      if (tracked.state !== "held") return Effect.delay(look, lookAgainAfter)
      return Effect.sync(() =>
        tell({ id, revocation: { ...revoker, grace: Duration.millis(Math.max(0, endsAt - now())) } })
      )
    })
    return Effect.delay(look, lookAgainAfter)
  }

  const takeNotification = (message: string): void => {
    const notification = Scripts.decodeNotification(message)
    // What has changed on a lock is for those who observe it.
    if (notification === undefined || notification._tag === "Changed") return
    if (notification._tag === "Asked") {
      const tracked = registry.find(notification.id)
      if (tracked === undefined || tracked.isWithdrawn) return
      const revocation = revocationOf(notification)
      if (tracked.state !== "held") return void fork(tellOnceHeld(tracked, revocation))
      return tell({ id: notification.id, revocation })
    }
    if (notification._tag === "Broken") {
      const tracked = registry.find(notification.id)
      // A claim of which nobody knows yet that it was granted hears that it is gone when it asks.
      if (tracked?.state !== "held") return
      giveUp(tracked, true)
      return tell({ id: notification.id, reason: "Revoked" })
    }
    if (notification._tag === "Contended") {
      for (const id of notification.ids) {
        const tracked = registry.find(id)
        if (tracked?.isWithdrawn === false) registry.contention.note(id, tracked.claim.key)
      }
      return
    }
    const lock = keysOf(notification.lock)
    if (lock === undefined) return
    if (notification._tag === "Wake") return waiters.hurry(lock)
    const tracked = registry.find(notification.id)
    if (tracked === undefined) {
      // A late grant, or a forged message. No claim of this process will ever release it.
      if (!registry.isWithdrawn(notification.id)) fork(Effect.ignore(withdrawUnknown(notification.id, lock)))
      return
    }
    if (tracked.state !== "asking" && tracked.state !== "queued") return
    const sentAt = tracked.isKnownElsewhere
      ? undefined
      : tracked.baseOf(notification.token, clock.monotonicTimeNanosUnsafe())
    if (sentAt !== undefined) grant(tracked, notification, sentAt)
    else waiters.hurryOne(tracked)
  }

  // The claims that still wait when the store closes end here. Their callers withdraw them. A second withdrawal, behind
  // the first one on the same connection, tells when the first one is done.
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
    requestAll,
    ...(port.slotOf !== undefined && { groupOf: (claim: Claim) => port.slotOf!(registry.keysOf(claim).lock) }),
    renew,
    withdraw,
    withdrawAll,
    shrink,
    runs: Runs.make(port, registry.keysOf.bind(registry), confirmHeld),
    contended: ({ claim: { id } }) =>
      Effect.suspend(() => registry.find(id) === undefined ? Effect.never : registry.contention.wait(id)),
    used: (claim) =>
      Effect.mapBoth(port.run(Scripts.count, { keys: registry.keysOf(claim), kind: claim.kind }), {
        onFailure: backendError("acquire"),
        onSuccess: ({ value }) => value
      }),
    waiting: ({ key }, most) =>
      Effect.mapBoth(
        port.run(Scripts.waiting, { keys: keysOf(options.keyPrefix + key)!, most }, undefined, waitingLimit),
        {
          onFailure: backendError("acquire"),
          onSuccess: ({ value }) => value
        }
      ),
    backend: "redis",
    bounded: true,
    heardAt: (claim) => port.heardAt(registry.keysOf(claim).lock),
    telemetry: port.telemetry,
    losses: Stream.fromPubSub(losses)
  })
})

const withOtherCapacity = <A>(answer: A, { otherCapacity }: { readonly otherCapacity: number | undefined }) =>
  otherCapacity === undefined ? answer : { ...answer, capacityInUse: otherCapacity }

const gone: Gone = { _tag: "Gone" }

/** Milliseconds until a claim is looked at again whose holder was asked to leave before it knew that it holds the lock. */
const lookAgainAfter = 20

const revocationOf = ({ grace, mark }: Pick<Scripts.Asked, "grace" | "mark">): Revocation => ({
  ...mark,
  grace: Duration.millis(grace)
})

const refusalAnswer = (
  reply: Scripts.Refusal | Scripts.Busy,
  mode: "queue" | "try"
): Answer => {
  switch (reply._tag) {
    case "Busy":
      return mode === "try"
        ? { _tag: "Busy" }
        : { _tag: "Full", waiting: reply.length, holder: "holder" in reply ? labelOf(reply.holder) : undefined }
    case "AlreadyHeld":
      return { _tag: "AlreadyHeld", fencingToken: reply.token }
    case "Mismatch":
      return { _tag: "CapacityMismatch", kind: reply.kind, inUse: reply.capacity }
  }
}

const withdrawnBy = ({ _tag }: Scripts.ReleaseReply): Withdrawn =>
  _tag === "Released" ? "released" : _tag === "Cancelled" ? "cancelled" : "notHeld"

const closed = Effect.fail(backendError("wait")(closedFailure))

const renewalsPerCall = 256

/** Milliseconds until a background withdrawal is repeated. Each pause is 1.2 times as long as the one before. */
const withdrawAgainAfter = 100

/** Milliseconds for a request in mode `try`, which must end within 1 second in any case. */
const tryLimit = 900

/** Milliseconds after which nobody needs the answer to a question about waiting claims. */
const waitingLimit = 1_000

/** The answer to the withdrawal of a claim that no server knows. */
const nothing: Scripts.ReleaseReply = { _tag: "NotHeld", length: 0, holder: undefined, more: false }
const unheardOf = Effect.succeed<Pick<Reply<Scripts.ReleaseReply>, "value">>({ value: nothing })

const unknown = (held: ReadonlyArray<Held>, failure: CallFailure): ReadonlyArray<Renewal> => {
  const error = backendError("renew")(failure)
  return held.map(() => ({ _tag: "Unknown", error }))
}

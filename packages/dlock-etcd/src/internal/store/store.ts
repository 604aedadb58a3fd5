/** The lock store on etcd: connects the parts and runs their loop. */

import { LockAdmin } from "effect-dlock/LockAdmin"
import type { LockBackendError } from "effect-dlock/LockError"
import {
  type Claim,
  type Held,
  LockStore,
  type Loss,
  type Renewal,
  type RevocationNotice,
  type Withdrawn
} from "effect-dlock/LockStore"
import * as Arr from "effect/Array"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Function from "effect/Function"
import * as Latch from "effect/Latch"
import * as PubSub from "effect/PubSub"
import * as Stream from "effect/Stream"
import { backendError, type CallFailure } from "../client/failure.ts"
import type { Port } from "../client/port.ts"
import { RequestBatcher } from "../client/requestBatcher.ts"
import { Watches } from "../client/watches.ts"
import { lockKeys } from "../protocol/keys.ts"
import * as Shared from "../protocol/sharedSnapshot.ts"
import * as SharedTransactions from "../protocol/sharedTransactions.ts"
import * as Transactions from "../protocol/transactions.ts"
import * as Admin from "./admin/admin.ts"
import { isMark, Revocations } from "./admin/revocations.ts"
import { Contention } from "./contention.ts"
import { type Confirmation, type Lease, Leases, toMillis } from "./leases/leases.ts"
import { Liveness } from "./leases/liveness.ts"
import type { StoreParts } from "./parts.ts"
import { AskingOrder } from "./queue/askingOrder.ts"
import { Registry } from "./registry.ts"
import * as Requests from "./requests/requests.ts"
import * as Runs from "./runs.ts"
import { countHeld } from "./shared/counting.ts"
import * as Shrinking from "./shared/shrinking.ts"
import { whyNotHeld } from "./shared/shrinking.ts"
import { Tombstones } from "./tombstones.ts"
import type { Place } from "./trackedClaim.ts"
import * as Waiters from "./waiters.ts"

/**
 * Makes the store and its admin over a port. The claims for a key form a queue by create revision. The fencing token is the create revision
 * plus the base of the token epoch. Waiting claims watch the deletions before them, a held claim is watched itself, and all
 * claims are on shared leases.
 */
export const makeWithAdmin = Effect.fnUntraced(function*(port: Port, mostListeners = 10) {
  const { telemetry } = port
  const clock = yield* Clock.clockWith(Effect.succeed)
  const fork = yield* FiberSet.makeRuntime<never>()
  const losses = yield* PubSub.unbounded<Loss | RevocationNotice>()
  const wakeUp = Latch.makeUnsafe()
  const now = () => toMillis(clock.monotonicTimeNanosUnsafe())
  let closed = false

  /** When the loop wakes up, in milliseconds. */
  let wakesAt = Infinity
  const wakeBy = (at: number): void => {
    if (at < wakesAt) wakeUp.openUnsafe()
  }

  const registry: Registry = new Registry(
    telemetry,
    (lease, key) => leases.remove(lease, key),
    (loss) => void fork(Effect.asVoid(PubSub.publish(losses, loss))),
    // A writer that lost one of its keys would keep others out with the second.
    (place) => {
      if (place.exclusiveKey === undefined || place.created === undefined || place.lease?.gone === true) return
      fork(Effect.ignore(batcher.run(Transactions.withdraw(place, place.created, undefined, false))))
    },
    (place) => revocations.forget(place)
  )
  const leases: Leases<Place> = new Leases<Place>(
    clock,
    port,
    fork,
    (lease) => registry.loseLease(lease),
    (lease) => wakeBy(leases.dueAt(lease))
  )
  const watches = new Watches(port, fork)
  const batcher = new RequestBatcher(port, now, fork)
  const liveness = new Liveness(clock, port, watches, fork, () => registry.hasWaiters(), () => {
    for (const queue of waiters.localQueues.values()) queue.lookNow()
  })
  const askingOrder = new AskingOrder(telemetry, (lock) => waiters.localQueues.get(lock)?.noteEarlierAnswered())
  const revocations: Revocations = new Revocations({
    port,
    now,
    fork,
    batcher,
    watches,
    registry,
    leases,
    tell: (notice) => void PubSub.publishUnsafe(losses, notice)
  })
  const tombstones = new Tombstones(port, now, fork)
  const parts: StoreParts = {
    telemetry,
    batcher,
    askingOrder,
    revocations,
    now,
    fork,
    registry,
    leases,
    watches,
    liveness,
    mostListeners,
    wakeBy,
    hasClosed: (): boolean => closed
  }
  const waiters: Waiters.Waiters = Waiters.make(parts)
  const contention = new Contention(parts)
  const { request, requestAll, withdraw } = Requests.make(port, parts, waiters, tombstones)

  /**
   * Compares the keys on a lease with the claims that should be on it. A key without a claim is left over from a request that
   * the server executed after the caller gave up: it is deleted. A key with a name of the current generation is left alone,
   * because its claim is just being put or deleted. The other keys on it are marks.
   */
  const sweep = (lease: Lease<Place>, { keys }: Confirmation): Effect.Effect<void, CallFailure> => {
    const strangers = Array.from(keys).filter((key) =>
      !lease.claims.has(key) && !registry.placeNames.isOfThisGeneration(key) && !isMark(key)
    )
    const missing = Array.from(lease.claims).flatMap(([key, place]) =>
      place.created !== undefined && !keys.has(key) ? place : []
    )
    // The known claims do not depend on this, so nothing waits for it.
    for (const some of Arr.chunksOf(strangers, removedAtOnce)) fork(Effect.ignore(port.txn(Transactions.remove(some))))
    return Effect.andThen(
      revocations.takeInBeat(Array.from(keys).filter(isMark)),
      Effect.forEach(new Set(missing), waiters.verify, { concurrency: 16, discard: true })
    )
  }

  const confirmAndSweep = (lease: Lease<Place>): Effect.Effect<void, CallFailure> =>
    Effect.flatMap(leases.confirm(lease), (confirmation) => sweep(lease, confirmation))

  const renew = (held: ReadonlyArray<Held>): Effect.Effect<ReadonlyArray<Renewal>> =>
    Effect.gen(function*() {
      const known = held.map(({ claim }) => registry.find(claim.id))
      const failures = new Map<Lease<Place>, CallFailure | undefined>()
      for (const tracked of known) if (tracked?.place.lease !== undefined) failures.set(tracked.place.lease, undefined)
      yield* Effect.forEach(Array.from(failures.keys()), (lease) =>
        Effect.match(confirmAndSweep(lease), {
          onFailure: (failure) => void failures.set(lease, failure),
          onSuccess: () => {}
        }), { concurrency: "unbounded", discard: true })
      return yield* Effect.forEach(held, ({ claim }, index): Effect.Effect<Renewal> => {
        const tracked = known[index]
        const lease = tracked?.place.lease
        if (tracked === undefined || tracked.state !== "held" || lease === undefined) return whyNotHeld(parts, claim)
        contention.noteRenewed(tracked)
        const revocation = revocations.of(tracked)
        const why = revocation !== undefined && { revocation }
        if (revocations.isForbidden(tracked)) return Effect.succeed({ _tag: "Revoked", ...why })
        const failure = failures.get(lease)
        return Effect.succeed(
          failure === undefined
            ? { _tag: "Confirmed", confirmedAt: waiters.confirmHeld(tracked, lease), ...why }
            : { _tag: "Unknown", error: backendError("renew")(failure) }
        )
      })
    })

  const renewOne = (held: Held): Effect.Effect<Renewal> => Effect.map(renew([held]), ([renewal]) => renewal!)

  // One loop confirms the leases that no renewal confirms, and polls for waiting claims in case a watch missed an event.
  yield* Effect.gen(function*() {
    while (true) {
      wakeUp.closeUnsafe()
      const at = now()
      let next = Infinity
      wakesAt = Infinity
      for (const lease of leases.all()) {
        const dueAt = leases.dueAt(lease)
        if (dueAt > at) next = Math.min(next, dueAt)
        else if (leases.isIdle(lease)) fork(leases.retire(lease))
        else {
          fork(Effect.ensuring(Effect.ignore(confirmAndSweep(lease)), wakeUp.open))
        }
      }
      for (const tracked of registry.all()) {
        if (tracked.state === "held") {
          // Other claims keep the lease alive, so a claim that its holder does not renew must be withdrawn here.
          if (tracked.heldUntil <= at) fork(Effect.ignore(withdraw(tracked.claim)))
          else next = Math.min(next, tracked.heldUntil)
        }
      }
      for (const queue of [...waiters.localQueues.values(), ...waiters.rooms.values()]) {
        if (queue.wakeAt <= at) queue.wake()
        next = Math.min(next, queue.wakeAt)
      }
      wakesAt = next
      yield* next === Infinity
        ? wakeUp.await
        : Effect.timeoutOption(wakeUp.await, Math.max(1, Math.ceil(next - at)))
    }
  }).pipe(Effect.forkScoped)

  // Revoking the leases deletes the remaining claims. Pending calls are not awaited, so that the process can exit.
  yield* Effect.addFinalizer(() => {
    closed = true
    // This must come before the pending calls are failed: the server may have executed a lease grant among them.
    const revoked = Effect.all([leases.close(), liveness.close()], { concurrency: "unbounded", discard: true })
    batcher.close()
    port.abandon()
    watches.close()
    return revoked
  })

  const withdrawUnlessClosed = (claim: Claim): Effect.Effect<Withdrawn, LockBackendError> =>
    Effect.suspend(() =>
      closed
        ? Effect.succeed("cancelled")
        : Effect.catch(withdraw(claim), (error) => closed ? Effect.succeed("cancelled") : Effect.fail(error))
    )

  const store = LockStore.of({
    request,
    requestAll,
    renew,
    withdraw: withdrawUnlessClosed,
    withdrawAll: (claims) =>
      batcher.together(
        claims.map((claim) =>
          Effect.match(withdrawUnlessClosed(claim), { onFailure: Function.identity, onSuccess: Function.identity })
        )
      ),
    shrink: Shrinking.make(parts, renewOne),
    runs: Runs.make(port, registry, now),
    contended: ({ claim }) => contention.wait(claim.id),
    used: (claim) => Effect.mapError(countHeld(parts.batcher, claim), backendError("acquire")),
    waiting: ({ key, prefix }, most) =>
      Effect.mapBoth(port.txn(SharedTransactions.readQueue(lockKeys(key, prefix), most), waitingLimit), {
        onFailure: backendError("acquire"),
        onSuccess: ({ value }) => Shared.readWaiting(value)
      }),
    backend: "etcd",
    bounded: true,
    heardAt: () => port.heardAt(),
    telemetry,
    losses: Stream.fromPubSub(losses)
  })
  return Context.make(LockStore, store).pipe(Context.add(LockAdmin, Admin.make(port, parts, tombstones)))
})

/** Makes the store alone. */
export const make = (port: Port, mostListeners?: number) =>
  Effect.map(makeWithAdmin(port, mostListeners), Context.get(LockStore))

/** Milliseconds after which nobody needs the answer to a question about waiting claims. */
const waitingLimit = 1_000

/** How many keys one transaction deletes. A server allows 128 operations in a transaction by default. */
const removedAtOnce = 100

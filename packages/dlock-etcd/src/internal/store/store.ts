/** The lock store on etcd: connects the parts and runs their loop. */

import { type Claim, type Held, LockStore, type Loss, type Renewal } from "effect-dlock/LockStore"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Latch from "effect/Latch"
import * as PubSub from "effect/PubSub"
import * as Stream from "effect/Stream"
import { backendError, type CallFailure } from "../client/failure.ts"
import type { Port } from "../client/port.ts"
import { RequestBatcher } from "../client/requestBatcher.ts"
import { Watches } from "../client/watches.ts"
import { lockKeys } from "../protocol/keys.ts"
import * as Snapshot from "../protocol/snapshot.ts"
import * as Transactions from "../protocol/transactions.ts"
import { type Confirmation, type Lease, Leases, toMillis } from "./leases/leases.ts"
import { Liveness } from "./leases/liveness.ts"
import type { StoreParts } from "./parts.ts"
import { AskingOrder } from "./queue/askingOrder.ts"
import { Registry } from "./registry.ts"
import * as Requests from "./requests.ts"
import { Tombstones } from "./tombstones.ts"
import type { Place } from "./trackedClaim.ts"
import * as Waiters from "./waiters.ts"

/**
 * Makes the store over a port. The claims for a key form a queue by create revision. The fencing token is the create revision
 * plus the base of the token epoch. Waiting claims watch the deletions before them, a held claim is watched itself, and all
 * claims are on shared leases.
 */
export const make = Effect.fnUntraced(function*(port: Port, mostListeners = 10) {
  const { telemetry } = port
  const clock = yield* Clock.clockWith(Effect.succeed)
  const fork = yield* FiberSet.makeRuntime<never>()
  const losses = yield* PubSub.unbounded<Loss>()
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
    (loss) => void fork(Effect.asVoid(PubSub.publish(losses, loss)))
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
  const parts: StoreParts = {
    telemetry,
    batcher,
    askingOrder,
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
  const { request, withdraw } = Requests.make(port, parts, waiters, new Tombstones(port, now, fork))

  /**
   * Compares the keys on a lease with the claims that should be on it. A key without a claim is left over from a request that
   * the server executed after the caller gave up: it is deleted. A key with a name of the current generation is left alone,
   * because its claim is just being put or deleted.
   */
  const sweep = (lease: Lease<Place>, { keys }: Confirmation): Effect.Effect<void, CallFailure> => {
    const strangers = Array.from(keys).filter((key) =>
      !lease.claims.has(key) && !registry.placeNames.isOfThisGeneration(key)
    )
    const missing = Array.from(lease.claims.values()).filter(({ created, key }) =>
      created !== undefined && !keys.has(key)
    )
    // The known claims do not depend on this, so nothing waits for it.
    for (let from = 0; from < strangers.length; from += removedAtOnce) {
      fork(Effect.ignore(port.txn(Transactions.remove(strangers.slice(from, from + removedAtOnce)))))
    }
    return Effect.forEach(missing, waiters.verify, { concurrency: 16, discard: true })
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
        if (tracked === undefined || tracked.state !== "held" || lease === undefined) return whyNotHeld(claim)
        const failure = failures.get(lease)
        return Effect.succeed(
          failure === undefined
            ? { _tag: "Confirmed", confirmedAt: waiters.confirmHeld(tracked, lease) }
            : { _tag: "Unknown", error: backendError("renew")(failure) }
        )
      })
    })

  /** Finds out why a claim is no longer held: another claim has the lock, or the claim is gone. */
  const whyNotHeld = (claim: Claim): Effect.Effect<Renewal> =>
    Effect.match(batcher.run(Transactions.look(unplaced(claim), 0n)), {
      onFailure: (failure): Renewal => ({ _tag: "Unknown", error: backendError("renew")(failure) }),
      onSuccess: ({ value }): Renewal =>
        claim.capacity === 1 && Snapshot.readSnapshot(value, claim).length > 0
          ? { _tag: "Replaced" }
          : { _tag: "Gone" }
    })

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
        } else if (tracked.state === "queued" && tracked.claim.capacity > 1 && !tracked.isLooking) {
          if (tracked.lookAt <= at) waiters.lookAgain(tracked)
          else next = Math.min(next, tracked.lookAt)
        }
      }
      for (const queue of Array.from(waiters.localQueues.values())) {
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

  return LockStore.of({
    request,
    renew,
    withdraw: (claim) =>
      Effect.suspend(() =>
        closed
          ? Effect.succeed("cancelled")
          : Effect.catch(withdraw(claim), (error) => closed ? Effect.succeed("cancelled") : Effect.fail(error))
      ),
    bounded: true,
    heardAt: () => port.heardAt(),
    telemetry,
    losses: Stream.fromPubSub(losses)
  })
})

/** The place that a claim without a place would have. */
const unplaced = (claim: Claim): Transactions.PlaceInQueue => {
  const its = lockKeys(claim.key, claim.prefix)
  return { claim, keys: its, keyBytes: its.claim(claim.id) }
}

/** How many keys one transaction deletes. A server allows 128 operations in a transaction by default. */
const removedAtOnce = 100

import { type Claim, type Held, LockStore, type Loss, type Renewal } from "effect-dlock/LockStore"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Latch from "effect/Latch"
import * as PubSub from "effect/PubSub"
import * as Stream from "effect/Stream"
import { backendError, type CallFailure } from "../client/failure.ts"
import type { Port } from "../client/port.ts"
import { Outgoing } from "../client/requestBatcher.ts"
import { Watches } from "../client/watches.ts"
import { names } from "../protocol/keys.ts"
import * as Queue from "../protocol/transactions.ts"
import { type Beat, type Lease, Leases, toMillis } from "./leases/leases.ts"
import { Liveness } from "./leases/liveness.ts"
import type { Desk } from "./parts.ts"
import { Line } from "./queue/askingOrder.ts"
import type { Seat } from "./queue/place.ts"
import { Claims } from "./registry.ts"
import * as Requests from "./requests.ts"
import { Marks } from "./tombstones.ts"
import * as Turns from "./waiters.ts"

/**
 * The store over a port: claims queue in a folder by create revision, which is also the fencing token but for the base of
 * the epoch in which they were put. Those that wait hear of the deletions before them; those that hold are watched
 * themselves; all of them live on shared leases.
 */
export const make = Effect.fnUntraced(function*(port: Port) {
  const clock = yield* Clock.clockWith(Effect.succeed)
  const fork = yield* FiberSet.makeRuntime<never>()
  const losses = yield* PubSub.unbounded<Loss>()
  const stirred = Latch.makeUnsafe()
  const now = () => toMillis(clock.monotonicTimeNanosUnsafe())
  let closed = false

  /** Until when the loop sleeps. */
  let wakesAt = Infinity
  const stir = (at: number): void => {
    if (at < wakesAt) stirred.openUnsafe()
  }

  const claims: Claims = new Claims(
    (lease, key) => leases.leave(lease, key),
    (loss) => void fork(Effect.asVoid(PubSub.publish(losses, loss)))
  )
  const leases: Leases<Seat> = new Leases<Seat>(
    clock,
    port,
    fork,
    (lease) => claims.loseLease(lease),
    (lease) => stir(leases.dueAt(lease))
  )
  const watches = new Watches(port, fork)
  const outgoing = new Outgoing(port, now, fork)
  const liveness = new Liveness(clock, port, watches, fork, () => claims.hasWaiters())
  const line = new Line((lock) => turns.rooms.get(lock)?.noteEarlierAnswered())
  const desk: Desk = {
    outgoing,
    line,
    now,
    fork,
    claims,
    leases,
    watches,
    liveness,
    stir,
    hasClosed: (): boolean => closed
  }
  const turns: Turns.Turns = Turns.make(desk)
  const { request, withdraw } = Requests.make(port, desk, turns, new Marks(port, now, fork))

  /**
   * Compares what a lease carries with what should be on it. A claim that nobody here knows is one whose request was
   * executed after its caller had given up; it goes. What is under a name of this epoch is on its way in or out.
   */
  const sweep = (lease: Lease<Seat>, { keys }: Beat): Effect.Effect<void, CallFailure> => {
    const strangers = Array.from(keys).filter((key) => !lease.claims.has(key) && !claims.slots.isOfThisEpoch(key))
    const missing = Array.from(lease.claims.values()).filter(({ created, key }) =>
      created !== undefined && !keys.has(key)
    )
    // Not waited for: those who are known have nothing to do with it.
    for (let from = 0; from < strangers.length; from += removedAtOnce) {
      fork(Effect.ignore(port.txn(Queue.remove(strangers.slice(from, from + removedAtOnce)))))
    }
    return Effect.forEach(missing, turns.verify, { concurrency: 16, discard: true })
  }

  const tend = (lease: Lease<Seat>): Effect.Effect<void, CallFailure> =>
    Effect.flatMap(leases.beat(lease), (beat) => sweep(lease, beat))

  const renew = (held: ReadonlyArray<Held>): Effect.Effect<ReadonlyArray<Renewal>> =>
    Effect.gen(function*() {
      const known = held.map(({ claim }) => claims.find(claim.id))
      const failures = new Map<Lease<Seat>, CallFailure | undefined>()
      for (const entry of known) if (entry?.seat.lease !== undefined) failures.set(entry.seat.lease, undefined)
      yield* Effect.forEach(Array.from(failures.keys()), (lease) =>
        Effect.match(tend(lease), {
          onFailure: (failure) => void failures.set(lease, failure),
          onSuccess: () => {}
        }), { concurrency: "unbounded", discard: true })
      return yield* Effect.forEach(held, ({ claim }, index): Effect.Effect<Renewal> => {
        const entry = known[index]
        const lease = entry?.seat.lease
        if (entry === undefined || entry.state !== "held" || lease === undefined) return whose(claim)
        const failure = failures.get(lease)
        return Effect.succeed(
          failure === undefined
            ? { _tag: "Confirmed", confirmedAt: turns.believe(entry, lease) }
            : { _tag: "Unknown", error: backendError("renew")(failure) }
        )
      })
    })

  /** A claim that is not held any more: is its key another's by now? */
  const whose = (claim: Claim): Effect.Effect<Renewal> =>
    Effect.match(outgoing.run(Queue.look(nowhere(claim), 0n)), {
      onFailure: (failure): Renewal => ({ _tag: "Unknown", error: backendError("renew")(failure) }),
      onSuccess: ({ value }): Renewal =>
        claim.capacity === 1 && Queue.view(value, claim).length > 0 ? { _tag: "Replaced" } : { _tag: "Gone" }
    })

  // One loop tends the leases that no renewal tends, and looks for those whom no watch has told.
  yield* Effect.gen(function*() {
    while (true) {
      stirred.closeUnsafe()
      const at = now()
      let next = Infinity
      wakesAt = Infinity
      for (const lease of leases.all()) {
        const dueAt = leases.dueAt(lease)
        if (dueAt > at) next = Math.min(next, dueAt)
        else if (leases.isIdle(lease)) fork(leases.retire(lease))
        else {
          fork(Effect.ensuring(Effect.ignore(tend(lease)), stirred.open))
        }
      }
      for (const entry of claims.all()) {
        if (entry.state === "held") {
          // Its lease lives on with others: what nobody renews must end by itself.
          if (entry.until <= at) fork(Effect.ignore(withdraw(entry.claim)))
          else next = Math.min(next, entry.until)
        } else if (entry.state === "queued" && entry.claim.capacity > 1 && !entry.looking) {
          if (entry.lookAt <= at) turns.lookAgain(entry)
          else next = Math.min(next, entry.lookAt)
        }
      }
      for (const room of Array.from(turns.rooms.values())) {
        if (room.wakeAt <= at) room.wake()
        next = Math.min(next, room.wakeAt)
      }
      wakesAt = next
      yield* next === Infinity
        ? stirred.await
        : Effect.timeoutOption(stirred.await, Math.max(1, Math.ceil(next - at)))
    }
  }).pipe(Effect.forkScoped)

  // Whatever is left goes with its leases, and the process can end. What is under way is not waited for.
  yield* Effect.addFinalizer(() => {
    closed = true
    // Before what is under way fails: a grant among it may have been executed.
    const revoked = Effect.all([leases.close(), liveness.close()], { concurrency: "unbounded", discard: true })
    outgoing.close()
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
    losses: Stream.fromPubSub(losses)
  })
})

/** The place of a claim that stands nowhere. */
const nowhere = (claim: Claim): Queue.Place => {
  const its = names(claim.key, claim.prefix)
  return { claim, names: its, place: its.entry(claim.id) }
}

/** A server takes at most 128 operations in a transaction unless told otherwise. */
const removedAtOnce = 100

import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type { Revocation } from "../../LockStore.ts"
import { DeadlineHeap, type Item } from "../scheduling/deadlineHeap.ts"
import type { Time } from "../scheduling/time.ts"
import { callBack } from "../telemetry/callBack.ts"
import type { Events } from "../telemetry/events.ts"
import type { Log } from "../telemetry/log.ts"

/** Who revokes a lock, and why. */
export interface Revoker {
  readonly by: string
  readonly why?: string
}

/** What is needed of a lease whose holder may be asked to leave. */
export interface Revocable {
  readonly key: string
  readonly state: "held" | "lost" | "released"
  readonly host: { readonly time: Time }
  /** Ends it as lost, and leaves its claim to run out while its program ends. */
  readonly revoke: (now: number, revoker?: Revoker) => void
  readonly whenEnded: (observer: () => void) => unknown
}

/** The time that a holder has to leave. The heap orders them by their end. */
class Grace implements Item {
  index = -1
  dueAt = 0
  readonly lease: Revocable
  revoker: Revoker
  endsAt = Infinity
  constructor(lease: Revocable, revoker: Revoker) {
    this.lease = lease
    this.revoker = revoker
  }
}

// Maps, so that all other leases do not pay for it.

/** The leases whose holders were asked to leave. */
const asked = new WeakMap<Revocable, Grace>()

/** The leases whose revocation somebody waits for. */
const awaited = new WeakMap<Revocable, Deferred.Deferred<Revocation>>()

/** Completes when the holder of the lease is asked to leave, and at once if it has been. */
export const revocation = (lease: Revocable): Effect.Effect<Revocation> =>
  Effect.suspend(() => {
    const grace = asked.get(lease)
    if (grace !== undefined) return Effect.succeed(told(grace))
    const known = awaited.get(lease)
    if (known !== undefined) return Deferred.await(known)
    if (lease.state !== "held") return Effect.never
    const deferred = Deferred.makeUnsafe<Revocation>()
    awaited.set(lease, deferred)
    return Deferred.await(deferred)
  })

/** The revocation as it is now, with what is left of the grace. */
const told = ({ endsAt, lease, revoker }: Grace): Revocation => ({
  ...revoker,
  grace: Duration.millis(Math.max(0, endsAt - lease.host.time.now()))
})

/**
 * The revocations of a locker's leases, behind one timer. A holder that is asked to leave may stay for a grace. Then its
 * program is interrupted, and its claim is renewed no more.
 */
export class Revocations {
  private readonly heap: DeadlineHeap<Grace>
  private readonly time: Time
  private readonly events: Events

  constructor(
    time: Time,
    events: Events,
    log: Log,
    fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  ) {
    this.time = time
    this.events = events
    this.heap = new DeadlineHeap(time, fork, log, (now) => this.endDue(now))
  }

  /** Notes that the holder was asked to leave. It may be told several times, and a grace only ever gets shorter. */
  ask(lease: Revocable, { grace: left, ...revoker }: Revocation): void {
    const now = this.time.now()
    const millis = Duration.toMillis(left)
    const endsAt = now + millis
    const known = asked.get(lease)
    if (known !== undefined && known.endsAt <= endsAt) return
    const grace = known ?? new Grace(lease, revoker)
    grace.revoker = revoker
    grace.endsAt = endsAt
    asked.set(lease, grace)
    if (known === undefined) {
      if (lease.state === "held" && millis > 0) this.events.askedToLeave(lease.key, revoker, millis)
      const deferred = awaited.get(lease)
      if (deferred !== undefined) {
        callBack(this.events, () => Deferred.doneUnsafe(deferred, Effect.succeed(told(grace))), lease.key)
      }
    }
    // Its program may just have released it.
    if (lease.state !== "held") return
    if (millis === 0) return this.end(grace, now)
    if (known === undefined) lease.whenEnded(() => this.heap.remove(grace))
    this.heap.schedule(grace, endsAt)
  }

  /** Notes that the claim will never be extended again. */
  refuse(lease: Revocable, revocation: Revocation | undefined): void {
    if (revocation !== undefined) this.ask(lease, { ...revocation, grace: Duration.zero })
    // Without a word of the store, what it said before counts. The claim of a lease that is lost for another reason runs
    // out too.
    lease.revoke(this.time.now(), asked.get(lease)?.revoker)
  }

  private endDue(now: number): void {
    for (let grace = this.heap.peek(); grace !== undefined && grace.dueAt <= now; grace = this.heap.peek()) {
      this.end(grace, now)
    }
  }

  private end(grace: Grace, now: number): void {
    this.heap.remove(grace)
    // Interrupted programs run within this call, and may throw.
    callBack(this.events, () => grace.lease.revoke(now, grace.revoker), grace.lease.key)
  }
}

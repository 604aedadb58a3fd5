/** What this process knows of its claims. */

import type { Claim, Loss } from "effect-dlock/LockStore"
import type { StoreTelemetry } from "effect-dlock/StoreTelemetry"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import { backendError, type CallFailure } from "../client/failure.ts"
import { type Lease, toMillis } from "./leases/leases.ts"
import { PlaceNames } from "./placeNames.ts"
import { type Place, TrackedClaim } from "./trackedClaim.ts"

/** The claims of this process that have not ended, by id and by the key of their place. */
export class Registry {
  readonly placeNames = new PlaceNames()
  private readonly tracked = new Map<string, TrackedClaim>()
  private readonly places = new Map<string, Place>()
  /** Claims whose withdrawal has no answer yet. */
  private readonly withdrawing = new Map<string, { readonly tracked: TrackedClaim; readonly until: number }>()
  /** Ids that ended by an answer that the caller may not have heard, and until when the caller may ask under them again. */
  private readonly ended = new Map<string, number>()
  private readonly telemetry: StoreTelemetry
  /** Takes a claim off its lease. */
  private readonly takeOffLease: (lease: Lease<Place>, key: string) => void
  private readonly onLost: (loss: Loss) => void

  constructor(
    telemetry: StoreTelemetry,
    takeOffLease: (lease: Lease<Place>, key: string) => void,
    onLost: (loss: Loss) => void
  ) {
    this.telemetry = telemetry
    this.takeOffLease = takeOffLease
    this.onLost = onLost
  }

  find(id: string): TrackedClaim | undefined {
    return this.tracked.get(id)
  }

  all(): ReadonlyArray<TrackedClaim> {
    return Array.from(this.tracked.values())
  }

  /** Does any claim stand in a queue, or ask for a place there? */
  hasWaiters(): boolean {
    for (const { state } of this.tracked.values()) if (state === "queued" || state === "asking") return true
    return false
  }

  /** The place of ours at an etcd key, whether its claim stands there yet or not. */
  at(key: string): Place | undefined {
    return this.places.get(key)
  }

  /** Is that the etcd key of a claim of ours, or of one that is being withdrawn? */
  isOurs(key: string): boolean {
    if (this.places.has(key)) return true
    for (const { tracked } of this.withdrawing.values()) if (tracked.place.key === key) return true
    return false
  }

  /** What is known of a claim. A repeated request finds it again. */
  track(claim: Claim): TrackedClaim {
    let tracked = this.tracked.get(claim.id)
    if (tracked === undefined) {
      tracked = new TrackedClaim(claim, this.placeNames)
      this.tracked.set(claim.id, tracked)
      this.places.set(tracked.place.key, tracked.place)
    } else tracked.isRepeated = true
    return tracked
  }

  /** Bars its id: a claim that is asked for under it from now on would never be withdrawn. */
  endId({ claim }: TrackedClaim, now: number): void {
    for (const [id, until] of this.ended) {
      if (until > now) break
      this.ended.delete(id)
    }
    this.ended.set(claim.id, now + endedFor)
  }

  hasEnded({ id }: Claim): boolean {
    return this.ended.has(id)
  }

  /** Ends a claim here that is to be withdrawn at the server. A repeated withdrawal finds it again. */
  beginWithdrawal(claim: Claim, now: number): TrackedClaim | undefined {
    const tracked = this.tracked.get(claim.id)
    if (tracked === undefined) return this.withdrawing.get(claim.id)?.tracked
    for (const [id, { until }] of this.withdrawing) {
      if (until > now) break
      this.withdrawing.delete(id)
    }
    this.withdrawing.set(claim.id, { tracked, until: now + forgottenAfter })
    this.end(tracked)
    return tracked
  }

  /** A claim whose withdrawal has begun, and has not been answered. */
  withdrawn({ id }: Claim): TrackedClaim | undefined {
    return this.withdrawing.get(id)?.tracked
  }

  /** It has been withdrawn. The name of its place is used again, where nothing of it can arrive any more. */
  noteWithdrawn(tracked: TrackedClaim): void {
    this.withdrawing.delete(tracked.claim.id)
    if (tracked.place.unanswered === 0) this.placeNames.free(tracked.place.name)
  }

  /** Ends a claim for this process. */
  end(tracked: TrackedClaim): void {
    tracked.state = "over"
    tracked.stopWaiting()
    const { claim, place } = tracked
    this.tracked.delete(claim.id)
    this.places.delete(place.key)
    if (place.lease !== undefined) this.takeOffLease(place.lease, place.key)
    place.onEnd()
  }

  /** It is gone at the server. `isOwed`: a stand-in keeps the others out, and goes with its withdrawal. */
  markGone(tracked: TrackedClaim, isOwed = false): void {
    const { state } = tracked
    if (state === "over") return
    this.end(tracked)
    this.placeNames.endGeneration()
    if (state === "held") this.onLost({ id: tracked.claim.id, reason: "Expired", isOwed })
    else {this.telemetry.callBack(() =>
        Deferred.doneUnsafe(tracked.granted, Effect.succeed({ _tag: "Gone" })), tracked.claim.key)}
  }

  /** Fails a waiting claim whose lease can no longer be alive. Returns false where it may be. */
  failIfExpired({ claim, granted, place: { lease } }: TrackedClaim, failure: CallFailure, now: number): boolean {
    if (lease === undefined || now <= toMillis(lease.confirmedAt) + lease.ttl) return false
    this.telemetry.callBack(() => Deferred.doneUnsafe(granted, Effect.fail(backendError("wait")(failure))), claim.key)
    return true
  }

  /** Ends all claims on a lease that is gone. One that is still being asked for is put on another lease. */
  loseLease(lease: Lease<Place>): void {
    for (const place of Array.from(lease.claims.values())) {
      if (place.tracked.state === "asking") place.lease = undefined
      else this.markGone(place.tracked)
    }
  }
}

/** Milliseconds: a few times as long as a caller asks again under the same id. */
const endedFor = 30_000

/** Milliseconds after which a withdrawal is not tried again: the lease of the claim has gone. */
const forgottenAfter = 24 * 60 * 60 * 1_000

/** The claims of this process. */

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
  /** By each of their keys. */
  private readonly places = new Map<string, Place>()
  /** Claims whose withdrawal has no answer yet. */
  private readonly withdrawing = new Map<string, { readonly tracked: TrackedClaim; readonly until: number }>()
  /**
   * Ids of claims that ended by an answer which the caller may have missed, each with the time, in milliseconds, until which
   * the caller may request the same id again.
   */
  private readonly ended = new Map<string, number>()
  private readonly telemetry: StoreTelemetry
  /** Takes a claim off its lease. */
  private readonly takeOffLease: (lease: Lease<Place>, key: string) => void
  private readonly onLost: (loss: Loss) => void
  /** Removes the keys that may be left of a claim. */
  private readonly remove: (place: Place) => void
  /** Called when a marked claim has ended. */
  private readonly forgetMarks: (place: Place) => void

  constructor(
    telemetry: StoreTelemetry,
    takeOffLease: (lease: Lease<Place>, key: string) => void,
    onLost: (loss: Loss) => void,
    remove: (place: Place) => void,
    forgetMarks: (place: Place) => void = () => {}
  ) {
    this.telemetry = telemetry
    this.takeOffLease = takeOffLease
    this.onLost = onLost
    this.remove = remove
    this.forgetMarks = forgetMarks
  }

  find(id: string): TrackedClaim | undefined {
    return this.tracked.get(id)
  }

  all(): ReadonlyArray<TrackedClaim> {
    return Array.from(this.tracked.values())
  }

  /** Whether any claim waits in a queue or has requested a place. */
  hasWaiters(): boolean {
    for (const { state } of this.tracked.values()) if (state === "queued" || state === "asking") return true
    return false
  }

  /** The place of this process with an etcd key. Its claim may not be in the queue yet. */
  at(key: string): Place | undefined {
    return this.places.get(key)
  }

  /** Whether an etcd key belongs to a claim of this process, or to one whose withdrawal has no answer yet. */
  isOurs(key: string): boolean {
    if (this.places.has(key)) return true
    for (const { tracked } of this.withdrawing.values()) if (tracked.place.allKeys.includes(key)) return true
    return false
  }

  /** Returns the tracked claim. A repeated request finds the existing one. */
  track(claim: Claim): TrackedClaim {
    let tracked = this.tracked.get(claim.id)
    if (tracked === undefined) {
      tracked = new TrackedClaim(claim, this.placeNames)
      this.tracked.set(claim.id, tracked)
      for (const key of tracked.place.allKeys) this.places.set(key, tracked.place)
    } else tracked.isRepeated = true
    return tracked
  }

  /** Bars the id of a claim: a claim that is requested under it from now on would never be withdrawn. */
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

  /** Ends a claim in this process, before it is withdrawn at the server. A repeated withdrawal finds the claim again. */
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

  /** The claim whose withdrawal has begun and has no answer yet. */
  withdrawn({ id }: Claim): TrackedClaim | undefined {
    return this.withdrawing.get(id)?.tracked
  }

  /**
   * Records that a claim was withdrawn. The name of its place is free, unless a request of the claim may still arrive. A
   * repeat changes nothing: by then another claim may have the name.
   */
  noteWithdrawn(tracked: TrackedClaim): void {
    if (!this.withdrawing.delete(tracked.claim.id)) return
    if (tracked.place.unanswered === 0) this.placeNames.free(tracked.place.name)
  }

  /** Ends a claim for this process. `isGone`: the server no longer has it. */
  end(tracked: TrackedClaim, isGone = false): void {
    tracked.state = "over"
    tracked.stopWaiting()
    const { claim, place } = tracked
    this.tracked.delete(claim.id)
    for (const key of place.allKeys) {
      this.places.delete(key)
      if (place.lease !== undefined) this.takeOffLease(place.lease, key)
    }
    if (place.revocation !== undefined) this.forgetMarks(place)
    place.onEnd(isGone)
  }

  /**
   * Records that a watch reported the deletion of a key of a shared claim. The report may come before the answer to the request
   * that put the claim. Then it is kept: that answer tells whether it was this claim that was deleted.
   */
  noteDeleted(key: string, revision: bigint): void {
    const place = this.places.get(key)
    if (place === undefined || place.claim.kind === "mutex") return
    // A writer that becomes a reader deletes this key itself.
    if (key !== place.key && place.hasShrunk) return
    if (revision > place.deletedAt) place.deletedAt = revision
    if (place.isDeleted && place.tracked.state !== "asking") this.markGone(place.tracked)
  }

  /**
   * Records that the server no longer has the claim. `isOwed`: a stand-in keeps other processes out until this claim is
   * withdrawn.
   */
  markGone(tracked: TrackedClaim, isOwed = false): void {
    const { state } = tracked
    if (state === "over") return
    this.end(tracked, true)
    this.placeNames.endGeneration()
    this.remove(tracked.place)
    if (state === "held") this.onLost({ id: tracked.claim.id, reason: "Expired", isOwed })
    else {this.telemetry.callBack(() =>
        Deferred.doneUnsafe(tracked.granted, Effect.succeed({ _tag: "Gone" })), tracked.claim.key)}
  }

  /** Fails a waiting claim whose lease can no longer be alive, and returns whether it did. */
  failIfExpired({ claim, granted, place: { lease } }: TrackedClaim, failure: CallFailure, now: number): boolean {
    if (lease === undefined || now <= toMillis(lease.confirmedAt) + lease.ttl) return false
    this.telemetry.callBack(() => Deferred.doneUnsafe(granted, Effect.fail(backendError("wait")(failure))), claim.key)
    return true
  }

  /** Ends all claims on a lease that has ended. A claim whose request has no answer yet gets another lease. */
  loseLease(lease: Lease<Place>): void {
    for (const place of new Set(lease.claims.values())) {
      if (place.tracked.state === "asking") place.lease = undefined
      else this.markGone(place.tracked)
    }
  }
}

/** How long an id stays barred, in milliseconds: several times as long as a caller repeats requests under one id. */
const endedFor = 30_000

/** How long a withdrawal may be repeated, in milliseconds. After that the lease of the claim has ended. */
const forgottenAfter = 24 * 60 * 60 * 1_000

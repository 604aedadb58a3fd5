/** The claims that this process knows, by their ids. */

import type { Claim } from "effect-dlock/LockStore"
import type { StoreTelemetry } from "effect-dlock/StoreTelemetry"
import { keysOf, type LockKeys } from "../protocol/keys.ts"
import { Contention } from "./contention.ts"
import { TrackedClaim } from "./trackedClaim.ts"

/** The claims of this process. A claim is here from its first request until the server has answered its withdrawal. */
export class Registry {
  // Not a `Map`: entries deleted from a `Map` stay reachable from its older tables, so short-lived entries are promoted
  // to the old generation. At a high rate of sections this was most of the garbage collector's work.
  private readonly claims: Record<string, TrackedClaim> = Object.create(null)
  private readonly keyPrefix: string
  private readonly telemetry: StoreTelemetry
  readonly contention: Contention
  /** Claims whose withdrawal got no answer, and until when they stay known. */
  private readonly unanswered = new Map<TrackedClaim, number>()
  /** Claims that were withdrawn recently, and for which messages may still arrive. */
  private withdrawn = new Set<string>()
  private withdrawnBefore = new Set<string>()
  private turnsAt = 0

  constructor(keyPrefix: string, telemetry: StoreTelemetry) {
    this.keyPrefix = keyPrefix
    this.telemetry = telemetry
    this.contention = new Contention(telemetry)
  }

  find(id: string): TrackedClaim | undefined {
    return this.claims[id]
  }

  all(): ReadonlyArray<TrackedClaim> {
    return Object.values(this.claims)
  }

  keysOf(claim: Claim): LockKeys {
    return this.find(claim.id)?.keys ?? keysOf(this.keyPrefix + claim.key)!
  }

  /** Tracks a claim before its first request. */
  track(claim: Claim): TrackedClaim {
    return this.claims[claim.id] = new TrackedClaim(claim, keysOf(this.keyPrefix + claim.key)!, this.telemetry)
  }

  /**
   * Removes a claim that was withdrawn at `now`. Its id is remembered for a while, so that a notification that arrives
   * late is recognised.
   */
  remove(tracked: TrackedClaim, now: number, isExpectingMore = tracked.mayBeNotified): void {
    tracked.state = "withdrawing"
    delete this.claims[tracked.claim.id]
    this.contention.forget(tracked.claim.id)
    // Whoever had no answer to a withdrawal repeats it.
    const isRepeated = this.unanswered.size > 0 && this.unanswered.delete(tracked)
    if (isExpectingMore || isRepeated) this.remember(tracked.claim.id, now)
  }

  /**
   * Records a claim that the store refused to request, so no server knows the claim. The caller may still withdraw it.
   */
  refuse(claim: Claim, now: number): void {
    if (this.find(claim.id) === undefined) this.remember(claim.id, now)
  }

  private remember(id: string, now: number): void {
    if (now >= this.turnsAt) {
      this.withdrawnBefore = now < this.turnsAt + rememberedFor ? this.withdrawn : new Set()
      this.withdrawn = new Set()
      this.turnsAt = now + rememberedFor
    }
    this.withdrawn.add(id)
  }

  /** Whether this claim was withdrawn recently. */
  isWithdrawn(id: string): boolean {
    return this.withdrawn.has(id) || this.withdrawnBefore.has(id)
  }

  /**
   * Removes a claim whose withdrawal got no answer, later. The claim must not be requested again, so it stays known
   * until the server has forgotten it too.
   */
  removeLater(tracked: TrackedClaim, until: number, now: number): void {
    this.unanswered.set(tracked, until)
    for (const [oldest, over] of this.unanswered) {
      if (over > now) break
      this.unanswered.delete(oldest)
      this.remove(oldest, now)
    }
  }
}

/** How many milliseconds a withdrawn claim is remembered at least, because a notification may be on its way to it. */
const rememberedFor = 5_000

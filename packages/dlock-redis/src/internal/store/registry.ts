/** The claims that this process knows, by their ids. */

import type { Claim } from "effect-dlock/LockStore"
import type { StoreTelemetry } from "effect-dlock/StoreTelemetry"
import { keysOf, type LockKeys } from "../protocol/keys.ts"
import { TrackedClaim } from "./trackedClaim.ts"

/** The claims of this process, from the first request of each until the server has answered its withdrawal. */
export class Registry {
  // No `Map`: entries that were deleted from one stay reachable from its older tables, so that the short-lived are promoted
  // to the old generation. At a high rate of sections that is most of the garbage collector's work.
  private readonly claims: Record<string, TrackedClaim> = Object.create(null)
  private readonly keyPrefix: string
  private readonly telemetry: StoreTelemetry
  /** Claims whose withdrawal was not answered, and until when they are known. */
  private readonly unanswered = new Map<TrackedClaim, number>()
  /** Claims that were withdrawn lately, and of which more may come. */
  private withdrawn = new Set<string>()
  private withdrawnBefore = new Set<string>()
  private turnsAt = 0

  constructor(keyPrefix: string, telemetry: StoreTelemetry) {
    this.keyPrefix = keyPrefix
    this.telemetry = telemetry
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

  /** Tracks a claim that is to be asked for for the first time. */
  track(claim: Claim): TrackedClaim {
    return this.claims[claim.id] = new TrackedClaim(claim, keysOf(this.keyPrefix + claim.key)!, this.telemetry)
  }

  /**
   * Removes a claim that was withdrawn at `now`. What may still come for it within a moment, such as a notification, is
   * known for a late one.
   */
  remove(tracked: TrackedClaim, now: number, isExpectingMore = tracked.mayBeNotified): void {
    tracked.state = "withdrawing"
    delete this.claims[tracked.claim.id]
    if (this.unanswered.size > 0) this.unanswered.delete(tracked)
    if (isExpectingMore) this.remember(tracked.claim.id, now)
  }

  /** Notes a claim that is not asked for, with nothing of it at a server. It may be withdrawn all the same. */
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

  /** Whether this claim was withdrawn lately. */
  isWithdrawn(id: string): boolean {
    return this.withdrawn.has(id) || this.withdrawnBefore.has(id)
  }

  /**
   * Removes a claim whose withdrawal was not answered, and may not be asked again: it is known until the server has
   * forgotten it too.
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

/** Milliseconds for which a notification may be under way to a claim that was withdrawn, at least. */
const rememberedFor = 5_000

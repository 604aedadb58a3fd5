import { callBack, type Claim, type Loss } from "effect-dlock/LockStore"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import { backendError, type CallFailure } from "../client/failure.ts"
import { type Lease, toMillis } from "./leases/leases.ts"
import { Slots } from "./placeNames.ts"
import type { Seat } from "./queue/place.ts"
import { Entry } from "./trackedClaim.ts"

/** The claims of this process that are not over. */
export class Claims {
  readonly slots = new Slots()
  private readonly entries = new Map<string, Entry>()
  private readonly seats = new Map<string, Seat>()
  /** Those whose withdrawal has no answer yet. */
  private readonly leavers = new Map<string, { readonly entry: Entry; readonly until: number }>()
  /** Ids that ended by an answer of which who asked may not have heard, and until when they may be asked for again. */
  private readonly ended = new Map<string, number>()
  /** Takes a claim off its lease. */
  private readonly leave: (lease: Lease<Seat>, key: string) => void
  private readonly onLost: (loss: Loss) => void

  constructor(leave: (lease: Lease<Seat>, key: string) => void, onLost: (loss: Loss) => void) {
    this.leave = leave
    this.onLost = onLost
  }

  find(id: string): Entry | undefined {
    return this.entries.get(id)
  }

  all(): ReadonlyArray<Entry> {
    return Array.from(this.entries.values())
  }

  /** Does any claim stand in a queue, or ask for a place there? */
  hasWaiters(): boolean {
    for (const { state } of this.entries.values()) if (state === "queued" || state === "asking") return true
    return false
  }

  /** The seat of a claim that stands at a key, or would. */
  at(key: string): Seat | undefined {
    return this.seats.get(key)
  }

  /** Does a claim of ours stand at a key, or one that is on its way out? */
  isOurs(key: string): boolean {
    if (this.seats.has(key)) return true
    for (const { entry } of this.leavers.values()) if (entry.seat.key === key) return true
    return false
  }

  /** The entry of a claim, which a repeated request finds again. */
  open(claim: Claim): Entry {
    let entry = this.entries.get(claim.id)
    if (entry === undefined) {
      entry = new Entry(claim, this.slots)
      this.entries.set(claim.id, entry)
      this.seats.set(entry.seat.key, entry.seat)
    } else entry.isRepeated = true
    return entry
  }

  /** Its id is over for good: what is asked for under it from now on would have no end. */
  endId({ claim }: Entry, now: number): void {
    for (const [id, until] of this.ended) {
      if (until > now) break
      this.ended.delete(id)
    }
    this.ended.set(claim.id, now + endedFor)
  }

  hasEnded({ id }: Claim): boolean {
    return this.ended.has(id)
  }

  /** A claim that is to be withdrawn, over for everybody here; found again where that is tried again. */
  leaving(claim: Claim, now: number): Entry | undefined {
    const entry = this.entries.get(claim.id)
    if (entry === undefined) return this.leavers.get(claim.id)?.entry
    for (const [id, { until }] of this.leavers) {
      if (until > now) break
      this.leavers.delete(id)
    }
    this.leavers.set(claim.id, { entry, until: now + forgottenAfter })
    this.over(entry)
    return entry
  }

  /** It has been withdrawn. Its name is another's, where nothing of it can arrive any more. */
  noteWithdrawn(entry: Entry): void {
    this.leavers.delete(entry.claim.id)
    if (entry.seat.unanswered === 0) this.slots.free(entry.seat.slot)
  }

  over(entry: Entry): void {
    entry.state = "over"
    entry.stopWaiting()
    const { claim, seat } = entry
    this.entries.delete(claim.id)
    this.seats.delete(seat.key)
    if (seat.lease !== undefined) this.leave(seat.lease, seat.key)
    seat.leaveRoom()
  }

  /** It is gone at the backend, whoever finds out first. `isOwed`: what keeps others out meanwhile goes with its withdrawal. */
  markGone(entry: Entry, isOwed = false): void {
    const { state } = entry
    if (state === "over") return
    this.over(entry)
    this.slots.endEpoch()
    if (state === "held") this.onLost({ id: entry.claim.id, reason: "Expired", isOwed })
    else callBack(() => Deferred.doneUnsafe(entry.granted, Effect.succeed({ _tag: "Gone" })), entry.claim.key)
  }

  /** Nothing has been heard for as long as its lease can be alive: whoever waits is told. False where that may yet live. */
  failIfExpired({ claim, granted, seat: { lease } }: Entry, failure: CallFailure, now: number): boolean {
    if (lease === undefined || now <= toMillis(lease.confirmedAt) + lease.ttl) return false
    callBack(() => Deferred.doneUnsafe(granted, Effect.fail(backendError("wait")(failure))), claim.key)
    return true
  }

  /** Nothing that was on it is left. A claim that is still being asked for is put on another. */
  loseLease(lease: Lease<Seat>): void {
    for (const seat of Array.from(lease.claims.values())) {
      if (seat.entry.state === "asking") seat.lease = undefined
      else this.markGone(seat.entry)
    }
  }
}

/** Milliseconds, a few times what one goes on asking under the same id for. */
const endedFor = 30_000

/** Milliseconds after which nobody tries to withdraw a claim any more: its lease has gone. */
const forgottenAfter = 24 * 60 * 60 * 1_000

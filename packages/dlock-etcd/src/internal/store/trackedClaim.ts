import type { LockBackendError } from "effect-dlock/LockError"
import type { Claim, Gone, Granted } from "effect-dlock/LockStore"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import type { Shared } from "../client/singleFlight.ts"
import type { Slots } from "./placeNames.ts"
import { Seat } from "./queue/place.ts"
import * as Timing from "./timing.ts"

/** What this process knows of a claim, from its first request to its end. */
export class Entry {
  state: "asking" | "queued" | "held" | "over" = "asking"
  /** Where it stands, or is to. */
  seat: Seat
  /** Its number among all that this process asked for, in that order; absent for a try, which waits for nobody. */
  number: number | undefined
  /** It was asked for again: what is known of its seat may change with the next answer. */
  isRepeated = false
  /** Requests that are under way, of which it will be heard. */
  underWay = 0
  /** Whoever withdraws it waits for what is under way. */
  settled: Shared<void, never> | undefined
  /** A request for it has been sent. */
  isSent = false
  /** When to look without having been told to. */
  lookAt = Infinity
  looking = false
  lookedAt = -Infinity
  /** Something happened during the look that is under way. */
  stale = false
  /** The revision that was known when it was last asked for. */
  askedSince = 0n
  /** Its turn has come, and its lease is being asked for. */
  isBeingGranted = false
  /** The one behind it, which was given the turn when this one was released, and without which it is not deleted. */
  heir: Seat | undefined
  isWatching = false
  /** When nobody can believe in the last grant or confirmation any more, the backend's guard included. */
  until = Infinity
  stopWatching: () => void = () => {}
  readonly granted = Deferred.makeUnsafe<Granted | Gone, LockBackendError>()
  readonly claim: Claim

  constructor(claim: Claim, slots: Slots) {
    this.claim = claim
    this.seat = new Seat(this, slots)
  }

  get isOver(): boolean {
    return this.state === "over"
  }

  /** What another must have in common with it to exchange seats: all that a server is told, but for the id. */
  get kind(): string {
    const { capacity, guardGap, holder, ttl } = this.claim
    return `${capacity} ${Duration.toMillis(ttl)} ${Duration.toMillis(guardGap)} ${holder}`
  }

  /** It waits, and nothing that may change its seat is under way. */
  get isAtRest(): boolean {
    return this.state === "queued" && this.underWay === 0 && !this.isRepeated && !this.isBeingGranted
  }

  exchangeSeats(other: Entry): void {
    const { seat } = this
    this.seat = other.seat
    other.seat = seat
    this.seat.entry = this
    seat.entry = other
  }

  /** Milliseconds after which it looks where nothing has told it to; not all who wait at once. */
  get pollAfter(): number {
    return Timing.pollAfter(Duration.toMillis(this.claim.ttl)) * (1 + this.seat.ahead.place % 7 / 20)
  }

  /** Milliseconds after which it looks once more where a look brought no answer. */
  get retryAfter(): number {
    return Timing.pollRetryAfter(Duration.toMillis(this.claim.ttl))
  }

  /** It is let in, or gone. */
  stopWaiting(): void {
    this.stopWatching()
    this.seat.stopMourning()
  }
}

/** A claim of this process and its place in the queue. */

import type { LockBackendError } from "effect-dlock/LockError"
import type { Ahead, Claim, Gone, Granted } from "effect-dlock/LockStore"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import type { SingleFlight } from "../client/singleFlight.ts"
import { type LockKeys, lockKeys } from "../protocol/keys.ts"
import type { QueueSnapshot } from "../protocol/snapshot.ts"
import type { PlaceInQueue } from "../protocol/transactions.ts"
import type { Lease } from "./leases/leases.ts"
import { type PlaceName, type PlaceNames, textOf } from "./placeNames.ts"
import * as Timing from "./timing.ts"

/** What this process knows of one of its claims, from the first request to the end. */
export class TrackedClaim {
  state: "asking" | "queued" | "held" | "over" = "asking"
  /** The place of the claim, whether the server has it yet or not. */
  place: Place
  /** The position in the order of this process's requests. `undefined` for a try, which does not wait. */
  number: number | undefined
  /** The claim was requested again, so the next answer may change its place. */
  isRepeated = false
  /** How many requests have no answer yet. */
  underWay = 0
  /** Ends when no request is pending any more. A withdrawal waits for it. */
  settled: SingleFlight<void, never> | undefined
  /** A request for the claim was sent. */
  isSent = false
  /** When to look although no event arrived, in milliseconds. */
  lookAt = Infinity
  isLooking = false
  /** When the latest look began, in milliseconds. */
  lookedAt = -Infinity
  /** An event arrived during the pending look. */
  changedMeanwhile = false
  /** The highest revision that was known when the claim was last requested. */
  askedSince = 0n
  /** The claim has the turn, and its lease is being confirmed. */
  isBeingGranted = false
  /**
   * The next place, to which this claim handed the lock over. This claim is deleted only while the successor is in the queue.
   */
  successor: Place | undefined
  isWatching = false
  /** Until when the holder may trust the latest grant or confirmation, guard gap included, in milliseconds. */
  heldUntil = Infinity
  stopWatching: () => void = () => {}
  readonly granted = Deferred.makeUnsafe<Granted | Gone, LockBackendError>()
  readonly claim: Claim

  constructor(claim: Claim, placeNames: PlaceNames) {
    this.claim = claim
    this.place = new Place(this, placeNames)
  }

  get isOver(): boolean {
    return this.state === "over"
  }

  /** Two claims may exchange places if this is equal: it is everything that the server knows of a claim, except the id. */
  get kind(): string {
    const { capacity, guardGap, holder, ttl } = this.claim
    return `${capacity} ${Duration.toMillis(ttl)} ${Duration.toMillis(guardGap)} ${holder}`
  }

  /** The claim handed its lock over, and the successor has not ended. */
  get isAwaitingSuccessor(): boolean {
    return this.successor !== undefined && !this.successor.tracked.isOver
  }

  /** The claim waits, and nothing is pending that may change its place. */
  get isAtRest(): boolean {
    return this.state === "queued" && this.underWay === 0 && !this.isRepeated && !this.isBeingGranted
  }

  /** Exchanges the places of two claims. */
  exchangePlaces(other: TrackedClaim): void {
    const { place } = this
    this.place = other.place
    other.place = place
    this.place.tracked = this
    place.tracked = other
  }

  /** How long the claim goes without a look, in milliseconds. It varies with the place, so that not all claims look at once. */
  get pollAfter(): number {
    return Timing.pollAfter(Duration.toMillis(this.claim.ttl)) * (1 + this.place.ahead.place % 7 / 20)
  }

  /** The pause before an unanswered look is repeated, in milliseconds. */
  get retryAfter(): number {
    return Timing.pollRetryAfter(Duration.toMillis(this.claim.ttl))
  }

  /** Ends the watches of a waiting claim: the claim was granted or has ended. */
  stopWaiting(): void {
    this.stopWatching()
    this.place.stopDeathWatch()
  }
}

/**
 * The place of a claim in its queue: the claim's key at the server. Two claims of the same kind may exchange their places while
 * both wait, see `WaitingPlaces`. So `tracked` is the claim that has the place now, and `claim` is the one that requested it.
 */
export class Place implements PlaceInQueue {
  readonly claim: Claim
  readonly keys: LockKeys
  readonly name: PlaceName
  readonly keyBytes: Buffer
  /** `keyBytes` as text, as in the list of a lease's keys. */
  readonly key: string
  tracked: TrackedClaim
  /**
   * The create revision at the server. It orders the queue, and distinguishes the claim from an earlier one with the same key.
   */
  created: bigint | undefined
  /** The base of the fencing token. */
  private base = 0n
  lease: Lease<Place> | undefined
  /** How many requests may have put the claim, or may still put it: this process does not know whether they were executed. */
  unanswered = 0
  ahead: Ahead = { holder: undefined, place: 0, waiting: 1 }
  /** The claim entered behind another claim of this process, and the claims before it were not read. */
  isBlind = false
  /** The lease of the sign of life under which the claim waits. */
  lifeLease: object | undefined
  /** The neighbours among the waiting places of this process. */
  previous: Place | undefined
  next: Place | undefined
  /** Called when the claim of the place has ended. `isGone`: the server no longer has it, so no withdrawal follows. */
  onEnd: (isGone: boolean) => void = () => {}
  /** Ends the watch on the process of the claim before this place. */
  stopDeathWatch: () => void = () => {}

  constructor(tracked: TrackedClaim, placeNames: PlaceNames) {
    this.tracked = tracked
    this.claim = tracked.claim
    this.keys = lockKeys(this.claim.key, this.claim.prefix)
    this.name = placeNames.take(this.claim.key)
    this.keyBytes = this.keys.claim(textOf(this.name))
    this.key = this.keyBytes.toString()
  }

  /** Records the create revision and the base of the claim at the server. */
  noteCreated({ base, own }: QueueSnapshot): void {
    this.created = own
    this.base = base
  }

  get fencingToken(): bigint {
    return this.base + this.created!
  }
}

/** One claim as this process knows it, and its place in the queue. */

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

/** What this process knows of a claim, from its first request to its end. */
export class TrackedClaim {
  state: "asking" | "queued" | "held" | "over" = "asking"
  /** Where it stands in the queue, or is to stand. */
  place: Place
  /** Its number in the order in which this process asked; absent for a try, which waits for nobody. */
  number: number | undefined
  /** It was asked for again: what is known of its place may change with the next answer. */
  isRepeated = false
  /** Requests that are under way. */
  underWay = 0
  /** A withdrawal waits for this: nothing is under way any more. */
  settled: SingleFlight<void, never> | undefined
  /** A request for it has been sent. */
  isSent = false
  /** When to look although nothing has happened. */
  lookAt = Infinity
  isLooking = false
  lookedAt = -Infinity
  /** Something happened during the look that is under way. */
  changedMeanwhile = false
  /** The revision that was known when it was last asked for. */
  askedSince = 0n
  /** Its turn has come, and its lease is being asked for. */
  isBeingGranted = false
  /** The place behind it, to which it was handed over at its release: it is deleted only while that one stands. */
  successor: Place | undefined
  isWatching = false
  /** Until when a holder may count on the last grant or confirmation, the guard gap included. */
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

  /** What two claims must have in common to exchange places: all that the server is told, but for the id. */
  get kind(): string {
    const { capacity, guardGap, holder, ttl } = this.claim
    return `${capacity} ${Duration.toMillis(ttl)} ${Duration.toMillis(guardGap)} ${holder}`
  }

  /** It was handed over to a claim of which nothing is known yet but that it was to have the turn. */
  get isAwaitingSuccessor(): boolean {
    return this.successor !== undefined && !this.successor.tracked.isOver
  }

  /** It waits, and nothing that may change its place is under way. */
  get isAtRest(): boolean {
    return this.state === "queued" && this.underWay === 0 && !this.isRepeated && !this.isBeingGranted
  }

  exchangePlaces(other: TrackedClaim): void {
    const { place } = this
    this.place = other.place
    other.place = place
    this.place.tracked = this
    place.tracked = other
  }

  /** Milliseconds after which it looks although nothing has happened; not all claims at once. */
  get pollAfter(): number {
    return Timing.pollAfter(Duration.toMillis(this.claim.ttl)) * (1 + this.place.ahead.place % 7 / 20)
  }

  /** Milliseconds after which a look that had no answer is repeated. */
  get retryAfter(): number {
    return Timing.pollRetryAfter(Duration.toMillis(this.claim.ttl))
  }

  /** It is granted, or gone. */
  stopWaiting(): void {
    this.stopWatching()
    this.place.stopDeathWatch()
  }
}

/**
 * The key that stands for a claim at the server, or is to stand there. Two claims that ask for the same may exchange their places
 * while both wait, see `WaitingPlaces`: so `tracked` is the claim that has it now, and `claim` the one that it was asked for.
 */
export class Place implements PlaceInQueue {
  readonly claim: Claim
  readonly keys: LockKeys
  readonly name: PlaceName
  readonly keyBytes: Buffer
  /** `keyBytes` as text, as leases list it. */
  readonly key: string
  tracked: TrackedClaim
  /** The revision that put it there: it orders the queue, and is what tells it from an earlier claim at that key. */
  created: bigint | undefined
  /** The base of its fencing token. */
  private base = 0n
  lease: Lease<Place> | undefined
  /** How many requests may have put it there, or may still do so: nobody knows whether they were executed. */
  unanswered = 0
  ahead: Ahead = { holder: undefined, place: 0, waiting: 1 }
  /** It stands behind another claim of this process, and the other claims were not read. */
  isBlind = false
  /** The lease of the sign of life under which it waits. */
  lifeLease: object | undefined
  /** Its neighbours among the waiting places of this process. */
  previous: Place | undefined
  next: Place | undefined
  /** Tells the local queue that its claim has ended. */
  onEnd: () => void = () => {}
  /** Stops the watch on the process of the claim before it. */
  stopDeathWatch: () => void = () => {}

  constructor(tracked: TrackedClaim, placeNames: PlaceNames) {
    this.tracked = tracked
    this.claim = tracked.claim
    this.keys = lockKeys(this.claim.key, this.claim.prefix)
    this.name = placeNames.take(this.claim.key)
    this.keyBytes = this.keys.claim(textOf(this.name))
    this.key = this.keyBytes.toString()
  }

  /** Takes in the revision and the base with which it stands there. */
  noteCreated({ base, own }: QueueSnapshot): void {
    this.created = own
    this.base = base
  }

  get fencingToken(): bigint {
    return this.base + this.created!
  }
}

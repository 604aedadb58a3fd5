/** A claim of this process and its place in the queue. */

import type { LockBackendError } from "effect-dlock/LockError"
import type { Ahead, Claim, Gone, Granted } from "effect-dlock/LockStore"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import type { SingleFlight } from "../client/singleFlight.ts"
import { claimKeys, type LockKeys, lockKeys } from "../protocol/keys.ts"
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
  /** It was requested together with others: their places in all queues belong together. */
  isOneOfSeveral = false
  /** The highest revision that was known when the claim was last requested. */
  askedSince = 0n
  /** The claim has the turn, and its lease is being confirmed. */
  isBeingGranted = false
  /**
   * The next place, to which this claim handed the lock over. This claim is deleted only while the successor is in the queue.
   */
  successor: Place | undefined
  /** How many permits the claim has. A shrink leaves fewer than were requested. */
  permits: number
  /** The smallest capacity of the claims beside which this one was granted, if it is not the claim's own. */
  capacityInUse: number | undefined
  /** Until when the holder may trust the latest grant or confirmation, guard gap included, in milliseconds. */
  heldUntil = Infinity
  /** When the request was sent that confirmed the claim the last time. `undefined` before the grant. */
  confirmedAt: bigint | undefined
  stopWatching: () => void = () => {}
  readonly granted = Deferred.makeUnsafe<Granted | Gone, LockBackendError>()
  readonly claim: Claim

  constructor(claim: Claim, placeNames: PlaceNames) {
    this.claim = claim
    this.permits = claim.permits
    this.place = new Place(this, placeNames)
  }

  get isOver(): boolean {
    return this.state === "over"
  }

  /** Two claims may exchange places if this is equal: it is everything that the server knows of a claim, except the id. */
  get kind(): string {
    const { capacity, guardGap, holder, id, kind, ttl } = this.claim
    if (this.isOneOfSeveral) return `one of several ${id}`
    return `${kind} ${capacity} ${Duration.toMillis(ttl)} ${Duration.toMillis(guardGap)} ${holder}`
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

/** That the holder of a claim was asked to leave, as this process knows it. */
export interface MarkedPlace {
  readonly by: string
  readonly why: string | undefined
  /** From then on the claim is never extended, in milliseconds. */
  readonly forbiddenAt: number
  /** The key of the mark that says so. */
  readonly of: string
  /** The keys of all marks on the claim that this process knows. */
  readonly marks: Set<string>
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
  readonly exclusiveKey?: Buffer
  /** `keyBytes` as text, as in the list of a lease's keys. */
  readonly key: string
  /** All keys of the claim as text: a writer has two. */
  readonly allKeys: ReadonlyArray<string>
  /** The writer has become a reader, or was asked to: its `exclusiveKey` is no sign of it any more. */
  hasShrunk = false
  tracked: TrackedClaim
  /** The latest revision at which one of the keys was deleted, as far as watches have reported. */
  deletedAt = 0n
  /**
   * The create revision at the server. It orders the queue, and distinguishes the claim from an earlier one with the same key.
   */
  created: bigint | undefined
  /** The base of the fencing token. */
  base = 0n
  lease: Lease<Place> | undefined
  /** How many requests may have put the claim, or may still put it: this process does not know whether they were executed. */
  unanswered = 0
  revocation: MarkedPlace | undefined
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
    const { exclusiveKey, keyBytes } = claimKeys(this.keys, this.claim, textOf(this.name))
    this.keyBytes = keyBytes
    this.key = keyBytes.toString()
    if (exclusiveKey !== undefined) this.exclusiveKey = exclusiveKey
    this.allKeys = exclusiveKey === undefined ? [this.key] : [this.key, exclusiveKey.toString()]
  }

  /** The key by which a claim on a shared lock is in the view of a room: for a writer the one that excludes readers. */
  get queueKey(): string {
    return this.allKeys[this.allKeys.length - 1]!
  }

  /** Records the create revision and the base of the claim at the server. */
  noteCreated({ base, own }: Pick<QueueSnapshot, "base" | "own">): void {
    this.created = own
    this.base = base
  }

  /** The claim was put and then deleted. The key may have had earlier claims, whose deletions do not count. */
  get isDeleted(): boolean {
    return this.created !== undefined && this.deletedAt > this.created
  }

  get fencingToken(): bigint {
    return this.base + this.created!
  }
}

/** The place of a claim in its queue. */

import type { Ahead, Claim } from "effect-dlock/LockStore"
import { type LockKeys, lockKeys } from "../../protocol/keys.ts"
import type { QueueSnapshot } from "../../protocol/snapshot.ts"
import type { QueuePosition } from "../../protocol/transactions.ts"
import type { Lease } from "../leases/leases.ts"
import { type PlaceName, type PlaceNames, textOf } from "../placeNames.ts"
import type { TrackedClaim } from "../trackedClaim.ts"

/**
 * The key that stands for a claim at the server, or is to stand there. Two claims that ask for the same may exchange their places
 * while both wait, see `WaitingPlaces`: so `tracked` is the claim that has it now, and `claim` the one that it was asked for.
 */
export class Place implements QueuePosition {
  readonly claim: Claim
  readonly keys: LockKeys
  readonly name: PlaceName
  readonly keyBytes: Buffer
  /** `keyBytes` as text, as leases list it. */
  readonly key: string
  tracked: TrackedClaim
  /** The revision that put it there: its position in the queue, and what tells it from an earlier claim at that key. */
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
  takePosition({ base, own }: QueueSnapshot): void {
    this.created = own
    this.base = base
  }

  get fencingToken(): bigint {
    return this.base + this.created!
  }
}

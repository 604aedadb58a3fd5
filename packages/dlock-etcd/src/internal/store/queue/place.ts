import type { Ahead, Claim } from "effect-dlock/LockStore"
import { type Names, names } from "../../protocol/keys.ts"
import type { Place, View } from "../../protocol/transactions.ts"
import type { Lease } from "../leases/leases.ts"
import { nameOf, type Slot, type Slots } from "../placeNames.ts"
import type { Entry } from "../trackedClaim.ts"

/**
 * What stands for a claim at the server, or is to stand there: a key in the lock's folder. Two claims that ask for the same may
 * exchange their seats while both wait, see `Crowd`; so `entry` tells whose it is now, and `claim` under whose id it was asked
 * for.
 */
export class Seat implements Place {
  readonly claim: Claim
  readonly names: Names
  readonly slot: Slot
  readonly place: Buffer
  /** The same as text, as leases list it. */
  readonly key: string
  entry: Entry
  /** The revision that has put it there: by that it stands in its queue, and is known from what stood there before. */
  created: bigint | undefined
  /** What its fencing token is more than that. */
  private base = 0n
  lease: Lease<Seat> | undefined
  /** Requests that would put it there and of which it is not known whether they have been executed: one may yet be. */
  unanswered = 0
  ahead: Ahead = { holder: undefined, place: 0, waiting: 1 }
  /** It stands behind another of this process, and nobody has looked who else is there. */
  isBlind = false
  /** The lease under whose sign of life it waits. */
  life: object | undefined
  /** Those of this process that wait for the same lock, in the order of the queue. */
  previous: Seat | undefined
  next: Seat | undefined
  /** It is over: the room where it waited or holds is told. */
  leaveRoom: () => void = () => {}
  /** Nobody is told any more that the process before it is dead. */
  stopMourning: () => void = () => {}

  constructor(entry: Entry, slots: Slots) {
    this.entry = entry
    this.claim = entry.claim
    this.names = names(this.claim.key, this.claim.prefix)
    this.slot = slots.take(this.claim.key)
    this.place = this.names.entry(nameOf(this.slot))
    this.key = this.place.toString()
  }

  /** An answer tells as what it stands there. */
  standAs({ base, own }: View): void {
    this.created = own
    this.base = base
  }

  get fencingToken(): bigint {
    return this.base + this.created!
  }
}

import type * as Deferred from "effect/Deferred"
import type { LockKind } from "../../LockError.ts"
import type { Ahead, Claim, Granted } from "../../LockStore.ts"
import type { Item } from "../scheduling/deadlineHeap.ts"
import type { Queue } from "./queue.ts"

/** Who asked a holder to leave, and when its grace is over. */
export interface Asked {
  readonly by: string
  readonly why: string | undefined
  /** In milliseconds of the monotonic clock. */
  readonly endsAt: number
}

/** A granted claim. The heap orders grants by their expiry. */
export class Grant implements Item {
  index = -1
  dueAt = 0
  readonly claim: Claim
  readonly fencingToken: bigint
  /** In milliseconds since 1970. */
  readonly since: number
  /** How many permits it has. A shrink may have left fewer than were granted. */
  permits: number
  /** When it was last extended, in nanoseconds of the monotonic clock. */
  confirmedAt = 0n
  asked: Asked | undefined
  constructor(claim: Claim, fencingToken: bigint, since: number) {
    this.claim = claim
    this.permits = claim.permits
    this.fencingToken = fencingToken
    this.since = since
  }
}

export interface Waiter {
  readonly claim: Claim
  readonly granted: Deferred.Deferred<Granted>
  /**
   * Its place, as the store last reported it. It is not updated at each withdrawal, because for a queue of n waiters
   * that would cost n² steps.
   */
  place: number
  /** The queue before it at the moment of its withdrawal. */
  last: Ahead | undefined
}

/** One key: its holders, and its waiters in their order. */
export interface Room {
  readonly kind: LockKind
  readonly held: Queue<Grant>
  readonly queue: Queue<Waiter>
  /** The sum of the permits of all holders. */
  used: number
  /** How many holders know the key with each capacity. There is one capacity, except while a fleet changes it. */
  readonly capacities: Map<number, number>
  /** The token of the latest grant. */
  lastToken: bigint | undefined
}

/** The smallest capacity among the holders. `Infinity` if there are none. */
export const smallestCapacity = ({ capacities }: Room): number => Math.min(...capacities.keys())

/** The claims in a queue of a shared lock, as a process knows them. */

import type { Demand } from "../../protocol/keys.ts"
import type { Listing, Permits, StandingClaim } from "../../protocol/sharedSnapshot.ts"
import type { Place } from "../trackedClaim.ts"
import { type Linked, OrderedList } from "./orderedList.ts"

/** A claim that is in the queue, as far as this process knows. */
export class RoomEntry implements Linked<RoomEntry>, StandingClaim {
  previous: RoomEntry | undefined
  next: RoomEntry | undefined
  readonly key: string
  readonly created: bigint
  readonly kind: StandingClaim["kind"]
  readonly capacity: number
  permits: number
  /** The version of the value that told `permits`. */
  version: number
  /** The claim gave back permits since, and its value was not read yet. */
  isStale = false
  /** The revision of the latest answer that showed the claim. */
  seenAt: bigint
  /** The place of the claim, if it is a waiting claim of this process. */
  place: Place | undefined

  constructor({ capacity, created, key, kind, permits, version }: StandingClaim, seenAt: bigint) {
    this.key = key
    this.created = created
    this.kind = kind
    this.permits = permits
    this.capacity = capacity
    this.seenAt = seenAt
    this.version = 1
    this.isStale = version > 1
  }
}

/**
 * The claims in a queue, in their order. Those created up to the revision `to` are all known. Claims before a given one can only
 * vanish or give back permits, so an old view never grants too much.
 */
export class RoomView {
  private readonly entries = new OrderedList<RoomEntry>()
  private readonly byKey = new Map<string, RoomEntry>()
  to = 0n

  get size(): number {
    return this.byKey.size
  }

  get first(): RoomEntry | undefined {
    return this.entries.first
  }

  get last(): RoomEntry | undefined {
    return this.entries.last
  }

  get(key: string): RoomEntry | undefined {
    return this.byKey.get(key)
  }

  /** Adds a claim that is in the queue. A known one stays. */
  add(claim: StandingClaim, seenAt: bigint): RoomEntry {
    const earlier = this.byKey.get(claim.key)
    if (earlier !== undefined && earlier.created >= claim.created) {
      if (seenAt > earlier.seenAt) earlier.seenAt = seenAt
      if (claim.version > earlier.version) earlier.isStale = true
      return earlier
    }
    // Names are reused: the earlier claim with this key is gone.
    if (earlier !== undefined) this.remove(earlier)
    const entry = new RoomEntry(claim, seenAt)
    this.entries.insert(entry)
    this.byKey.set(entry.key, entry)
    return entry
  }

  remove(entry: RoomEntry): void {
    this.entries.remove(entry)
    this.byKey.delete(entry.key)
  }

  clear(): void {
    this.entries.clear()
    this.byKey.clear()
    this.to = 0n
  }

  /**
   * Takes in a list and returns the known claims that it shows to be gone, or `undefined` if unknown claims are between the
   * known ones and the list. `isDeleted`: a later answer or event has told of the claim's end. `isListed`: whether such a claim
   * would be in the list.
   */
  take(
    { found, from, revision, upTo }: Listing,
    isDeleted: (claim: StandingClaim) => boolean = () => false,
    isListed: (entry: RoomEntry) => boolean = () => true
  ): ReadonlyArray<RoomEntry> | undefined {
    if (from > this.to + 1n) return undefined
    const there = new Map(found.map((claim) => [claim.key, claim.created]))
    const gone: Array<RoomEntry> = []
    for (let entry = this.entries.first; entry !== undefined && entry.created <= upTo;) {
      const { next }: RoomEntry = entry
      if (entry.created >= from && there.get(entry.key) !== entry.created && isListed(entry)) {
        this.remove(entry)
        gone.push(entry)
      }
      entry = next
    }
    for (const claim of found) if (!isDeleted(claim)) this.add(claim, revision)
    if (upTo > this.to) this.to = upTo
    return gone
  }

  /** Whether all claims before one that was created at that revision are known. No two claims have the same. */
  isKnownBefore(created: bigint): boolean {
    return created <= this.to + 1n
  }

  /** The claims whose permits are there, in queue order: each is held, or may be. */
  *inside(): Generator<RoomEntry> {
    let permits = 0
    let least = Infinity
    for (let entry = this.entries.first; entry !== undefined && this.isKnownBefore(entry.created);) {
      const { next }: RoomEntry = entry
      permits += entry.permits
      least = Math.min(least, entry.capacity)
      if (permits > least) return
      yield entry
      entry = next
    }
  }

  /** Whether the permits suffice for one more claim, behind all that are known. */
  fits({ capacity, permits }: Demand): boolean {
    let used = permits
    let least = capacity
    for (let entry = this.entries.first; entry !== undefined; entry = entry.next) {
      used += entry.permits
      least = Math.min(least, entry.capacity)
    }
    return used <= least
  }

  /** The smallest capacity of the claims that are inside, this one aside. `undefined` if there are none. */
  leastInside(except: RoomEntry | undefined): number | undefined {
    let least: number | undefined
    for (const entry of this.inside()) {
      if (entry === except) return least
      least = Math.min(least ?? Infinity, entry.capacity)
    }
    return least
  }

  /** The keys of some claims that have given back permits: their values tell how many are left. */
  stale(): ReadonlyArray<string> {
    const stale: Array<string> = []
    for (let entry = this.entries.first; entry !== undefined && stale.length < mostRead; entry = entry.next) {
      if (entry.isStale) stale.push(entry.key)
    }
    return stale
  }

  /** Takes in the values of claims that were read for that. */
  takePermits(asked: ReadonlyArray<string>, read: ReadonlyArray<Permits>): void {
    for (const key of asked) {
      const entry = this.byKey.get(key)
      if (entry !== undefined) entry.isStale = false
    }
    for (const { created, key, permits, version } of read) {
      const entry = this.byKey.get(key)
      if (entry === undefined || entry.created !== created || version < entry.version) continue
      entry.version = version
      entry.permits = Math.min(entry.permits, permits)
    }
  }

  /** How many claims that are not inside come before this one. */
  waitingBefore(one: RoomEntry): number {
    const inside = new Set(this.inside())
    let count = 0
    for (let entry = this.entries.first; entry !== undefined && entry !== one; entry = entry.next) {
      if (!inside.has(entry)) count++
    }
    return count
  }

  /** How many claims are not inside. */
  get waiting(): number {
    return this.size - Array.from(this.inside()).length
  }
}

/** How many values one request reads. */
const mostRead = 50

/** What a process knows of the queue of a shared lock, and how far it may be trusted. */

import type { Ahead, Claim, Mismatched } from "effect-dlock/LockStore"
import { isReader, isWriter } from "../../protocol/keys.ts"
import type { Listing } from "../../protocol/sharedSnapshot.ts"
import type { Known } from "../../protocol/sharedTransactions.ts"
import type { OtherClaim } from "../../protocol/snapshot.ts"
import type { Place } from "../trackedClaim.ts"
import { Answers, type Asked } from "./answers.ts"
import { type RoomEntry, RoomView } from "./roomView.ts"

/** The view of a queue, with what proves that claims of this process are still in it. */
export class RoomKnowledge {
  readonly view = new RoomView()
  readonly answers = new Answers()
  /** The revision of the latest answer that listed all claims: a watch from there reports what was deleted since. */
  wholeAt = 0n
  /** How often something happened after which what is known may be wrong. */
  doubts = 0
  /** How many of these times a look has settled. */
  private settled = 0
  /**
   * This process knows of some deletions up to this revision and may have missed earlier ones, since it did not learn of them
   * from its watch in their order. The missed deletions may include a claim of this process.
   */
  private foreseen = 0n
  /** The head of the queue when it was last read. */
  private head: { readonly created: bigint; readonly holder: string | undefined } | undefined
  private readonly kind: Claim["kind"]
  /** The revision after which the watch reports every deletion. `undefined` while there is no watch. */
  private readonly heardFrom: () => bigint | undefined

  constructor(kind: Claim["kind"], heardFrom: () => bigint | undefined) {
    this.kind = kind
    this.heardFrom = heardFrom
  }

  /** The claims that are known. `undefined` if none is. */
  get all(): Known | undefined {
    const { last, to } = this.view
    return last === undefined || to === 0n ? undefined : { upTo: to, last }
  }

  /**
   * The claims that an answer need not list. Without a watch, a queue that is not long is listed anew, because many of the known
   * claims may have gone.
   */
  get known(): Known | undefined {
    return this.heardFrom() !== undefined || this.isLong ? this.all : undefined
  }

  get isLong(): boolean {
    return this.view.size > fewListed
  }

  /** The claims that are known, if they leave enough permits for one more. Readers are never all known. */
  roomFor(claim: Claim): Known | undefined {
    const { all } = this
    return this.kind === "semaphore" && all !== undefined && all.last.created <= all.upTo && this.view.fits(claim)
      ? all
      : undefined
  }

  /** Whether a claim that has just entered has its permits already. Its answer proves that it is there. */
  isInside(place: Place): boolean {
    const mine = this.view.get(place.queueKey)
    if (isWriter(place.claim) || mine === undefined || this.isInDoubt) return false
    for (const entry of this.view.inside()) if (entry === mine) return this.isSure(mine)
    return false
  }

  /** Whether the claim was in the queue when the last claim that was in its way had gone. */
  isSure({ seenAt }: RoomEntry): boolean {
    const heardFrom = this.heardFrom()
    return seenAt >= this.foreseen && (heardFrom === undefined || seenAt >= heardFrom)
  }

  /** The smallest capacity of the claims that are inside before this one, if it is not the claim's own. */
  capacityBefore({ claim: { capacity }, queueKey }: Place): number | undefined {
    if (this.kind !== "semaphore") return undefined
    const least = this.view.leastInside(this.view.get(queueKey))
    return least === capacity ? undefined : least
  }

  /** Whether a claim that insists on its capacity finds another one. */
  mismatch(place: Place): Mismatched | undefined {
    const inUse = place.claim.onCapacityChange === "fail" ? this.capacityBefore(place) : undefined
    return inUse === undefined ? undefined : { _tag: "CapacityMismatch", kind: this.kind, inUse }
  }

  /** What the claim with this key learns about the claims before it. */
  ahead(key: string): Ahead | undefined {
    const { first, waiting } = this.view
    const mine = this.view.get(key)
    if (mine === undefined) return undefined
    const holder = this.head !== undefined && this.head.created === first?.created ? this.head.holder : undefined
    return { holder, place: this.view.waitingBefore(mine), waiting: Math.max(1, waiting) }
  }

  noteHead({ created, value: { holder } }: OtherClaim): void {
    this.head = { created, holder }
  }

  // Doubts.

  get isInDoubt(): boolean {
    return this.doubts > this.settled
  }

  doubt(): void {
    this.doubts++
  }

  /** Records that an answer of that revision listed the queue, to a look that was sent after so many doubts. */
  settle(doubts: number, revision: bigint): void {
    this.settled = doubts
    this.wholeAt = revision
  }

  /** Records that deletions up to this revision are known, and not from the watch. */
  foresee(revision: bigint): void {
    if (revision > this.foreseen) this.foreseen = revision
  }

  /** Records that the watch has reported a deletion. If it is astray, earlier ones may follow. */
  noteHeard(revision: bigint, isAstray: boolean): void {
    this.answers.note(revision)
    if (revision >= this.foreseen) this.foreseen = isAstray ? revision : 0n
  }

  /**
   * Records a revision of the server. If it is below one that was known when the request was sent, the server lost its data or
   * was restored: then everything known is discarded, and the result is false.
   */
  observeRevision(revision: bigint, asked: Asked): boolean {
    if (this.answers.isPossible(revision, asked)) return true
    this.view.clear()
    this.wholeAt = 0n
    this.foreseen = revision
    this.doubt()
    return false
  }

  /** Takes in a list, and returns the waiting claims of this process that it shows to be gone. */
  takeList(listing: Listing): ReadonlyArray<Place> {
    const gone = this.view.take(
      listing,
      (claim) => this.answers.wasDeleted(claim),
      // The lists of a read-write lock contain no readers.
      (claim) => this.kind === "semaphore" || !isReader(claim)
    )
    if (gone === undefined) {
      this.doubt()
      return []
    }
    if (listing.from === 0n && listing.isWhole) this.wholeAt = listing.revision
    // The watch may not have reported their deletions yet.
    if (gone.length > 0) this.foresee(listing.revision)
    return gone.flatMap(({ place }) => place ?? [])
  }
}

/** A queue with at most this many claims is listed anew if it is not watched. */
const fewListed = 64

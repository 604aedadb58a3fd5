import type { Claim } from "effect-dlock/LockStore"
import { type Names, names } from "../protocol/keys.ts"
import { Entry } from "./trackedClaim.ts"

/** The claims of this process, from the first request of each until the server has answered its leave. */
export class Claims {
  // No `Map`: entries that were deleted from one stay reachable from its older tables, so that the short-lived are promoted
  // to the old generation. At a high rate of sections that is most of the garbage collector's work.
  private readonly entries: Record<string, Entry> = Object.create(null)
  private readonly keyPrefix: string
  /** Claims whose leave was not answered, and until when they are known. */
  private readonly unanswered = new Map<Entry, number>()
  /** Claims that were left lately, and of which more may come. */
  private left = new Set<string>()
  private leftBefore = new Set<string>()
  private turnsAt = 0

  constructor(keyPrefix: string) {
    this.keyPrefix = keyPrefix
  }

  find(id: string): Entry | undefined {
    return this.entries[id]
  }

  all(): ReadonlyArray<Entry> {
    return Object.values(this.entries)
  }

  namesOf(claim: Claim): Names {
    return this.find(claim.id)?.names ?? names(this.keyPrefix + claim.key)!
  }

  /** The entry of a claim that is to be asked for for the first time. */
  open(claim: Claim): Entry {
    return this.entries[claim.id] = new Entry(claim, names(this.keyPrefix + claim.key)!)
  }

  /** It has been left, at `now`. What may still come for it within a moment, such as a push, is known for a late one. */
  end(entry: Entry, now: number, isExpectingMore = entry.mayBePushed): void {
    entry.state = "leaving"
    delete this.entries[entry.claim.id]
    if (this.unanswered.size > 0) this.unanswered.delete(entry)
    if (isExpectingMore) this.remember(entry.claim.id, now)
  }

  /** One that is not asked for, with nothing of it at a server. It may be withdrawn all the same. */
  refuse(claim: Claim, now: number): void {
    if (this.find(claim.id) === undefined) this.remember(claim.id, now)
  }

  private remember(id: string, now: number): void {
    if (now >= this.turnsAt) {
      this.leftBefore = now < this.turnsAt + rememberedFor ? this.left : new Set()
      this.left = new Set()
      this.turnsAt = now + rememberedFor
    }
    this.left.add(id)
  }

  hasLeft(id: string): boolean {
    return this.left.has(id) || this.leftBefore.has(id)
  }

  /** Its leave was not answered, and may not be asked again: it is known until the server has forgotten it too. */
  endLater(entry: Entry, until: number, now: number): void {
    this.unanswered.set(entry, until)
    for (const [oldest, over] of this.unanswered) {
      if (over > now) break
      this.unanswered.delete(oldest)
      this.end(oldest, now)
    }
  }
}

/** Milliseconds for which a push may be under way to a claim that has been left, at least. */
const rememberedFor = 5_000

import type { Claim, Granted } from "effect-dlock/LockStore"
import * as Latch from "effect/Latch"
import { Entry } from "./entry.ts"
import { type Names, names } from "./names.ts"
import type { Holder, Queued } from "./scripts.ts"
import { Waiting } from "./waiting.ts"

/** The claims of this process, from the first request of each to its end, and when something changed about them. */
export class Claims {
  // No map: what its table has lost stays reachable from older tables, and outlives the young generation with all it
  // leads to. At the pace of sections that is most of the collector's work.
  private readonly entries: Record<string, Entry> = Object.create(null)
  readonly waiting: Waiting
  /** Opens when those who wait must be looked at before `sleepsUntil`. */
  readonly stirred = Latch.makeUnsafe()
  /** Milliseconds of monotonic time. */
  sleepsUntil = Infinity
  private readonly keyPrefix: string

  constructor(keyPrefix: string, retryInterval: number) {
    this.keyPrefix = keyPrefix
    this.waiting = new Waiting(retryInterval)
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

  asked(claim: Claim, now: bigint): Entry {
    let entry = this.find(claim.id)
    if (entry === undefined) {
      entry = new Entry(claim, this.namesOf(claim))
      this.entries[claim.id] = entry
    }
    entry.asked(now)
    return entry
  }

  isQueued(entry: Entry, sentAt: bigint, { floor, holder, length, place }: Queued): void {
    entry.isQueued(sentAt, floor, { holder: labelOf(holder), place, waiting: length })
    if (entry.state !== "queued") return
    this.waiting.schedule(entry, toMillis(sentAt), holder)
    this.waiting.add(entry)
    if (entry.refreshAt < this.sleepsUntil) this.stirred.openUnsafe()
  }

  isGranted(entry: Entry, token: bigint, sentAt: bigint): Granted {
    this.noLongerWaits(entry)
    return entry.isGranted(token, sentAt)
  }

  /** It has been granted, which counts when it is confirmed. */
  isConfirming(entry: Entry): void {
    this.noLongerWaits(entry)
    entry.state = "confirming"
  }

  /** It is to be left: nothing that comes for it from now on is for us. */
  leave(entry: Entry): void {
    entry.state = "leaving"
    this.noLongerWaits(entry)
  }

  /** It has been left. */
  end(entry: Entry): void {
    this.leave(entry)
    delete this.entries[entry.claim.id]
  }

  /** Has every waiting claim, or every one of a lock, ask at once; one that has just asked, once it has its answer. */
  hurry(now: number, lock?: string): void {
    for (const entry of this.all()) {
      if (lock !== undefined && entry.names.lock !== lock) continue
      entry.hurriedAt = now
      entry.refreshAt = Math.min(entry.refreshAt, now)
    }
    this.stirred.openUnsafe()
  }

  /** A server was left that may know of any of these. */
  isLeft(): void {
    for (const entry of this.all()) entry.isKnownElsewhere = true
  }

  private noLongerWaits(entry: Entry): void {
    if (this.waiting.remove(entry)) this.stirred.openUnsafe()
  }
}

export const toMillis = (nanos: bigint): number => Number(nanos) / 1_000_000

export const labelOf = (holder: Holder | undefined): string | undefined =>
  holder === undefined || holder.foreign ? undefined : holder.label

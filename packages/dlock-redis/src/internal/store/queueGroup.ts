import type { Item } from "effect-dlock/DeadlineHeap"
import type { Ahead } from "effect-dlock/LockStore"
import type { Holder, Queued } from "../protocol/index.ts"
import type { Names } from "../protocol/keys.ts"
import * as Timing from "./timing.ts"
import type { Entry } from "./trackedClaim.ts"

/**
 * The claims of this process that wait for one lock, in the order in which they wait. The foremost asks how things stand,
 * whatever its place, so that a message which got lost, or a holder or waiters in front which died, cost the same at any
 * place. The others only have their places kept alive.
 */
export class Group implements Item {
  readonly names: Names
  // The heap's.
  dueAt = Infinity
  index = -1
  /** Calls about this lock that are under way. */
  asking = 0

  private readonly retryInterval: number
  private entries: Array<Entry> = []
  private first = 0
  private count = 0
  /** The token of the holder, where that is one of ours and holds alone: while it stands there, nothing has changed. */
  private seen: string | undefined
  /** When to look whether it does. */
  private peekAt = Infinity
  /** The token of the latest grant to one of these that this process knows of. */
  private granted: string | undefined
  /** When the foremost must ask. */
  private askAt = Infinity
  /** When the first of the places must be kept alive, or earlier. */
  private keepAt = Infinity
  /** When there was last reason to ask at once: an answer to what was sent before does not settle it. */
  private hurriedAt = -Infinity
  private holder: string | undefined
  private length = 0
  /** By how many places the queue has moved on since the first of them came, as far as the foremost was told. */
  private movedOn = 0

  constructor(names: Names, retryInterval: number) {
    this.names = names
    this.retryInterval = retryInterval
  }

  get isEmpty(): boolean {
    return this.count === 0
  }

  get nextAt(): number {
    return Math.min(this.askAt, this.keepAt, this.peekAt)
  }

  private get foremost(): Entry | undefined {
    while (this.first < this.entries.length && this.entries[this.first]!.place === undefined) this.first++
    return this.entries[this.first]
  }

  /** An answer to what was sent at `sentAt` gave a claim its place. */
  place(entry: Entry, sentAt: number, { floor, holder, length, place }: Queued): void {
    if (entry.place === undefined) {
      // One that was granted too late may be queued again, behind where it was.
      if (entry.last !== undefined) this.forget((other) => other === entry)
      this.entries.push(entry)
      this.count++
    }
    const before = entry.place
    entry.place = place + this.movedOn
    const isHurried = this.hurriedAt > sentAt
    const isForemost = entry === this.foremost
    if (isForemost && before !== undefined) {
      this.movedOn += Math.max(0, before - entry.place)
      entry.place = place + this.movedOn
    }
    this.holder = labelOf(holder)
    this.length = length
    this.keep(entry, isHurried ? this.hurriedAt : soonBefore(sentAt, Timing.refreshAfter(entry.ttl)))
    if (!isForemost) return
    const seenBefore = this.seen
    this.seen = holder === undefined || holder.foreign || entry.claim.capacity > 1 ? undefined : String(floor)
    if (seenBefore !== undefined && this.seen !== seenBefore && holder?.label === entry.claim.holder) {
      this.lookForHolder(sentAt)
    }
    this.peekAt = this.seen === undefined ? Infinity : soonBefore(sentAt, periodOf(entry))
    this.askAt = isHurried ? this.hurriedAt : this.nextQuestion(entry, sentAt, place, holder)
  }

  /**
   * The holder has changed, and goes by our name: it may be one of these, who has not heard of it. Answers that came out of
   * their order let another of them be the foremost, but only one that is near the front.
   */
  private lookForHolder(now: number): void {
    if (this.seen === this.granted) return
    let left = claimsPerCall
    for (let index = this.first; index < this.entries.length && left > 0; index++) {
      const entry = this.entries[index]!
      if (entry.place === undefined) continue
      this.keep(entry, now)
      left--
    }
  }

  /**
   * When the foremost asks next: now and then in any case; when the holder's time is over, whose death is told to nobody;
   * and often behind another library's client, which tells nobody of its release. The further from the head the less
   * often then, so that those who wait in many processes do not ask as one.
   */
  private nextQuestion(entry: Entry, sentAt: number, place: number, holder: Queued["holder"]): number {
    const period = this.seen === undefined ? periodOf(entry) : Timing.refreshAfter(entry.ttl)
    const often = holder?.foreign === true ? Math.min(period, (place + 1) * this.retryInterval) : period
    const jitter = (1 + hash(entry.claim.id)) / 2 * this.retryInterval / 2
    const holdersEnd = holder !== undefined && holder.remaining >= 0 ? holder.remaining + jitter : Infinity
    return Math.min(often, holdersEnd) === period ? soonBefore(sentAt, period) : sentAt + Math.min(often, holdersEnd)
  }

  /** The token to look for, when that is due. */
  takePeek(now: number): string | undefined {
    if (this.peekAt > now) return undefined
    this.peekAt = Infinity
    return this.seen
  }

  /** What a look that was sent at `sentAt` brought: it was found, or there is reason to ask. */
  notePeek(token: string, isFound: boolean, sentAt: number, now: number): void {
    const { foremost } = this
    // An answer has come meanwhile.
    if (token !== this.seen || foremost === undefined) return
    if (isFound) this.peekAt = Math.min(this.peekAt, soonBefore(sentAt, periodOf(foremost)))
    else this.hurry(now)
  }

  /** A claim does not wait any more; it was granted, where there is a token. */
  remove(entry: Entry, now: number, token?: bigint): void {
    if (token !== undefined) this.granted = String(token)
    entry.last = this.aheadOf(entry)
    entry.place = undefined
    this.count--
    const { foremost } = this
    // It may know of a holder that is not the present one.
    if (foremost !== undefined) this.askAt = Math.min(this.askAt, now + periodOf(foremost))
    // Those who give up behind one that stays go from the middle.
    if (this.entries.length > 2 * this.count + mostPast) this.forget(({ place }) => place === undefined)
  }

  private forget(isToGo: (entry: Entry) => boolean): void {
    this.entries = this.entries.filter((entry) => !isToGo(entry))
    this.first = 0
  }

  /** There is reason to ask at once. */
  hurry(now: number): void {
    this.hurriedAt = now
    this.askAt = now
  }

  /** There is reason for each of them to tell that it is still there. */
  hurryAll(now: number): void {
    this.hurry(now)
    this.keepAt = now
    for (const entry of this.entries) entry.keepAt = now
  }

  /** A question about a claim brought no answer. */
  postpone(entry: Entry, at: number): void {
    this.keep(entry, at)
    if (entry === this.foremost) this.askAt = at
  }

  private keep(entry: Entry, at: number): void {
    entry.keepAt = at
    this.keepAt = Math.min(this.keepAt, at)
  }

  /** Those that must ask or be kept alive now, and those that soon must: one call for all of them. The foremost first. */
  takeDue(now: number): ReadonlyArray<Entry> {
    const asking = this.askAt <= now ? this.foremost : undefined
    const isKeeping = this.keepAt <= now
    if (asking === undefined && !isKeeping) return none
    const due = asking === undefined ? [] : [asking]
    if (asking !== undefined) {
      this.askAt = Infinity
      this.peekAt = Infinity
      asking.keepAt = Infinity
    }
    if (!isKeeping) return due
    this.keepAt = Infinity
    for (const entry of this.entries) {
      if (entry.place === undefined || entry === asking) continue
      if (entry.keepAt <= now + Timing.refreshTogether(entry.ttl)) {
        entry.keepAt = Infinity
        due.push(entry)
      } else this.keepAt = Math.min(this.keepAt, entry.keepAt)
    }
    return due
  }

  aheadOf({ place = 0 }: Entry): Ahead {
    return { holder: this.holder, place: Math.max(0, place - this.movedOn), waiting: this.length }
  }
}

const periodOf = ({ ttl }: Entry): number => Timing.questionPeriod(ttl)

/** About `period` later, and a little earlier rather than later: at one of ten moments of it, which locks have in common. */
const soonBefore = (from: number, period: number): number => {
  const step = period / 10
  return Math.floor((from + period) / step) * step
}

/** A number in [0, 1) that differs from claim to claim, so that those who wait for one expiry do not ask as one. */
const hash = (id: string): number => (id.charCodeAt(0) * 64 + id.charCodeAt(1)) % 61 / 61

const mostPast = 1_000

/** How many claims are asked about in one call at most. */
export const claimsPerCall = 100

const none: ReadonlyArray<Entry> = []

/** What stands before a claim that has no group yet. */
export const aheadIn = ({ holder, length, place }: Queued): Ahead => ({
  holder: labelOf(holder),
  place,
  waiting: length
})

/** A client of another library may have put a secret where ours put a label. */
export const labelOf = (holder: Holder | undefined): string | undefined =>
  holder === undefined || holder.foreign ? undefined : holder.label

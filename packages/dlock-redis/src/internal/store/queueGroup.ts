/** The claims that wait for one lock. */

import type { Item } from "effect-dlock/DeadlineHeap"
import type { Ahead } from "effect-dlock/LockStore"
import type { Holder, Queued } from "../protocol/index.ts"
import type { LockKeys } from "../protocol/keys.ts"
import * as Timing from "./timing.ts"
import type { TrackedClaim } from "./trackedClaim.ts"

/**
 * The claims of this process that wait for one lock, in the order in which they wait. The foremost asks how things
 * stand, whatever its place, so that a message which got lost, or a holder or waiters in front which died, cost the
 * same at any place. The others only have their places kept alive.
 */
export class QueueGroup implements Item {
  readonly keys: LockKeys
  // The heap's.
  dueAt = Infinity
  index = -1
  /** Calls about this lock that are under way. */
  asking = 0

  private readonly retryInterval: number
  private waiters: Array<TrackedClaim> = []
  private first = 0
  private count = 0
  /** The token of the holder, where that is one of ours and holds alone: while it stands there, nothing has changed. */
  private seen: string | undefined
  /** When to peek whether it does. */
  private peekAt = Infinity
  /** The token of the latest grant to one of these that this process knows of. */
  private granted: string | undefined
  /** When the foremost must ask. */
  private askAt = Infinity
  /** When the first of the places must be kept alive, or earlier. */
  private keepAt = Infinity
  /** When there was last reason to ask at once: an answer to what was sent before does not answer that. */
  private hurriedAt = -Infinity
  private holder: string | undefined
  private length = 0
  /** By how many places the queue has moved on since the first of them came, as far as the foremost was told. */
  private movedOn = 0

  constructor(keys: LockKeys, retryInterval: number) {
    this.keys = keys
    this.retryInterval = retryInterval
  }

  get isEmpty(): boolean {
    return this.count === 0
  }

  get nextAt(): number {
    return Math.min(this.askAt, this.keepAt, this.peekAt)
  }

  private get foremost(): TrackedClaim | undefined {
    while (this.first < this.waiters.length && this.waiters[this.first]!.place === undefined) this.first++
    return this.waiters[this.first]
  }

  /** Notes the place that an answer to what was sent at `sentAt` gave to a claim. */
  notePlace(tracked: TrackedClaim, sentAt: number, { floor, holder, length, place }: Queued): void {
    if (tracked.place === undefined) {
      // One that was granted too late may be queued again, behind where it was.
      if (tracked.lastAhead !== undefined) this.forget((other) => other === tracked)
      this.waiters.push(tracked)
      this.count++
    }
    const before = tracked.place
    tracked.place = place + this.movedOn
    const isHurried = this.hurriedAt > sentAt
    const isForemost = tracked === this.foremost
    if (isForemost && before !== undefined) {
      this.movedOn += Math.max(0, before - tracked.place)
      tracked.place = place + this.movedOn
    }
    this.holder = labelOf(holder)
    this.length = length
    this.keep(tracked, isHurried ? this.hurriedAt : soonBefore(sentAt, Timing.refreshAfter(tracked.ttl)))
    if (!isForemost) return
    const seenBefore = this.seen
    this.seen = holder === undefined || holder.foreign || tracked.claim.capacity > 1 ? undefined : String(floor)
    if (seenBefore !== undefined && this.seen !== seenBefore && holder?.label === tracked.claim.holder) {
      this.askThoseNear(sentAt)
    }
    this.peekAt = this.seen === undefined ? Infinity : soonBefore(sentAt, periodOf(tracked))
    this.askAt = isHurried ? this.hurriedAt : this.nextQuestion(tracked, sentAt, place, holder)
  }

  /**
   * Has those near the front asked about. The holder has changed and has our label: it may be one of these, whose
   * notification was lost. Where answers came out of order another than the foremost may be it, but only one near the front.
   */
  private askThoseNear(now: number): void {
    if (this.seen === this.granted) return
    let left = claimsPerCall
    for (let index = this.first; index < this.waiters.length && left > 0; index++) {
      const tracked = this.waiters[index]!
      if (tracked.place === undefined) continue
      this.keep(tracked, now)
      left--
    }
  }

  /**
   * When the foremost asks next: now and then in any case; when the holder's lease expires, since nothing tells of its
   * death; and often behind another library's client, which tells nobody of its release: the less often the further
   * from the head, so that waiters in many processes do not ask as one.
   */
  private nextQuestion(tracked: TrackedClaim, sentAt: number, place: number, holder: Queued["holder"]): number {
    const period = this.seen === undefined ? periodOf(tracked) : Timing.refreshAfter(tracked.ttl)
    const often = holder?.foreign === true ? Math.min(period, (place + 1) * this.retryInterval) : period
    const jitter = (1 + hash(tracked.claim.id)) / 2 * this.retryInterval / 2
    const holdersEnd = holder !== undefined && holder.remaining >= 0 ? holder.remaining + jitter : Infinity
    return Math.min(often, holdersEnd) === period ? soonBefore(sentAt, period) : sentAt + Math.min(often, holdersEnd)
  }

  /** The token to look for, when that is due. */
  takePeek(now: number): string | undefined {
    if (this.peekAt > now) return undefined
    this.peekAt = Infinity
    return this.seen
  }

  /** Notes what a peek that was sent at `sentAt` found: the same holder, or reason to ask. */
  notePeek(token: string, isFound: boolean, sentAt: number, now: number): void {
    const { foremost } = this
    // An answer has come meanwhile.
    if (token !== this.seen || foremost === undefined) return
    if (isFound) this.peekAt = Math.min(this.peekAt, soonBefore(sentAt, periodOf(foremost)))
    else this.hurry(now)
  }

  /** Removes a claim that waits no more; it was granted, where there is a token. */
  remove(tracked: TrackedClaim, now: number, token?: bigint): void {
    if (token !== undefined) this.granted = String(token)
    tracked.lastAhead = this.aheadOf(tracked)
    tracked.place = undefined
    this.count--
    const { foremost } = this
    // It may know of a holder that is not the present one.
    if (foremost !== undefined) this.askAt = Math.min(this.askAt, now + periodOf(foremost))
    // Those who give up behind one that stays go from the middle.
    if (this.waiters.length > 2 * this.count + mostPast) this.forget(({ place }) => place === undefined)
  }

  private forget(isToGo: (tracked: TrackedClaim) => boolean): void {
    this.waiters = this.waiters.filter((tracked) => !isToGo(tracked))
    this.first = 0
  }

  /** Has the foremost ask at once. */
  hurry(now: number): void {
    this.hurriedAt = now
    this.askAt = now
  }

  /** Has each of them tell at once that it is still there. */
  hurryAll(now: number): void {
    this.hurry(now)
    this.keepAt = now
    for (const tracked of this.waiters) tracked.keepAt = now
  }

  /** Asks again at `at`: a question about this claim brought no answer. */
  postpone(tracked: TrackedClaim, at: number): void {
    this.keep(tracked, at)
    if (tracked === this.foremost) this.askAt = at
  }

  private keep(tracked: TrackedClaim, at: number): void {
    tracked.keepAt = at
    this.keepAt = Math.min(this.keepAt, at)
  }

  /** Those that must ask or be kept alive now, and those that soon must: one call for all of them. The foremost first. */
  takeDue(now: number): ReadonlyArray<TrackedClaim> {
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
    for (const tracked of this.waiters) {
      if (tracked.place === undefined || tracked === asking) continue
      if (tracked.keepAt <= now + Timing.refreshTogether(tracked.ttl)) {
        tracked.keepAt = Infinity
        due.push(tracked)
      } else this.keepAt = Math.min(this.keepAt, tracked.keepAt)
    }
    return due
  }

  aheadOf({ place = 0 }: TrackedClaim): Ahead {
    return { holder: this.holder, place: Math.max(0, place - this.movedOn), waiting: this.length }
  }
}

const periodOf = ({ ttl }: TrackedClaim): number => Timing.questionPeriod(ttl)

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

const none: ReadonlyArray<TrackedClaim> = []

/** What stands before a claim that has no group yet. */
export const aheadIn = ({ holder, length, place }: Queued): Ahead => ({
  holder: labelOf(holder),
  place,
  waiting: length
})

/** A client of another library may have put a secret where ours put a label. */
export const labelOf = (holder: Holder | undefined): string | undefined =>
  holder === undefined || holder.foreign ? undefined : holder.label

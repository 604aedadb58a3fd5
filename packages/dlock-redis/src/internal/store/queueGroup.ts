/** The claims that wait for one lock. */

import type { Item } from "effect-dlock/DeadlineHeap"
import { type Ahead, withoutHeld } from "effect-dlock/LockStore"
import type { Holder, Queued } from "../protocol/index.ts"
import type { LockKeys } from "../protocol/keys.ts"
import * as Timing from "./timing.ts"
import type { TrackedClaim } from "./trackedClaim.ts"

/**
 * The claims of this process that wait for one lock, in queue order. The first of them is called the foremost.
 *
 * Only the foremost asks for its state, whatever its place. So a lost message, or the death of a holder or of waiters
 * in front, costs the same time at any place. For the other claims, this process only keeps the places alive.
 */
export class QueueGroup implements Item {
  readonly keys: LockKeys
  // These two belong to the deadline heap.
  dueAt = Infinity
  index = -1
  /** The number of calls in flight about this lock. */
  asking = 0

  private readonly retryInterval: number
  private waiters: Array<TrackedClaim> = []
  private first = 0
  private count = 0
  /**
   * The token of the holder, if it is one of ours and holds a mutex. As long as the token stays the same, nothing has
   * changed.
   */
  private seen: string | undefined
  /** When to check that the token is still the same. */
  private peekAt = Infinity
  /** The token of the latest grant to one of these claims that this process knows of. */
  private granted: string | undefined
  /** When the foremost must ask. */
  private askAt = Infinity
  /** The time of the next refresh, or an earlier time. */
  private keepAt = Infinity
  /**
   * When the foremost last had reason to ask at once. An answer to an earlier request does not count as the answer to
   * that.
   */
  private hurriedAt = -Infinity
  /** The same for every claim. Few things are a reason for that, because a refresh of all takes many calls. */
  private allHurriedAt = -Infinity
  private holder: string | undefined
  private length = 0
  /** How many places the queue has moved on since the first of these claims arrived, as far as the foremost knows. */
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

  /** Records the place of a claim, from the answer to a request that was sent at `sentAt`. */
  notePlace(tracked: TrackedClaim, sentAt: number, { floor, holder, length, place }: Queued): void {
    if (tracked.place === undefined) {
      // A claim whose grant came too late may be queued again, behind its earlier place.
      if (tracked.lastAhead !== undefined) this.forget((other) => other === tracked)
      this.waiters.push(tracked)
      this.count++
    }
    const before = tracked.place
    tracked.place = place + this.movedOn
    const isHurried = tracked.isHurried || this.allHurriedAt > sentAt
    const isForemost = tracked === this.foremost
    if (isForemost && before !== undefined) {
      this.movedOn += Math.max(0, before - tracked.place)
      tracked.place = place + this.movedOn
    }
    this.holder = labelOf(holder)
    this.length = length
    this.keep(tracked, isHurried ? sentAt : soonBefore(sentAt, Timing.refreshAfter(tracked.ttl)))
    if (!isForemost) return
    const seenBefore = this.seen
    this.seen = holder === undefined || holder.foreign || tracked.claim.kind !== "mutex" ? undefined : String(floor)
    if (seenBefore !== undefined && this.seen !== seenBefore && isOfOneProcess(holder, tracked)) {
      this.askThoseNear(sentAt)
    }
    this.peekAt = this.seen === undefined ? Infinity : soonBefore(sentAt, periodOf(tracked))
    this.askAt = isHurried || this.hurriedAt > sentAt
      ? sentAt
      : this.nextQuestion(tracked, sentAt, place, holder)
  }

  /**
   * Schedules questions about the claims near the front. The holder has changed and has our label, so it may be one of
   * these claims whose notification was lost. If answers arrived out of order, it need not be the foremost, but it must
   * be near the front.
   */
  private askThoseNear(now: number): void {
    if (this.seen !== this.granted) this.hurryNear(now)
  }

  /**
   * Makes the claims near the front ask at once: one of them was granted without a message, and a script lets in many
   * claims that share their key.
   */
  hurryNear(now: number): void {
    let left = claimsPerCall
    for (let index = this.first; index < this.waiters.length && left > 0; index++) {
      const tracked = this.waiters[index]!
      if (tracked.place === undefined) continue
      this.keep(tracked, now)
      left--
    }
  }

  /**
   * When the foremost asks next:
   *
   * - always after a period
   * - when the holder's lock expires, because no message reports a holder's death
   * - often behind a client of another library, because no message reports its release
   *
   * The farther from the head, the less often the foremost asks behind such a client, so that waiters in many processes
   * do not all ask at the same time.
   */
  private nextQuestion(tracked: TrackedClaim, sentAt: number, place: number, holder: Queued["holder"]): number {
    const period = this.seen === undefined ? periodOf(tracked) : Timing.refreshAfter(tracked.ttl)
    const often = holder?.foreign === true ? Math.min(period, (place + 1) * this.retryInterval) : period
    const jitter = (1 + hash(tracked.claim.id)) / 2 * this.retryInterval / 2
    const holdersEnd = holder !== undefined && holder.remaining >= 0 ? holder.remaining + jitter : Infinity
    return Math.min(often, holdersEnd) === period ? soonBefore(sentAt, period) : sentAt + Math.min(often, holdersEnd)
  }

  /** Returns the token to check, if a check is due. */
  takePeek(now: number): string | undefined {
    if (this.peekAt > now) return undefined
    this.peekAt = Infinity
    return this.seen
  }

  /** Records the result of a check that was sent at `sentAt`: the same holder, or a reason to ask. */
  notePeek(token: string, isFound: boolean, sentAt: number, now: number): void {
    const { foremost } = this
    // Another answer has come meanwhile.
    if (token !== this.seen || foremost === undefined) return
    if (isFound) this.peekAt = Math.min(this.peekAt, soonBefore(sentAt, periodOf(foremost)))
    else this.hurry(now)
  }

  /** Removes a claim that no longer waits. `token` is set if the claim was granted. */
  remove(tracked: TrackedClaim, now: number, token?: bigint): void {
    if (token !== undefined) this.granted = String(token)
    tracked.lastAhead = this.aheadOf(tracked)
    tracked.place = undefined
    tracked.isHurried = false
    this.count--
    const { foremost } = this
    // The new foremost may know of an earlier holder, not of the present one.
    if (foremost !== undefined) this.askAt = Math.min(this.askAt, now + periodOf(foremost))
    // Claims that give up behind a claim that stays leave gaps in the middle of the list.
    if (this.waiters.length > 2 * this.count + mostPast) this.forget(({ place }) => place === undefined)
  }

  private forget(isToGo: (tracked: TrackedClaim) => boolean): void {
    this.waiters = this.waiters.filter((tracked) => !isToGo(tracked))
    this.first = 0
  }

  /** Makes the foremost ask at once. */
  hurry(now: number): void {
    this.hurriedAt = now
    this.askAt = now
  }

  /** Makes this claim ask at once, and the foremost too. */
  hurryOne(tracked: TrackedClaim, now: number): void {
    this.hurry(now)
    this.keep(tracked, now)
  }

  /** Makes every claim report at once that it still waits. */
  hurryAll(now: number): void {
    this.hurry(now)
    this.allHurriedAt = now
    this.keepAt = now
    for (const tracked of this.waiters) tracked.keepAt = now
  }

  /** Asks again at `at`, because a question about this claim got no answer. */
  postpone(tracked: TrackedClaim, at: number): void {
    this.keep(tracked, at)
    if (tracked === this.foremost) this.askAt = at
  }

  private keep(tracked: TrackedClaim, at: number): void {
    tracked.keepAt = at
    this.keepAt = Math.min(this.keepAt, at)
  }

  /**
   * Returns the claims that must ask or be refreshed now, and those that must be refreshed soon, so that one call
   * handles all of them. The foremost comes first.
   */
  takeDue(now: number): ReadonlyArray<TrackedClaim> {
    const asking = this.askAt <= now ? this.foremost : undefined
    const isKeeping = this.keepAt <= now
    if (asking === undefined && !isKeeping) return none
    const due = asking === undefined ? [] : [asking]
    if (asking !== undefined) {
      this.askAt = Infinity
      this.peekAt = Infinity
      asking.keepAt = Infinity
      asking.isHurried = false
    }
    if (!isKeeping) return due
    this.keepAt = Infinity
    for (const tracked of this.waiters) {
      if (tracked.place === undefined || tracked === asking) continue
      if (tracked.keepAt <= now + Timing.refreshTogether(tracked.ttl)) {
        tracked.keepAt = Infinity
        tracked.isHurried = false
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

/**
 * A time shortly before `from + period`, rounded down to a multiple of a tenth of the period. Locks with the same
 * period then ask at the same moments, in one call.
 */
const soonBefore = (from: number, period: number): number => {
  const step = period / 10
  return Math.floor((from + period) / step) * step
}

/**
 * A number in [0, 1) that differs between claims, so that claims which wait for the same expiry do not all ask at the
 * same time.
 */
const hash = (id: string): number => (id.charCodeAt(0) * 64 + id.charCodeAt(1)) % 61 / 61

const mostPast = 1_000

/** How many claims one call may ask about. */
export const claimsPerCall = 100

/**
 * For how many such claims a claim counts that may wait behind holders which share the key, because its place costs the
 * server more to keep. A call with more of them would use up the script's `budget`. The script then tells the head to
 * ask, although nothing has changed.
 */
export const sharedClaimWeight = 2

const none: ReadonlyArray<TrackedClaim> = []

/** What is in front of a claim that has no group yet. */
export const aheadIn = ({ holder, length, place }: Queued): Ahead => ({
  holder: labelOf(holder),
  place,
  waiting: length
})

/** Whether the holder has the name and the metadata of this claim. */
const isOfOneProcess = (holder: Holder | undefined, { claim }: TrackedClaim): boolean =>
  holder !== undefined && withoutHeld(holder.label) === withoutHeld(claim.holder)

/**
 * The holder's label, or `undefined` for a client of another library, which may store a secret where our claims store a
 * label.
 */
export const labelOf = (holder: Holder | undefined): string | undefined =>
  holder === undefined || holder.foreign ? undefined : holder.label

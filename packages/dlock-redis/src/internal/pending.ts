import { connectionLost, silent } from "./failure.ts"
import type { CallFailure } from "./port.ts"

/** Time as `Pending` needs it, in milliseconds. */
export interface Timers {
  readonly now: () => number
  /** Returns the way to stop it. */
  readonly after: (millis: number, run: () => void) => () => void
}

const timers: Timers = {
  now: () => performance.now(),
  after: (millis, run) => {
    const timer = setTimeout(run, millis).unref()
    return () => clearTimeout(timer)
  }
}

/**
 * Calls without a reply. Those of one limit end in the order in which they were sent, so one timer looks after the
 * oldest of them: a timer for each would cost more than the call.
 */
export class Pending {
  /** How many are under way; one whose time is over is not any more. For the queues to count. */
  size = 0
  readonly time: Timers
  private readonly queues = new Map<number, Queue>()
  private readonly longest: number
  private readonly onSilence: (() => void) | undefined
  private stopSilence: (() => void) | undefined

  /**
   * `longest` is in milliseconds, and no call goes beyond it. `onSilence` is called twice as long after a call was sent
   * whose time ended without a reply, unless any reply has come since it ended: the connection may be dead without knowing.
   */
  constructor(longest: number, { onSilence, time = timers }: { onSilence?: () => void; time?: Timers } = {}) {
    this.longest = longest
    this.onSilence = onSilence
    this.time = time
  }

  /** The calls that may take so long. */
  within(limit: number | undefined): Queue {
    const millis = limit === undefined ? this.longest : Math.min(Math.ceil(limit), this.longest)
    let queue = this.queues.get(millis)
    if (queue === undefined) {
      if (this.queues.size >= mostQueues) this.forgetIdle()
      queue = new Queue(millis, this)
      this.queues.set(millis, queue)
    }
    return queue
  }

  /** A reply has come, in time or not. */
  heard(): void {
    if (this.stopSilence === undefined) return
    this.stopSilence()
    this.stopSilence = undefined
  }

  /** A call that was sent so many milliseconds ago has failed for want of a reply. */
  unheard(since: number): void {
    const { onSilence } = this
    if (onSilence === undefined) return
    this.stopSilence ??= this.time.after(2 * this.longest - since, () => {
      this.stopSilence = undefined
      onSilence()
    })
  }

  /** Nothing that was sent so far will be answered. */
  lost(): void {
    this.heard()
    for (const queue of this.queues.values()) queue.lost()
  }

  /** Leaves no timer behind. */
  close(): void {
    this.heard()
    for (const queue of this.queues.values()) queue.close()
  }

  private forgetIdle(): void {
    for (const [limit, queue] of this.queues) {
      if (queue.size > 0) continue
      queue.close()
      this.queues.delete(limit)
    }
  }
}

/** Programs have a few times to live; one that makes up a new one for each call must not grow without end. */
const mostQueues = 100

/** A call whose reply has not come: without `fail` it is over. */
interface Sent {
  readonly dueAt: number
  fail: ((failure: CallFailure) => void) | undefined
}

class Queue {
  // No map: what its table has lost stays reachable from older tables, and outlives the young generation with all it
  // leads to. At a section's pace that is most of the collector's work.
  private calls: Array<Sent> = []
  private first = 0
  private readonly limit: number
  private readonly all: Pending
  private readonly time: Timers
  private stop: (() => void) | undefined

  constructor(limit: number, all: Pending) {
    this.limit = limit
    this.all = all
    this.time = all.time
  }

  get size(): number {
    return this.calls.length - this.first
  }

  add(fail: (failure: CallFailure) => void): Sent {
    const sent = { dueAt: this.time.now() + this.limit, fail }
    this.calls.push(sent)
    this.all.size++
    this.stop ??= this.time.after(this.limit, this.look)
    return sent
  }

  /** False where it has failed meanwhile. */
  remove(sent: Sent): boolean {
    if (sent.fail === undefined) return false
    sent.fail = undefined
    this.all.size--
    this.forget()
    return true
  }

  close(): void {
    this.stop?.()
    this.stop = undefined
  }

  lost(): void {
    this.failWhile(() => true, connectionLost)
  }

  private readonly look = (): void => {
    const now = this.time.now()
    this.failWhile((dueAt) => dueAt <= now, silent)
    const next = this.calls[this.first]
    this.stop = next && this.time.after(Math.max(1, next.dueAt - now), this.look)
  }

  private failWhile(ends: (dueAt: number) => boolean, failure: CallFailure): void {
    for (let next = this.calls[this.first]; next !== undefined && ends(next.dueAt); next = this.calls[this.first]) {
      const { fail } = next
      next.fail = undefined
      this.all.size--
      if (failure === silent) this.all.unheard(this.limit)
      this.forget()
      fail?.(failure)
    }
  }

  private forget(): void {
    while (this.first < this.calls.length && this.calls[this.first]!.fail === undefined) this.first++
    if (this.first === this.calls.length) this.calls.length = 0
    else if (this.first <= 1_000) return
    else this.calls.splice(0, this.first)
    this.first = 0
  }
}

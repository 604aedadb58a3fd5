import type * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type { Ahead } from "../../LockStore.ts"
import * as Owner from "../options/owner.ts"
import { DeadlineHeap, type Item } from "../scheduling/deadlineHeap.ts"
import type { Time } from "../scheduling/time.ts"
import { GroupedLog } from "./groupedLog.ts"
import type { Log } from "./log.ts"

/** A caller in the queue, and when to log that it still waits. */
export class Reminder implements Item {
  // The heap writes these two fields.
  dueAt = 0
  index = -1
  readonly startedAt: number
  key: string
  ahead: () => Ahead
  /** After how many milliseconds of waiting the next line is due. */
  after: number

  constructor(key: string, startedAt: number, after: number, ahead: () => Ahead) {
    this.key = key
    this.startedAt = startedAt
    this.after = after
    this.ahead = ahead
  }
}

/**
 * Logs that callers still wait: once after `warnAfter`, and again at each doubling of that time. All callers of a locker
 * share one timer. A key has one line at most in `warnAfter`, because what it says is true of all who wait for that key.
 */
export class StillWaiting {
  private readonly warnAfter: number
  private readonly lines: GroupedLog
  private readonly heap: DeadlineHeap<Reminder>
  /** When each key was last told of, the oldest first. */
  private readonly toldAt = new Map<string, number>()

  constructor(
    /** Milliseconds. `Infinity` logs nothing. */
    warnAfter: number,
    time: Time,
    log: Log,
    fork: (effect: Effect.Effect<void>) => Fiber.Fiber<void>
  ) {
    this.warnAfter = warnAfter
    this.lines = new GroupedLog(log, time, fork, "callers also wait for")
    this.heap = new DeadlineHeap(time, fork, log, (now) => this.remind(now))
  }

  /**
   * A caller that came at `startedAt` is in the queue. It may have been in the queue before, with the same `reminder`. Call
   * `end` when it waits no longer.
   */
  begin(reminder: Reminder | undefined, key: string, startedAt: number, ahead: () => Ahead): Reminder | undefined {
    if (this.warnAfter === Infinity) return undefined
    const known = reminder ?? new Reminder(key, startedAt, this.warnAfter, ahead)
    known.key = key
    known.ahead = ahead
    this.heap.schedule(known, startedAt + known.after)
    return known
  }

  end(reminder: Reminder | undefined): void {
    if (reminder !== undefined) this.heap.remove(reminder)
  }

  /** The locker closes. */
  close(): void {
    this.lines.flush()
  }

  private remind(now: number): void {
    for (let next = this.heap.peek(); next !== undefined && next.dueAt <= now; next = this.heap.peek()) {
      this.tell(next, now)
      while (next.startedAt + next.after <= now) next.after *= 2
      this.heap.schedule(next, next.startedAt + next.after)
    }
  }

  private tell(reminder: Reminder, now: number): void {
    const { ahead, key, startedAt } = reminder
    this.forgetOld(now)
    if (this.toldAt.has(key)) return
    this.toldAt.set(key, now)
    const { holder, place, waiting } = ahead()
    const by = holder === undefined ? "a holder that is not known" : JSON.stringify(Owner.decode(holder).name)
    const waited = `${Math.round(now - startedAt) / 1_000} s`
    this.lines.add({
      key,
      // Lines of one second are told together, and the wait may end before that.
      get isOver() {
        return reminder.index === -1
      },
      message: `A caller has waited ${waited} for the lock ${
        JSON.stringify(key)
      }, which is held by ${by}: ${place} of ${Math.max(1, waiting)} waiters come before it`
    })
  }

  /** What is old stands first, so this looks at nothing else: very many keys may be due at once. */
  private forgetOld(now: number): void {
    for (const [key, at] of this.toldAt) {
      if (now - at < this.warnAfter) return
      this.toldAt.delete(key)
    }
  }
}

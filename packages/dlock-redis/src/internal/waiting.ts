import * as Duration from "effect/Duration"
import type { Entry } from "./entry.ts"
import type { Names } from "./names.ts"

/** The claims of this process that wait for one lock. */
export interface Group {
  readonly names: Names
  readonly entries: Map<string, Entry>
  /** A refresh of this lock is on its way. */
  asking: boolean
}

/**
 * Who waits for what, and when each must next tell the server that it is still there. Pure bookkeeping: the store does
 * the asking.
 */
export class Waiting {
  readonly groups = new Map<string, Group>()
  private readonly retryInterval: number

  constructor(retryInterval: number) {
    this.retryInterval = retryInterval
  }

  add(entry: Entry): void {
    let group = this.groups.get(entry.names.lock)
    if (group === undefined) {
      group = { names: entry.names, entries: new Map(), asking: false }
      this.groups.set(entry.names.lock, group)
    }
    group.entries.set(entry.claim.id, entry)
  }

  /** Whether it was the last that waited. */
  remove(entry: Entry): boolean {
    const group = this.groups.get(entry.names.lock)
    if (group === undefined || !group.entries.delete(entry.claim.id) || group.entries.size > 0) return false
    this.groups.delete(entry.names.lock)
    return this.groups.size === 0
  }

  /** The earliest time at which a claim must ask; `Infinity` where none waits. */
  nextAt(): number {
    let next = Infinity
    for (const group of this.groups.values()) {
      if (group.asking) continue
      for (const entry of group.entries.values()) next = Math.min(next, entry.refreshAt)
    }
    return next
  }

  /** What is due on a lock, and what would be soon: one call for all of them. */
  due(group: Group, now: number): ReadonlyArray<Entry> {
    const entries = Array.from(group.entries.values())
    if (!entries.some((entry) => entry.refreshAt <= now)) return []
    return entries.filter((entry) => entry.refreshAt <= now + refreshPeriod(entry) / 4)
  }

  /**
   * After an answer sent at `sentAt`: often at the head, seldom far behind it, in any case within a third of the time
   * to live. A foreign holder tells nobody when it releases, and a dead one of ours neither; so the head asks every
   * `retryInterval` in the first case, and when the holder's time is over in both.
   */
  schedule(entry: Entry, sentAt: number, holder: { remaining: number; foreign: boolean } | undefined): void {
    if (entry.hurriedAt > sentAt) {
      entry.refreshAt = entry.hurriedAt
      return
    }
    entry.refreshAt = sentAt + refreshPeriod(entry)
    if (entry.ahead.place !== 0 || holder === undefined) return
    if (holder.foreign) entry.refreshAt = Math.min(entry.refreshAt, sentAt + this.retryInterval)
    if (holder.remaining >= 0) {
      const jitter = (1 + hash(entry.claim.id)) / 2 * this.retryInterval / 2
      entry.refreshAt = Math.min(entry.refreshAt, sentAt + holder.remaining + jitter)
    }
  }
}

const refreshPeriod = (entry: Entry): number =>
  Math.min(Duration.toMillis(entry.claim.ttl) / 3, Math.max(1, entry.ahead.place) * 1_000)

/** A number in [0, 1) that differs from claim to claim, so that those who wait for one expiry do not ask as one. */
const hash = (id: string): number => (id.charCodeAt(0) * 64 + id.charCodeAt(1)) % 61 / 61

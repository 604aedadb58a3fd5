import type { Timeline } from "./timeline.ts"

/**
 * The rules.
 *
 * - S1: while a holder considers its lock held, no other holder is inside, and no stale step is accepted. Of a semaphore,
 *   the permits inside are at most the smallest capacity that a holder inside knows. A reader is inside beside readers
 *   and a writer that has downgraded, a writer beside nobody.
 * - S2: tokens grow from grant to grant, and are above what they had been raised above when the claim came. A writer's is
 *   above all earlier ones, a reader's above those of all earlier writers.
 * - S3: a holder stops before the server's expiry, by its own clock.
 * - S4: nothing is left at the server, and no tombstone without an unanswered request.
 * - S5: every waiter makes progress once the faults are over.
 * - S6: everything ends.
 * - S7: no healthy lock is given up.
 * - S8: no fiber dies, and no fiber and no timer is left.
 * - S9: without faults waiters are served in order, and at once. With faults too, no claim is granted while an earlier one
 *   waits that is alive and connected.
 * - S10: no lock is idle while somebody waits, and no permits are free that the first waiter is content with.
 * - S11: no call fails while server and network are healthy, unless it had little time and its process paused twice; nor
 *   where one member of a cluster refuses and another would have answered.
 * - S12: a program that loses its lock has the guard gap to end before the next holder is inside.
 * - S13: a caller gets its answer within its time limit.
 * - S14: the server counts the permits of its holders, and no others.
 * - S15: no job runs for a slot or within an interval for which a run counts.
 * - S16: a program that re-enters its lock shares the lease of its section.
 * - S17: a holder that asks is told within 50 ms that others wait for its mutex, without faults, and never of nobody.
 * - S18: a section is interrupted at its cap and not before, and others are in only after it has ended, or at the bound.
 * - S19: a holder is asked to leave only if somebody named its hold, is told in time where nothing is wrong, and loses its
 *   lock for that reason only, not before its grace is over.
 * - S20: a claim is never extended once its holder had to leave, and ends.
 * - S21: a leadership is not released before its program has ended, and while nothing is wrong somebody leads within the time
 *   that the claim of a dead leader takes, and a second.
 * - S22: an observer tells who leads, and that nobody does for a second.
 */
export const rules = [
  "S1",
  "S2",
  "S3",
  "S4",
  "S5",
  "S6",
  "S7",
  "S8",
  "S9",
  "S10",
  "S11",
  "S12",
  "S13",
  "S14",
  "S15",
  "S16",
  "S17",
  "S18",
  "S19",
  "S20",
  "S21",
  "S22"
] as const

export type Rule = typeof rules[number]

/** A broken promise. */
export interface Violation {
  readonly rule: Rule
  readonly what: string
  /** Microseconds. */
  readonly at: number
}

export interface Counts {
  grants: number
  steps: number
  refused: number
  lateSteps: number
  waits: number
  interrupts: number
  /** Grants of permits and of read-write locks. */
  shared: number
  downgrades: number
  reentries: number
  /** How often a holder was told that others wait. */
  toldOf: number
  /** How often the server marked a claim, and how often an operator took a lock. */
  revocations: number
  broken: number
  /** Terms of leaders, and what observers told of them. */
  terms: number
  sightings: number
  readonly losses: Record<string, number>
  readonly outcomes: Record<string, number>
}

/** Keeps the first violation of a world, and counts its events. */
export class Checker {
  violation: Violation | undefined
  readonly counts: Counts = {
    grants: 0,
    steps: 0,
    refused: 0,
    lateSteps: 0,
    waits: 0,
    interrupts: 0,
    shared: 0,
    downgrades: 0,
    reentries: 0,
    toldOf: 0,
    revocations: 0,
    broken: 0,
    terms: 0,
    sightings: 0,
    losses: {},
    outcomes: {}
  }
  private readonly timeline: Timeline
  private readonly checkedRules: ReadonlySet<Rule> | undefined

  /** Only violations of `checkedRules` count, where given. */
  constructor(timeline: Timeline, checkedRules: ReadonlySet<Rule> | undefined) {
    this.timeline = timeline
    this.checkedRules = checkedRules
  }

  report(rule: Rule, what: string): void {
    if (this.checkedRules !== undefined && !this.checkedRules.has(rule)) return
    this.violation ??= { rule, what, at: this.timeline.now }
  }
}

import type { Timeline } from "./timeline.ts"

/**
 * What must hold.
 *
 * - S1: nobody else is in while a holder believes in its lock, and no stale step is taken.
 * - S2: tokens grow from grant to grant, and are above what they were raised above before the claim came.
 * - S3: a holder is out before its time at the server is over, by its own clock.
 * - S4: nothing is left at the server, and no mark for what is not in doubt.
 * - S5: whoever waits gets on, once nothing goes wrong any more.
 * - S6: everything ends.
 * - S7: no good lock is thrown away.
 * - S8: nothing dies, and no fiber and no timer is left.
 * - S9: without faults, first come is first served, and at once.
 * - S10: no lock is idle although somebody waits.
 * - S11: no call fails on a server and a network that are whole, unless it had little time and its process stood still
 *   twice; nor where one member of a cluster refuses and another would have done it.
 * - S12: whoever loses a lock has the guard gap to end before the next is in.
 * - S13: whoever asks is answered within the time that it gave.
 */
export const rules = ["S1", "S2", "S3", "S4", "S5", "S6", "S7", "S8", "S9", "S10", "S11", "S12", "S13"] as const

export type Rule = typeof rules[number]

/** A promise that was broken. */
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
  readonly losses: Record<string, number>
  readonly outcomes: Record<string, number>
}

/** Keeps the first violation of a world, and counts what went on in it. */
export class Checker {
  violation: Violation | undefined
  readonly counts: Counts = {
    grants: 0,
    steps: 0,
    refused: 0,
    lateSteps: 0,
    waits: 0,
    interrupts: 0,
    losses: {},
    outcomes: {}
  }
  private readonly timeline: Timeline
  private readonly checkedRules: ReadonlySet<Rule> | undefined

  /** `checkedRules`: only these rules count. */
  constructor(timeline: Timeline, checkedRules: ReadonlySet<Rule> | undefined) {
    this.timeline = timeline
    this.checkedRules = checkedRules
  }

  report(rule: Rule, what: string): void {
    if (this.checkedRules !== undefined && !this.checkedRules.has(rule)) return
    this.violation ??= { rule, what, at: this.timeline.now }
  }
}

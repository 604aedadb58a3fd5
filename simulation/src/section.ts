import type { Holding } from "../../packages/dlock/src/internal/holding.ts"
import type { SectionPlan } from "./plan.ts"
import type { Process } from "./process.ts"

/** How a section ended. */
export type Outcome =
  | "done"
  | "busy"
  | "timed out"
  | "backend failed"
  | "lost"
  | "interrupted"
  | "refused"

/** What stands before each key at the server. */
export const prefix = "dlock:"

/** One use of a lock while it goes on. */
export class Section {
  readonly plan: SectionPlan
  readonly process: Process
  state: "idle" | "asking" | "inside" | "leaving" | "over" = "idle"
  outcome: Outcome | undefined
  /** When it began to ask, and for how long its process had been paused by then. */
  askedAt = 0
  pausedBefore = 0
  leftAt = 0
  /** The lease, once it is in. */
  holding: Holding | undefined
  enteredAt = 0
  lastStepAt = 0
  lateSteps = 0
  /** Its fiber has been interrupted from outside. */
  interrupted = false
  /** What the witness has heard of its loss. */
  lossSeen = false

  constructor(process: Process, plan: SectionPlan) {
    this.process = process
    this.plan = plan
  }

  get id(): string | undefined {
    return this.holding?.claim.id
  }

  /** The name of its lock at the server. */
  get lock(): string {
    return prefix + this.plan.key
  }

  get title(): string {
    return `section ${this.plan.number} of process ${this.process.index}`
  }

  /** Microseconds of its process's clock. */
  get deadline(): number {
    return this.holding === undefined ? -Infinity : this.holding.deadline * 1_000
  }

  /** Does its holder have reason to believe in it? A process that stands still has its clock to go by when it wakes. */
  get believes(): boolean {
    return this.holding?.state === "held" && !this.process.dead && this.process.monotonic() < this.deadline
  }
}

import * as Duration from "effect/Duration"
import type { HeldLease } from "../../packages/dlock/src/internal/lease/heldLease.ts"
import type { BackendName } from "./backendName.ts"
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

/** The prefix of each key at the server. */
export const prefix = "dlock:"

/** One use of a lock while it goes on. */
export class Section {
  readonly plan: SectionPlan
  readonly process: Process
  state: "idle" | "acquiring" | "inside" | "releasing" | "ended" = "idle"
  outcome: Outcome | undefined
  /** When it began to ask. */
  askedAt = 0
  /** How often its process had been paused by then. */
  private pausesBefore = 0
  /** From when its time limit counts, by the clock of its process, and how long its process had been paused by then. */
  answerSince = 0
  answerPausedBefore = 0
  /** From when it should end soon, and for how long its process had been paused by then. */
  endingSince = 0
  pausedBefore = 0
  /** The lease, once it is granted. */
  lease: HeldLease | undefined
  /** The id of its claim at the server, once it is granted. */
  id: string | undefined
  lastStepAt = 0
  lateSteps = 0
  /** Its fiber has been interrupted from outside. */
  interrupted = false
  /** Whether the observer has seen its loss, and when it had to end, by the clock of its process. */
  lossSeen = false
  lostAt = Infinity

  constructor(process: Process, plan: SectionPlan) {
    this.process = process
    this.plan = plan
  }

  beginAsking(now: number): void {
    this.state = "acquiring"
    this.askedAt = now
    // It may ask while the message is handled at which its process was paused.
    this.pausesBefore = this.process.pauses - (this.process.paused ? 1 : 0)
    this.expectAnswerFromNow()
  }

  /** It has little time, and its process was paused twice. */
  get hadNoTime(): boolean {
    const { form, timeout } = this.plan
    const hasty = timeout !== undefined || form === "trySection" || form === "tryScope"
    return hasty && this.process.pauses - this.pausesBefore > 1
  }

  /** Its time limit counts from now. */
  expectAnswerFromNow(): void {
    this.answerSince = this.process.monotonic()
    this.answerPausedBefore = this.process.pausedFor
  }

  /**
   * By how many milliseconds it has passed its time limit; negative if it has not, or has none. A try may take a
   * second, an interrupt no time. Pauses of its process do not count, nor the drift of its clock.
   */
  get overtime(): number {
    const { form, timeout } = this.plan
    const paused = 1.01 * (this.process.pausedFor - this.answerPausedBefore)
    const took = (this.process.monotonic() - this.answerSince - paused) / 1_000
    const given = this.interrupted ? 0 : form === "trySection" || form === "tryScope" ? 1_000 : timeout ?? Infinity
    return took - given
  }

  /** It should end after a few calls from now. */
  expectEndFrom(now: number): void {
    this.endingSince = now
    this.pausedBefore = this.process.pausedFor
  }

  /**
   * How many milliseconds it may take from then to its end; infinite while it waits for others. Before the grant the
   * caller's time limit counts: a try has a second, whatever its ttl; its withdrawal may take 75 ms more. At the end it
   * waits for a renewal in flight, then for the release.
   */
  endsWithin(backend: BackendName): number {
    const { form, pause, releasesEarly, timeout, ttl } = this.plan
    const withdrawal = Math.min(ttl / 3, 2_000)
    const slack = 50
    // Three timers in a row, each of which may be a millisecond late here.
    const lag = 3
    // On etcd a withdrawal may wait for an unanswered request before it is sent.
    const queued = backend === "etcd" ? 250 : 0
    if (this.state === "releasing") {
      const granted = this.lease === undefined ? ttl : Duration.toMillis(this.lease.ttl)
      return Math.min(granted / 6, 2_000) + withdrawal + (releasesEarly ? pause + withdrawal : 0) + queued + slack
    }
    if (this.interrupted) return Math.min(ttl / 3, 3_000) + withdrawal + slack
    const isTry = form === "trySection" || form === "tryScope"
    return 1.01 * (isTry ? 1_000 : timeout ?? Infinity) + 2 * slack + lag
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
    return this.lease === undefined ? -Infinity : this.lease.deadline * 1_000
  }

  /** Whether its holder considers the lock held. A paused process will check its clock when it wakes. */
  get considersHeld(): boolean {
    return this.lease?.state === "held" && !this.process.dead && this.process.monotonic() < this.deadline
  }

  /**
   * Whether it is ending after a loss, within the guard gap. A fifth of the gap is for the drift of clocks. A locker
   * that closes gives that time to programs that run under a lease; it does not know of a scope whose holder checks by
   * itself.
   */
  get isWindingDown(): boolean {
    const { careful, form } = this.plan
    const isUnknown = careful && (form === "scope" || form === "tryScope")
    if (isUnknown && this.lease?.loss?.reason === "Revoked") return false
    if (this.state !== "inside" || this.lostAt === Infinity || this.process.dead) return false
    const guardGap = Duration.toMillis(this.lease!.claim.guardGap)
    return this.process.monotonic() < this.lostAt + 800 * guardGap
  }
}

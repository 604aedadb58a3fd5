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

/** What stands before each key at the server. */
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
  /** Since when it must have its answer, by the clock of its process, and how long that had been paused by then. */
  answerSince = 0
  answerPausedBefore = 0
  /** Since when it should come to an end soon, and for how long its process had been paused by then. */
  endingSince = 0
  pausedBefore = 0
  /** The lease, once it is in. */
  lease: HeldLease | undefined
  /** Under which id its claim stands at the server, from then on. */
  id: string | undefined
  lastStepAt = 0
  lateSteps = 0
  /** Its fiber has been interrupted from outside. */
  interrupted = false
  /** What the observer has heard of its loss, and since when by its process's clock it had to end. */
  lossSeen = false
  lostAt = Infinity

  constructor(process: Process, plan: SectionPlan) {
    this.process = process
    this.plan = plan
  }

  beginAsking(now: number): void {
    this.state = "acquiring"
    this.askedAt = now
    // It may ask within the message at which its process came to stand still.
    this.pausesBefore = this.process.pauses - (this.process.paused ? 1 : 0)
    this.expectAnswerFromNow()
  }

  /** It has little time, and its process stood still once more when it had just got going. */
  get hadNoTime(): boolean {
    const { form, timeout } = this.plan
    const hasty = timeout !== undefined || form === "trySection" || form === "tryScope"
    return hasty && this.process.pauses - this.pausesBefore > 1
  }

  /** From now on it must have its answer within its time. */
  expectAnswerFromNow(): void {
    this.answerSince = this.process.monotonic()
    this.answerPausedBefore = this.process.pausedFor
  }

  /**
   * By how many milliseconds its time is over; negative where it is not, or there is none. A try may take a second, and an
   * interrupt nothing. The pauses of its process do not count, nor the drift of its clock meanwhile.
   */
  get overtime(): number {
    const { form, timeout } = this.plan
    const paused = 1.01 * (this.process.pausedFor - this.answerPausedBefore)
    const took = (this.process.monotonic() - this.answerSince - paused) / 1_000
    const given = this.interrupted ? 0 : form === "trySection" || form === "tryScope" ? 1_000 : timeout ?? Infinity
    return took - given
  }

  /** From now on its end is a matter of a few calls. */
  expectEndFrom(now: number): void {
    this.endingSince = now
    this.pausedBefore = this.process.pausedFor
  }

  /**
   * How long it may take from then to its end, in milliseconds; infinite where it waits for others. Before it is in, the
   * caller's time is the caller's: a try has a second, whatever its time to live; what is withdrawn then is waited for 75 ms
   * past that time at most. At the end a renewal under way is waited for, then the release.
   */
  endsWithin(backend: BackendName): number {
    const { form, pause, releasesEarly, timeout, ttl } = this.plan
    const withdrawal = Math.min(ttl / 3, 2_000)
    const slack = 50
    // Three timers in a row, each of which may be a millisecond late here.
    const lag = 3
    // On etcd a leave may wait for what hangs before it is sent.
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

  /** Does its holder have reason to believe in it? A process that stands still has its clock to go by when it wakes. */
  get considersHeld(): boolean {
    return this.lease?.state === "held" && !this.process.dead && this.process.monotonic() < this.deadline
  }

  /**
   * Is it about to end, within the time that it was promised for that? A fifth of that is for the drift of clocks. A locker
   * that closes gives it to what runs under a lease: of a scope's holder who looks for himself it knows nothing.
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

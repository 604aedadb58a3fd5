import * as Duration from "effect/Duration"
import type { HeldLease } from "../../packages/dlock/src/internal/lease/heldLease.ts"
import type { BackendName } from "./backendName.ts"
import { isExclusive, type LockShape } from "./lockShape.ts"
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
  /** One for each lock that it wants: itself, and the parts that are about its other locks. */
  readonly all: ReadonlyArray<Section>
  private readonly leader: Section | undefined
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
  enteredAt = 0
  lastStepAt = 0
  lateSteps = 0
  /** It is a writer that has begun to let readers in. */
  hasDowngraded = false
  /** Since when it asks whether others wait behind it, and whether it was told. */
  asksSince: number | undefined
  wasTold = false
  private wasInterrupted = false
  /** Whether the observer has seen its loss, and when it had to end, by the clock of its process. */
  lossSeen = false
  lostAt = Infinity
  /** When it was told to leave, and until when it may stay, by the clock of its process. */
  toldToLeaveAt: number | undefined
  mustLeaveAt = Infinity
  /** When its cap is, by the clock of its process. */
  capAt = Infinity

  constructor(process: Process, plan: SectionPlan, leader?: Section) {
    this.process = process
    this.plan = plan
    this.leader = leader
    const part = (other: SectionPlan["also"][number]) => new Section(process, { ...plan, ...other, also: [] }, this)
    this.all = [this, ...plan.also.map(part)]
  }

  /** Whether it waits for other locks too. */
  get isOneOfSeveral(): boolean {
    return this.leader !== undefined || this.all.length > 1
  }

  /** Its fiber has been interrupted from outside. */
  get interrupted(): boolean {
    return this.leader?.wasInterrupted ?? this.wasInterrupted
  }

  interrupt(): void {
    this.wasInterrupted = true
  }

  beginAsking(now: number): void {
    this.state = "acquiring"
    this.askedAt = now
    // It may ask while the message is handled at which its process was paused.
    this.pausesBefore = this.process.pauses - (this.process.paused ? 1 : 0)
    this.expectAnswerFromNow()
  }

  /**
   * It has little time, and its process was paused twice, or from before its limit to a moment after it: a process notices a
   * pause only by a timer that is two milliseconds late.
   */
  get hadNoTime(): boolean {
    const { form, timeout } = this.plan
    const hasty = timeout !== undefined || form === "trySection" || form === "tryScope"
    const pauses = this.process.pauses - this.pausesBefore
    const late = (this.process.resumedAt - this.askedAt) / 1_000 - Math.max(timeout ?? 0, leeway)
    return hasty && (pauses > 1 || (pauses === 1 && late > -1 && late < 3))
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
    const { form, job, timeout } = this.plan
    // It asks the server twice before it enters.
    if (job !== undefined && !this.interrupted) return -Infinity
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
    const { form, job, pause, releasesEarly, timeout, ttl } = this.plan
    const withdrawal = Math.min(ttl / 3, 2_000)
    const slack = 50
    // Three timers in a row, each of which may be a millisecond late here.
    const lag = 3
    // On etcd a withdrawal may wait for an unanswered request before it is sent.
    const queued = backend === "etcd" ? 250 : 0
    if (this.state === "releasing") {
      const granted = this.lease === undefined ? ttl : Duration.toMillis(this.lease.ttl)
      // A success is recorded until the server has answered, at most until the lock is lost.
      const recording = this.plan.job === undefined ? 0 : 1.1 * granted
      return recording + Math.min(granted / 6, 2_000) + withdrawal + (releasesEarly ? pause + withdrawal : 0) + queued +
        slack
    }
    if (this.interrupted) return Math.min(ttl / 3, 3_000) + withdrawal + slack
    if (job !== undefined) return Infinity
    const isTry = form === "trySection" || form === "tryScope"
    return 1.01 * (isTry ? 1_000 : timeout ?? Infinity) + 2 * slack + lag
  }

  /** What it has. A writer that has begun to let readers in counts as a reader. */
  get shape(): LockShape {
    const { shape } = this.plan
    return this.hasDowngraded ? { ...shape, permits: 1 } : shape
  }

  /** Whether nobody else may be inside. */
  get isExclusive(): boolean {
    return isExclusive(this.shape)
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
    const isHeld = this.lease?.state === "held" || this.lease?.isKept === true
    return isHeld && !this.process.dead && this.process.monotonic() < this.deadline
  }

  /**
   * Whether it was interrupted at its cap, or because it was asked to leave, and has not ended, while its claim, renewed or not, stands at the server. A fifth of the
   * guard gap is for the drift of clocks.
   */
  get isOutstaying(): boolean {
    if (this.state !== "inside" || this.process.dead) return false
    const loss = this.lease?.loss
    const isKept = loss?.reason === "MaxHold" || (loss?.reason === "Revoked" && loss.revocation !== undefined)
    if (!isKept) return false
    return this.process.monotonic() < this.deadline + 800 * this.guardGap
  }

  /** When others must be in, though it has not ended, by the clock of its process. */
  get boundOfHold(): number {
    return this.capAt + 1_000 * (Duration.toMillis(this.lease!.ttl) + 2 * this.guardGap)
  }

  private get guardGap(): number {
    return Duration.toMillis(this.lease!.claim.guardGap)
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
    return this.process.monotonic() < this.lostAt + 800 * this.guardGap
  }
}

/** Milliseconds for one answer, which every call has, however little time its caller gives. */
const leeway = 50

import type { Revocation } from "effect-dlock/LockStore"
import * as Duration from "effect/Duration"
import type { Checker } from "./checker.ts"
import { mixesEventsUp } from "./dimensions.ts"
import type { Plan } from "./plan.ts"
import type { Section } from "./section.ts"
import { millis, type Timeline } from "./timeline.ts"

/** Somebody names a hold and asks its holder to leave. */
export interface Asking {
  readonly by: string
  readonly why: string
  /** Milliseconds. */
  readonly grace: number
}

/** A claim whose holder was asked to leave, as the server knows it. */
interface Mark {
  readonly lock: string
  readonly token: bigint
  readonly markedAt: number
  /** From when on it is not extended, if its process hears at once that it was marked. */
  forbiddenAt: number
}

/** What is asked of others here. */
export interface Around {
  readonly hasClaim: (lock: string, id: string) => boolean
  /** How many microseconds a claim may stand after the last time that it was extended. */
  readonly longestLife: () => number
  /** When the process of a claim went on after its last pause; undefined if it is not known. */
  readonly resumedAt: (id: string) => number
}

/** Knows who was asked to leave, and reports who was asked for no reason, hears too late of it, or stays too long. */
export class Revocations {
  around: Around | undefined
  private readonly asked = new Map<string, Array<Asking>>()
  private readonly marks = new Map<string, Mark>()
  /** Those that may still be at the server. */
  private readonly standing = new Map<string, Mark>()
  private readonly checker: Checker
  private readonly timeline: Timeline
  private readonly plan: Plan

  constructor(checker: Checker, timeline: Timeline, plan: Plan) {
    this.checker = checker
    this.timeline = timeline
    this.plan = plan
  }

  recordAsking(lock: string, token: bigint, asking: Asking): void {
    const name = nameOf(lock, token)
    this.asked.set(name, [...this.asked.get(name) ?? [], asking])
  }

  /** The server has marked a claim. */
  recordMark(lock: string, id: string, token: bigint, forbiddenAt: number): void {
    this.checker.counts.revocations++
    if (!this.asked.has(nameOf(lock, token))) {
      this.checker.report("S19", `${id} (token ${token} of ${lock}) is asked to leave, and nobody has named it`)
    }
    const known = this.marks.get(id)
    if (known !== undefined) known.forbiddenAt = Math.min(known.forbiddenAt, forbiddenAt)
    else {
      const mark = { lock, token, markedAt: this.timeline.now, forbiddenAt }
      this.marks.set(id, mark)
      this.standing.set(id, mark)
    }
  }

  /** The claim has come again after it had ended: marks end with their claims. */
  forget(id: string): void {
    this.marks.delete(id)
    this.standing.delete(id)
  }

  /** An operator was told that a hold has ended. A late request may have made its claim again, where requests may be late. */
  checkReleased(lock: string, token: bigint): void {
    if (!this.plan.isFaultFree) return
    for (const [id, mark] of this.marks) {
      if (mark.lock !== lock || mark.token !== token || this.around?.hasClaim(lock, id) !== true) continue
      this.checker.report("S19", `an operator was told that ${id} has given up ${lock}, and it has not`)
    }
  }

  /** The server has extended a claim so many milliseconds after its holder had to leave. */
  reportExtension(id: string, over: number): void {
    this.checker.report("S20", `${id} is extended ${over} ms after its holder had to leave`)
  }

  /** The holder was told. */
  recordTold(section: Section, { by, grace, why = "" }: Revocation): void {
    if (section.toldToLeaveAt === undefined) {
      section.toldToLeaveAt = section.process.monotonic()
      section.mustLeaveAt = section.toldToLeaveAt + millis(Duration.toMillis(grace))
    }
    this.checkAsking(section, by, why)
  }

  /** The lease was lost because of a revocation. */
  checkLoss(section: Section): void {
    const { lease, title } = section
    const mark = this.marks.get(section.id!)
    const { revocation } = lease!.loss!
    if (revocation === undefined) {
      const { acts, incidents } = this.plan
      const isExplained = incidents.some(({ kind }) => kind === "locker closed") ||
        acts.flat().some(({ kind }) => kind === "break")
      if (mark !== undefined && !isExplained) {
        this.checker.report("S19", `${title} is not told who has revoked its lock`)
      }
      return
    }
    // A leader that steps down revokes its own lock.
    if (mark === undefined && section.plan.leads !== undefined) return
    this.checkAsking(section, revocation.by, revocation.why ?? "")
    const least = Math.min(
      ...(this.asked.get(nameOf(section.lock, lease!.fencingToken)) ?? []).map(({ grace }) => grace)
    )
    const early = (mark?.markedAt ?? Infinity) + 0.97 * millis(least) - millis(2) - this.timeline.now
    if (early > 0) {
      this.checker.report("S19", `${title} has lost its lock ${early / 1_000} ms before its grace was over`)
    }
  }

  private checkAsking({ lease, lock, title }: Section, by: string, why: string): void {
    const askings = this.asked.get(nameOf(lock, lease!.fencingToken)) ?? []
    // The name of who asked may be unreadable for a while.
    const isUnknown = by === "" && this.plan.backend === "etcd" && !this.plan.isFaultFree && askings.length > 0
    if (isUnknown || askings.some((one) => one.by === by && one.why === why)) return
    this.checker.report("S19", `${title} was asked to leave by ${by} (${why}), and nobody by that name has asked`)
  }

  /** Checks that a holder hears in time that it is to leave, and is interrupted in time. */
  checkInside(section: Section): void {
    const { lease, mustLeaveAt, process, title } = section
    if (lease?.state !== "held" || process.paused || this.timeline.now - process.resumedAt <= tick) return
    if (process.monotonic() - mustLeaveAt > tick) {
      this.checker.report("S19", `${title} is not interrupted at the end of its grace`)
    }
    const mark = this.marks.get(section.id!)
    if (mark === undefined || !this.plan.isFaultFree) return
    const since = this.timeline.now - Math.max(mark.markedAt, section.enteredAt)
    if (section.toldToLeaveAt === undefined && since > this.toldWithin) {
      this.checker.report("S19", `${title} has not heard for ${since / 1_000} ms that it is to leave`)
    }
    const late = this.timeline.now - Math.max(mark.forbiddenAt, section.enteredAt)
    if (late > this.toldWithin) {
      this.checker.report("S19", `${title} is not interrupted ${late / 1_000} ms after the end of its grace`)
    }
  }

  /** On etcd a process looks for marks once a claim has been held for a moment, and a new watch may have to catch up. */
  private get toldWithin(): number {
    if (this.plan.backend === "redis") return millis(50)
    const { dimensions, longestTtl } = this.plan
    return millis(dimensions.has("tokens") || mixesEventsUp(dimensions) ? longestTtl / 2 + 100 : 350)
  }

  /** Checks that no claim stands longer than it may. */
  checkStanding(): void {
    if (this.standing.size === 0 || this.around === undefined) return
    const { backend, healedAt, isFaultFree, longestTtl } = this.plan
    const { hasClaim, longestLife, resumedAt } = this.around
    for (const [id, { forbiddenAt, lock }] of this.standing) {
      // On etcd the process of the claim hears of the mark, ends its claim, and its leases end if it does not.
      const from = backend === "redis"
        ? forbiddenAt
        : Math.max(forbiddenAt, healedAt, resumedAt(id)) +
          millis(longestTtl / 3 + (isFaultFree ? calls : callsWithFaults))
      if (this.timeline.now <= from) continue
      if (!hasClaim(lock, id)) this.standing.delete(id)
      else if (this.timeline.now > from + longestLife() + millis(10)) {
        const over = (this.timeline.now - from) / 1_000
        this.checker.report("S20", `${id} still has ${lock} ${over} ms after its holder had to leave`)
      }
    }
  }
}

const nameOf = (lock: string, token: bigint): string => `${lock} ${token}`

/** Microseconds: how late a timer may be. */
const tick = 4_000

/** Milliseconds for the calls on etcd that find a mark and withdraw a claim. */
const calls = 500
const callsWithFaults = 5_000

import type { Checker } from "./checker.ts"
import { longestClaim } from "./claims.ts"
import type { Plan } from "./plan.ts"
import type { Process } from "./process.ts"
import type { Section } from "./section.ts"
import type { ServerLog } from "./serverLog.ts"
import { millis, type Timeline } from "./timeline.ts"

/** Who stands for a leadership. */
export class Candidate {
  readonly lock: string
  readonly process: Process
  standsFrom: number
  private readonly timeline: Timeline

  constructor({ lock, process }: Section, timeline: Timeline) {
    this.lock = lock
    this.process = process
    this.timeline = timeline
    this.standsFrom = timeline.now
  }

  coolFor(ms: number): void {
    this.standsFrom = this.timeline.now + millis(1.01 * ms)
  }

  /** It stands no more. */
  leave(): void {
    this.standsFrom = Infinity
  }
}

interface Sighting {
  readonly process: Process
  readonly lock: string
  term: bigint | undefined
}

/** What is so at the server since when. */
interface Truth {
  readonly term: bigint | undefined
  readonly since: number
}

/** Knows who stands, who leads and what observers tell, and reports a leadership that stays empty and observers that are wrong. */
export class Leaders {
  /** The token of the claim that holds a lock now. */
  holderOf: (lock: string) => bigint | undefined = () => undefined
  /** How many milliseconds the server may keep the claim of a process that has died. */
  longestLife: () => number = () => 0
  private readonly candidates = new Set<Candidate>()
  private readonly sightings = new Map<string, Sighting>()
  private readonly truths = new Map<string, Truth>()
  /** By lock, when somebody led last. */
  private readonly ledAt = new Map<string, number>()
  private readonly timeline: Timeline
  private readonly plan: Plan
  private readonly checker: Checker
  private readonly serverLog: ServerLog
  private readonly isCalm: boolean

  constructor(timeline: Timeline, plan: Plan, checker: Checker, serverLog: ServerLog) {
    this.timeline = timeline
    this.plan = plan
    this.checker = checker
    this.serverLog = serverLog
    this.isCalm = plan.messageFaultRate === 0 && plan.notificationFaultRate === 0 && !plan.neverNotified &&
      plan.incidents.every(({ kind }) => ofProcesses.has(kind))
  }

  stand(section: Section): Candidate {
    const candidate = new Candidate(section, this.timeline)
    this.candidates.add(candidate)
    return candidate
  }

  recordTerm(): void {
    this.checker.counts.terms++
  }

  recordSighting(lock: string, process: Process, term: bigint | undefined): void {
    this.checker.counts.sightings++
    this.sightings.set(`${process.index} ${lock}`, { lock, process, term })
  }

  /** Its observers end. */
  stopObserving(process: Process): void {
    for (const [name, one] of this.sightings) if (one.process === process) this.sightings.delete(name)
  }

  /** Checks for every moment. */
  check(): void {
    for (const lock of new Set(Array.from(this.candidates, ({ lock }) => lock))) {
      this.checkVacancy(lock)
      const term = this.holderOf(lock)
      const known = this.truths.get(lock)
      if (known === undefined || known.term !== term) this.truths.set(lock, { term, since: this.timeline.now })
    }
    for (const sighting of this.sightings.values()) this.checkSighting(sighting)
  }

  /** Checks that somebody leads where somebody can. */
  private checkVacancy(lock: string): void {
    const { now } = this.timeline
    const isLed = Array.from(this.serverLog.inside).some((one) => one.lock === lock && !one.process.dead)
    if (isLed) return void this.ledAt.set(lock, now)
    if (!this.isCalm || now < this.plan.healedAt) return
    const since = Math.min(
      ...Array.from(this.candidates, (one) =>
        one.lock !== lock || one.process.dead || one.process.paused
          ? Infinity
          : Math.max(one.standsFrom, one.process.resumedAt))
    )
    const vacant = now - Math.max(since, this.ledAt.get(lock) ?? 0, this.plan.healedAt)
    const allowed = millis(Math.max(longestClaim(this.plan), this.longestLife()) + 1_000 + standsAgain)
    if (vacant > allowed) {
      this.checker.report("S21", `nobody leads ${lock} for ${vacant / 1_000} ms, and somebody stands`)
    }
  }

  private checkSighting({ lock, process, term }: Sighting): void {
    const truth = this.truths.get(lock)
    if (truth === undefined || truth.term === term || process.dead || process.paused) return
    const { now } = this.timeline
    const { healedAt, incidents, longestDelay } = this.plan
    if (!this.isCalm && now < healedAt) return
    // After faults its connections may need a while, and late messages may still arrive.
    const from = Math.max(
      truth.since,
      process.resumedAt,
      this.isCalm ? 0 : healedAt + longestDelay + millis(reconnects)
    )
    const isCutOff = incidents.some(({ aimed, at, duration, kind, process: its }) =>
      kind === "cut off" && now >= at && (aimed || its === process.index) && from < at + duration + millis(reconnects)
    )
    if (isCutOff) return
    if (truth.term === undefined && now - from > millis(tellsOfNobodyWithin)) {
      const what = `nobody leads ${lock} for ${(now - from) / 1_000} ms`
      this.checker.report("S22", `${what}, and an observer in process ${process.index} still tells of ${term}`)
    }
    if (now - from > millis(looksWithin)) {
      this.checker.report(
        "S22",
        `${truth.term} leads ${lock}, and process ${process.index} tells of ${term ?? "nobody"}`
      )
    }
  }
}

/** Faults that are those of a process. */
const ofProcesses: ReadonlySet<string> = new Set([
  "client paused",
  "client crashed",
  "cut off",
  "interrupt",
  "locker closed",
  "wall clock set"
])

// Milliseconds.

/** The longest pause of a candidate that was not answered. */
const standsAgain = 2_500
const reconnects = 5_000
const tellsOfNobodyWithin = 1_500
/** An observer looks each five seconds at least. */
const looksWithin = 6_500

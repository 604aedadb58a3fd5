import type { Revocation } from "effect-dlock/LockStore"
import * as Duration from "effect/Duration"
import type { HeldLease } from "../../packages/dlock/src/internal/lease/heldLease.ts"
import type { Checker, Rule } from "./checker.ts"
import { mixesEventsUp } from "./dimensions.ts"
import { Leaders } from "./leadership.ts"
import type { Log } from "./log.ts"
import type { Plan } from "./plan.ts"
import type { Process } from "./process.ts"
import type { Asking } from "./revocations.ts"
import type { Outcome, Section } from "./section.ts"
import { prefix } from "./section.ts"
import type { ServerLog } from "./serverLog.ts"
import { millis, type Timeline } from "./timeline.ts"

/** How many microseconds late a timer of a running process may be, with a second try after an early one. */
const tick = 4_000

/** What the observer asks of the backend. */
export interface Server {
  /** Whether the server has this claim, granted or queued. */
  readonly hasClaim: (key: string, id: string) => boolean
  /**
   * The id of the claim that was granted with a token, if it may be another than the holder's: waiting claims of one
   * process may have exchanged their places.
   */
  readonly grantedWith?: (process: number, key: string, token: bigint) => string | undefined
  /** The state of a lock. Without this, idle locks are not looked for. */
  readonly stateOf?: (key: string) => LockState
  /** The processes of the claims in a queue, the holder's first; undefined for a claim of another library. */
  readonly queueOf?: (key: string) => ReadonlyArray<number | undefined>
  /** Whether it has refused something since then that may have made a call fail. */
  readonly hasRefusedSince?: (since: number) => boolean
  /** The first waiter of a lock, where its permits are free and its process is connected. */
  readonly idleWaiterOf?: (key: string) => IdleWaiter | undefined
  /** What the server keeps for claims of a process, as text. */
  readonly claimsOf?: (process: number) => ReadonlyArray<string>
}

/** The state of a lock at the server. */
export interface LockState {
  /** The id of the claim that has it, empty for another library's; undefined if the lock is free. */
  readonly holder: string | undefined
  /** The process of that claim; undefined for another library's. */
  readonly process: number | undefined
  /** Since when: microseconds. */
  readonly since: number
}

/** A waiting claim that could be granted. */
export interface IdleWaiter {
  readonly id: string
  readonly process: number | undefined
}

/** The largest tokens of a key: of anybody, and of those who were alone inside. */
interface Newest {
  readonly any: bigint
  readonly exclusive: bigint
}

const noToken: Newest = { any: -1n, exclusive: -1n }

/** The token that the next one must be above. Tokens of a semaphore order grants; they are no fence. */
const leastFor = ({ isExclusive, shape: { kind } }: Section, { any, exclusive }: Newest): bigint =>
  kind === "semaphore" ? -1n : isExclusive ? any : exclusive

const newer = ({ isExclusive }: Section, token: bigint, { any, exclusive }: Newest): Newest => ({
  any: token > any ? token : any,
  exclusive: isExclusive && token > exclusive ? token : exclusive
})

/**
 * Watches the protected resource and the holders' leases by the clock of the world, and reports broken promises. The
 * resource remembers the largest token that it has seen, and accepts a step unless its token is smaller.
 */
export class Observer {
  server: Server = { hasClaim: () => false }
  /** Sections that acquire. */
  readonly acquiring = new Set<Section>()

  readonly leaders: Leaders
  /** Processes that have crashed, and when. */
  private readonly dead = new Map<number, number>()
  /** Processes whose lockers are closed. */
  readonly closed = new Set<number>()
  /** By lock, since when somebody waits behind claims of dead processes. */
  private readonly blockedSince = new Map<string, number>()
  private readonly timeline: Timeline
  private readonly log: Log
  private readonly plan: Plan
  private readonly checker: Checker
  private readonly serverLog: ServerLog
  /** By lock, who could be granted and is not, and since when. */
  private readonly idleWaiters = new Map<string, { readonly id: string; readonly since: number }>()
  /** What the resource of a key has seen. */
  private readonly fences = new Map<string, Newest>()
  private readonly entered = new Map<string, Newest>()
  private readonly progressAt = new Map<string, number>()

  constructor(timeline: Timeline, log: Log, plan: Plan, checker: Checker, serverLog: ServerLog) {
    this.timeline = timeline
    this.log = log
    this.plan = plan
    this.checker = checker
    this.serverLog = serverLog
    this.leaders = new Leaders(timeline, plan, checker, serverLog)
  }

  report(rule: Rule, what: string): void {
    this.checker.report(rule, what)
  }

  private get inside(): Set<Section> {
    return this.serverLog.inside
  }

  private get releasing(): Set<Section> {
    return this.serverLog.releasing
  }

  recordRequest(section: Section): void {
    section.beginAsking(this.timeline.now)
    section.expectEndFrom(this.timeline.now)
    this.acquiring.add(section)
    this.note(1, section, () => `${section.title} asks for ${section.lock} (${section.plan.form})`)
  }

  recordEntry(section: Section): void {
    const key = section.lock
    const { now } = this.timeline
    const { claim, fencingToken: token } = section.lease!
    const id = this.server.grantedWith?.(section.process.index, key, token) ?? claim.id
    section.id = id
    if (this.serverLog.wasDeletedByHand(id) || this.wasPassedOver(key, id)) {
      // The answer that let it in may have been late.
      if (this.serverLog.hearsOfDeletions) this.serverLog.expectToHearOfDeletion(id)
      else this.checkHandOver(section, id)
    }
    if (!section.interrupted) this.checkTimeLimit(section, "enters")
    this.serverLog.jobs.recordBegin(section)
    section.state = "inside"
    section.enteredAt = now
    section.lastStepAt = now
    // A job asks for its record before it enters, so the moment of its grant is not known here.
    const { job, maxHold } = section.plan
    if (maxHold !== undefined && job === undefined) section.capAt = section.process.monotonic() + millis(maxHold)
    this.acquiring.delete(section)
    this.inside.add(section)
    this.checker.counts.grants++
    if (section.shape.kind !== "mutex") this.checker.counts.shared++
    this.checkOrder(section)
    this.note(2, section, () => `${section.title} enters ${key} with token ${token}, claim ${id}`)
    const isExcused = this.serverLog.hasForgotten(id) || this.serverLog.isAboutToHear(id)
    if (!isExcused) {
      const newest = this.entered.get(key) ?? noToken
      const least = leastFor(section, newest)
      // Several that are granted at once may enter in any order.
      if ((token <= least || token === newest.any) && !this.serverLog.mayRepeatTokens(key)) {
        this.report("S2", `${section.title} enters with token ${token} after ${token === newest.any ? token : least}`)
      }
      if (token <= this.serverLog.floorOf(id) && !this.serverLog.mayRepeatTokens(key)) {
        this.report(
          "S2",
          `${section.title} enters with token ${token}, which is not above ${this.serverLog.floorOf(id)}`
        )
      }
      this.entered.set(key, newer(section, token, newest))
    }
    if (!isExcused && (this.plan.backend === "etcd" || section.considersHeld)) {
      this.serverLog.checkExclusion(key, id, section.shape, "enters")
    }
    if (this.plan.backend === "etcd" && this.plan.kind === "mutex") this.serverLog.checkFairness(key, id)
    const granted = this.serverLog.grantedFor(id)
    if (this.plan.isFaultFree && granted > promptness && !section.isOneOfSeveral) {
      this.report("S9", `${section.title} enters ${granted / 1_000} ms after the server granted it`)
    }
    this.serverLog.entered.add(id)
    const free = this.serverLog.takeFreeTime(key)
    const { dimensions } = this.plan
    // Where holders give way at once, a hand-over may come while the server still catches up with a new watch.
    const isCatchingUp = dimensions.has("far-waiters") || (this.plan.backend === "etcd" && dimensions.has("contention"))
    const allowed = promptness + (dimensions.has("tokens") ? logIn : 0) + (isCatchingUp ? catchingUp : 0)
    if (free !== undefined && free > allowed) {
      this.report("S9", `${section.title} enters ${free / 1_000} ms after the lock was released to it`)
    }
    this.recordProgress(key)
  }

  /** Others have deleted it, because an operator revoked the lease of its process's sign of life. */
  private wasPassedOver(key: string, id: string): boolean {
    return this.plan.backend === "etcd" && !this.server.hasClaim(key, id) &&
      this.plan.incidents.some(({ kind }) => kind === "lease revoked")
  }

  /**
   * Another claim of its process handed over to it without knowing of its deletion. If that claim is still there, it
   * keeps others out until this one learns of the deletion. If an operator deleted that claim too, nothing is promised
   * about either.
   */
  private checkHandOver({ lock, process }: Section, id: string): void {
    if (this.server.queueOf?.(lock)[0] === process.index) return this.serverLog.expectToHearOfDeletion(id)
    for (const other of [...this.releasing, ...this.inside]) {
      if (other.lock === lock && other.process === process && this.serverLog.hasForgotten(other.id!)) {
        this.serverLog.recordForgotten(id)
      }
    }
  }

  /**
   * Without faults a process gets locks in the order in which it asked. This does not hold on Redis: a request whose
   * script the server does not know yet is sent again, behind the next one.
   */
  private checkOrder({ askedAt, lock, plan, process, title }: Section): void {
    if (this.plan.backend !== "etcd" || !this.plan.isFaultFree || this.plan.kind !== "mutex") return
    // Who wants several locks asks beside those who want one.
    if (this.plan.dimensions.has("several")) return
    if (plan.form === "trySection" || plan.form === "tryScope") return
    for (const other of this.acquiring) {
      const { form } = other.plan
      if (
        other.askedAt >= askedAt || other.process !== process || other.lock !== lock || form === "trySection" ||
        form === "tryScope"
      ) continue
      if (other.interrupted || other.overtime >= 0) continue
      this.report("S9", `${title} enters ${lock} before ${other.title}, which asked first`)
    }
  }

  recordStep(section: Section): void {
    const { lease, lock: key, plan: { careful }, process } = section
    const { now } = this.timeline
    const token = lease!.fencingToken
    this.checker.counts.steps++
    const over = process.monotonic() - section.deadline
    const late = lease!.state !== "held" || (careful ? over >= 0 : over > tick)
    if (late) {
      this.checker.counts.lateSteps++
      section.lateSteps++
      const paused = process.resumedAt >= section.lastStepAt && process.resumedAt >= 0
      if (!paused) this.report("S3", `${section.title} steps after its deadline`)
      else if (careful) this.report("S3", `${section.title} looked at its lease and steps after its deadline`)
      else if (section.lateSteps > 1) this.report("S1", `${section.title} takes a second step after its deadline`)
    }
    const newest = this.fences.get(key) ?? noToken
    const fence = leastFor(section, newest)
    const stale = token < fence
    this.note(3, section, () => `${section.title} steps${late ? " late" : ""}${stale ? " and is refused" : ""}`)
    if (stale) {
      this.checker.counts.refused++
      const isExcused = this.serverLog.hasForgotten(section.id!) || this.serverLog.isAboutToHear(section.id!)
      if (!late && !isExcused && !this.serverLog.mayRepeatTokens(key)) {
        this.report("S1", `${section.title} steps with token ${token} after a step with ${fence}`)
      }
    } else this.fences.set(key, newer(section, token, newest))
    section.lastStepAt = now
    this.recordProgress(key)
  }

  recordAsking(section: Section): void {
    section.asksSince = this.timeline.now
  }

  /** It was told that others wait. */
  recordContention(section: Section): void {
    section.wasTold = true
    this.checker.counts.toldOf++
    this.note(8, section, () => `${section.title} hears that others wait for ${section.lock}`)
    const { backend, incidents, isFaultFree, kind } = this.plan
    // A client of another library may wait on etcd.
    const isForeign = backend === "etcd" && incidents.some((one) => one.kind === "foreign lock")
    // Where an answer may be missing, the claim of a caller that gave up may wait for a while.
    if (kind !== "mutex" || isForeign || !isFaultFree || this.serverLog.wasContended(section.lock, section.id!)) return
    this.report("S17", `${section.title} hears that others wait for ${section.lock}, and nobody has`)
  }

  /** Checks that a holder that asks knows of those who wait. */
  private checkContention({ asksSince, id, lock, title, wasTold }: Section): void {
    if (asksSince === undefined || wasTold || !this.plan.isFaultFree || this.plan.kind !== "mutex") return
    const since = this.serverLog.contendedSince(lock, id!)
    if (since === undefined || this.timeline.now - Math.max(since, asksSince) <= toldWithin) return
    if (this.plan.dimensions.has("tokens") || mixesEventsUp(this.plan.dimensions)) return
    this.report("S17", `${title} has not heard that others wait for ${lock}`)
  }

  /** Whether holders wait for being asked to leave. */
  get watchesRevocations(): boolean {
    return this.plan.dimensions.has("revocations")
  }

  /** An operator is about to name a hold. */
  recordAct(lock: string, token: bigint, asking: Asking): void {
    this.log.note(
      9,
      asking.grace,
      () => `${asking.by} asks who holds ${lock} with ${token} to leave in ${asking.grace} ms`
    )
    this.serverLog.revoked.recordAsking(lock, token, asking)
  }

  recordBreak(): void {
    this.checker.counts.broken++
  }

  /** What an operator was told of a hold that it revoked. */
  checkRevoked(lock: string, token: bigint, answer: string | undefined): void {
    this.log.note(9, 1, () => `an operator hears of ${token} of ${lock}: ${answer ?? "nothing"}`)
    if (answer === "released") this.serverLog.revoked.checkReleased(lock, token)
  }

  /** An operator named a hold that is not there. */
  checkNothingRevoked(lock: string, token: bigint, answer: string): void {
    if (this.serverLog.mayRepeatTokens(lock)) return
    this.report("S19", `an operator named ${token} of ${lock}, which nobody holds, and was told that it is ${answer}`)
  }

  recordRevocation(section: Section, revocation: Revocation): void {
    this.note(9, section, () => `${section.title} hears that it is to leave ${section.lock}`)
    this.serverLog.revoked.recordTold(section, revocation)
  }

  /** A writer is about to let readers in. From now on it works as one of them. */
  recordDowngrade(section: Section): void {
    section.hasDowngraded = true
    this.checker.counts.downgrades++
    this.note(7, section, () => `${section.title} lets readers into ${section.lock}`)
  }

  /** A program that re-enters must share the lease of its section. */
  recordReentry(section: Section, entered: HeldLease | undefined): void {
    this.checker.counts.reentries++
    this.note(8, section, () => `${section.title} re-enters ${section.lock}`)
    if (entered !== section.lease) this.report("S16", `${section.title} re-enters, and has another lease`)
  }

  recordExit(section: Section): void {
    if (section.state !== "inside") return
    section.state = "releasing"
    section.expectEndFrom(this.timeline.now)
    this.inside.delete(section)
    this.releasing.add(section)
    this.note(4, section, () => `${section.title} leaves ${section.lock}`)
    this.checkLoss(section)
    this.recordProgress(section.lock)
  }

  recordEnd(section: Section, outcome: Outcome): void {
    if (outcome === "done") this.serverLog.jobs.recordSuccess(section)
    const { process } = section
    const endsWithin = section.endsWithin(this.plan.backend)
    if (section.state === "acquiring") this.checkTimeLimit(section, `ends (${outcome})`)
    const took = this.timeline.now - section.endingSince - (process.pausedFor - section.pausedBefore)
    if (took > millis(endsWithin)) {
      this.report(
        "S6",
        `${section.title} (${section.state}) took ${took / 1_000} ms to end, and may take ${endsWithin}`
      )
    }
    this.acquiring.delete(section)
    this.inside.delete(section)
    this.releasing.delete(section)
    section.state = "ended"
    section.outcome = outcome
    // A server is silent while it checks a password, which may happen at the end of the time limit.
    const isHasty = section.plan.timeout !== undefined || millis(section.plan.ttl / 3) < 4 * logIn
    const mayLogIn = this.plan.dimensions.has("tokens") && isHasty
    if (outcome === "backend failed" && !section.hadNoTime && !mayLogIn && !this.isExcused(section.askedAt)) {
      this.report("S11", `${section.title} failed with an error of the backend, and nothing is wrong with that`)
    }
    this.checker.counts.outcomes[outcome] = (this.checker.counts.outcomes[outcome] ?? 0) + 1
    this.note(5, section, () => `${section.title} ends: ${outcome}`)
    this.checkLoss(section)
  }

  recordCrash(process: Process): void {
    this.dead.set(process.index, this.timeline.now)
    for (const set of [this.inside, this.acquiring, this.releasing]) {
      for (const section of set) {
        if (section.process === process) set.delete(section)
      }
    }
  }

  // Checks for every moment.

  checkAll(): void {
    const { dimensions } = this.plan
    if (dimensions.has("crowds") || dimensions.has("notifications") || dimensions.has("bursts")) this.checkIdleLocks()
    if (dimensions.has("dead-waiters")) this.checkDeadWaiters()
    if (this.plan.kind !== "mutex" && (this.plan.isFaultFree || dimensions.has("stalls"))) this.checkIdlePermits()
    if (this.watchesRevocations) this.serverLog.revoked.checkStanding()
    if (dimensions.has("leaders")) this.leaders.check()
    for (const section of this.inside) {
      const { lease, process } = section
      if (lease === undefined) continue
      this.checkCap(section)
      if (this.watchesRevocations) this.serverLog.revoked.checkInside(section)
      if (lease.state === "held") {
        this.checkContention(section)
        const over = process.monotonic() - section.deadline
        if (over > tick && !process.paused && this.timeline.now - process.resumedAt > tick) {
          this.report("S3", `${section.title} has not been told of its deadline ${over / 1_000} ms after it`)
        }
        if (this.serverLog.shouldHaveHeard(section.id!) && !section.hasDowngraded) {
          this.report("S3", `${section.title} has not been told that its claim was deleted`)
        }
        // On etcd the confirmed time is that of the lease, which includes the guard gap.
        const guard = this.plan.backend === "etcd" ? millis(Math.max(100, section.plan.ttl / 10)) : 0
        const most = this.serverLog.confirmedUntil(section.id!) - guard
        const isExcused = this.serverLog.hasForgotten(section.id!) || this.serverLog.isAboutToHear(section.id!)
        if (section.deadline > most + 1 && !isExcused) {
          const by = (section.deadline - most) / 1_000
          this.report("S3", `${section.title} considers its lock held for ${by} ms longer than any request confirms`)
        }
      } else if (!section.lossSeen) this.checkLoss(section)
    }
  }

  /** Checks that a section is interrupted at its cap, and keeps others out no longer than it may. */
  private checkCap(section: Section): void {
    const { capAt, lease, process } = section
    if (capAt === Infinity || process.paused || this.timeline.now - process.resumedAt <= tick) return
    const now = process.monotonic()
    if (lease!.state === "held" && now - capAt > tick) {
      this.report("S18", `${section.title} is not interrupted ${(now - capAt) / 1_000} ms after its cap`)
    }
    if (lease!.loss?.reason !== "MaxHold" || !this.plan.isHealthy || now - section.boundOfHold <= millis(atBound)) {
      return
    }
    if (!this.server.hasClaim(section.lock, section.id!)) return
    this.report("S18", `${section.title} keeps others out ${(now - section.boundOfHold) / 1_000} ms after its bound`)
  }

  /** Checks that it is answered within its time limit. */
  private checkTimeLimit(section: Section, what: string): void {
    if (!this.plan.dimensions.has("time-limits") || section.overtime <= 100) return
    const { form, timeout } = section.plan
    const given = section.interrupted ? "was interrupted" : `${form}, timeout ${timeout ?? "none"}`
    this.report("S13", `${section.title} (${given}) ${what} ${Math.round(section.overtime)} ms after its time`)
  }

  /** Checks that no lock is free, or granted to a claim that does not know, while somebody waits. */
  checkIdleLocks(): void {
    for (const lock of this.plan.keys.map((key) => prefix + key)) {
      const state = this.server.stateOf?.(lock)
      if (state === undefined) return
      const { holder, process, since } = state
      if (holder !== undefined) {
        // A claim of another library, or of a dead process, ends by itself.
        if (process === undefined || this.dead.has(process)) continue
        const knows = ({ id }: Section) => id === holder
        // A process that has closed, without an answer to its withdrawal, is told nothing.
        if ([...this.inside, ...this.releasing].some(knows) || this.closed.has(process)) continue
        // Whoever has the lock of a job first asks for its record.
        const isAsking = ({ lock: its, plan: { job }, process: { index } }: Section): boolean =>
          job !== undefined && its === lock && index === process
        if ([...this.acquiring].some(isAsking)) continue
      }
      for (const section of this.acquiring) {
        if (section.lock !== lock || section.process.dead || section.process.paused) continue
        const idle = this.timeline.now - Math.max(since, section.askedAt, section.process.resumedAt)
        if (idle <= millis(idleWithin(this.plan))) continue
        const what = holder === undefined ? "is free" : "is granted to one who has not heard of it"
        return this.report("S10", `${section.title} waits for ${lock}, which ${what} for ${idle / 1_000} ms`)
      }
    }
  }

  /** Checks that no permits are free for as long that the first waiter is content with. */
  private checkIdlePermits(): void {
    const { now } = this.timeline
    for (const lock of this.plan.keys.map((key) => prefix + key)) {
      const waiter = this.server.idleWaiterOf?.(lock)
      const known = this.idleWaiters.get(lock)
      if (waiter === undefined) {
        if (known !== undefined) this.idleWaiters.delete(lock)
        continue
      }
      const { id, process } = waiter
      // A process that stands still asks again when it goes on.
      const isAwake = Array.from(this.acquiring).some(({ process: { dead, index, paused } }) =>
        index === process && !dead && !paused
      )
      if (known?.id !== id || !isAwake) this.idleWaiters.set(lock, { id, since: now })
      else if (now - known.since > millis(this.plan.isFaultFree ? idleWithin(this.plan) : idleBehindStalled)) {
        return this.report(
          "S10",
          `${id} waits for ${lock}, where its permits are free for ${(now - known.since) / 1_000} ms`
        )
      }
    }
  }

  /** Checks that nobody waits behind the claim of a process that died long ago, unless that claim is the first. */
  private checkDeadWaiters(): void {
    const isAwake = (index: number | undefined): boolean =>
      Array.from(this.acquiring).some(({ process }) => process.index === index && !process.dead && !process.paused)
    // Requests that a process sent before it was cut off may be executed later, and then it looks alive.
    const held = this.plan.incidents.filter(({ kind }) => kind === "cut off").map(({ at, duration }) => at + duration)
    const heldUntil = Math.min(this.plan.healedAt, Math.max(0, ...held))
    for (const lock of this.plan.keys.map((key) => prefix + key)) {
      const isDead = (index: number | undefined): boolean =>
        index !== undefined && this.timeline.now - Math.max(heldUntil, this.dead.get(index) ?? Infinity) > deadAfter
      const waiting = this.server.queueOf?.(lock).slice(1) ?? []
      // Far from the head a process acts on its foremost claim only.
      const isSeen = (one: number | undefined, place: number): boolean =>
        !this.plan.dimensions.has("far-waiters") || waiting.indexOf(one) === place
      const isBlocked = waiting.some((one, place) => isAwake(one) && isSeen(one, place) && isDead(waiting[place - 1]))
      if (!isBlocked) this.blockedSince.delete(lock)
      else if (!this.blockedSince.has(lock)) this.blockedSince.set(lock, this.timeline.now)
      // A process that is cut off can do nothing about it.
      const since = Math.max(this.plan.healedAt, this.blockedSince.get(lock) ?? Infinity)
      if (this.timeline.now - since <= passedOverWithin) continue
      return this.report("S10", `somebody waits for ${lock} behind one whose process is dead`)
    }
  }

  /** Checks that a loss was reported rightly and in time. */
  private checkLoss(section: Section): void {
    const loss = section.lease?.loss
    if (loss === undefined || section.lossSeen) return
    section.lossSeen = true
    const { losses } = this.checker.counts
    losses[loss.reason] = (losses[loss.reason] ?? 0) + 1
    const { process } = section
    const id = section.id!
    this.note(6, section, () => `${section.title} has lost ${section.lock}: ${loss.reason}`)
    const over = process.monotonic() - section.deadline
    // A claim that is gone at the server gives no guard gap.
    if (loss.reason !== "Expired" && loss.reason !== "Replaced") {
      section.lostAt = Math.min(process.monotonic(), section.deadline)
    }
    if (this.plan.backend === "etcd" && (loss.reason === "Expired" || loss.reason === "Unreachable")) {
      this.checkLossReason(section, loss.reason)
    }
    switch (loss.reason) {
      case "Expired":
      case "Replaced":
        if (
          !this.serverLog.hasEnded(id) && !this.serverLog.hasForgotten(id) && this.server.hasClaim(section.lock, id)
        ) {
          this.report("S7", `${section.title} was told ${loss.reason}, and the server holds its claim`)
        }
        return
      case "Stalled":
      case "Unreachable": {
        if (process.wallJumped) return
        if (over < -1) this.report("S7", `${section.title} was lost ${-over / 1_000} ms before its deadline`)
        const told = this.serverLog.heardUntil(id) - process.monotonic()
        if (told > 0) {
          this.report("S7", `${section.title} was lost, and it had been told that it lives ${told / 1_000} ms more`)
        }
        return
      }
      case "MaxHold":
        if (section.capAt < Infinity && process.monotonic() < section.capAt - 1) {
          this.report("S18", `${section.title} was lost before its cap`)
        }
        return
      case "Revoked":
        return this.serverLog.revoked.checkLoss(section)
      default:
        // A reason that is not judged does not compile.
        loss.reason satisfies never
    }
  }

  /** Checks that a fault explains the loss, in the time for which its lease was last confirmed and a little before. */
  private checkLossReason({ lease, title }: Section, reason: string): void {
    const confirmedFor = millis(Duration.toMillis(lease!.ttl) + 3_000)
    if (this.isExcused(this.timeline.now - confirmedFor)) return
    this.report("S7", `${title} has lost its lock (${reason}), although nothing was wrong`)
  }

  /** Whether a fault since then may have made a call fail. An answer of that moment arrives a little later. */
  private isExcused(since: number): boolean {
    return !this.plan.isHealthy || this.server.hasRefusedSince?.(since - millis(10)) === true
  }

  private recordProgress(key: string): void {
    this.progressAt.set(key, this.timeline.now)
  }

  /** After the faults: checks that no waiter waits for `most` milliseconds without progress on its key. */
  checkProgress(since: number, most: number): void {
    for (const section of this.acquiring) {
      if (section.process.dead) continue
      const from = Math.max(since, section.askedAt, this.progressAt.get(section.lock) ?? 0)
      if (this.timeline.now - from > millis(most)) {
        this.report("S5", `${section.title} waits, and nobody has got anywhere for ${most} ms`)
      }
    }
  }

  private note(code: number, section: Section, words: () => string): void {
    this.log.note(code, section.plan.number, words)
  }
}

/**
 * Within how many microseconds a released lock has its next holder, without faults. It may take longer if the next one
 * needs a new auth token first, or counts itself far from the head: then its watch began in the past, and the server
 * lets such watches catch up at its own pace.
 */
const promptness = 30_000
const logIn = 100_000

/** Within how many microseconds a holder that asks is told of those who wait, without faults. */
const toldWithin = 50_000
const catchingUp = 100_000

/** Milliseconds for the withdrawal of a claim whose program does not end. */
const atBound = 500

/** Microseconds until others know that a process is dead: its lease of life, and how late that may end. */
const deadAfter = 6_000_000

/** Within how many microseconds from then on all of its claims are removed from a queue. */
const passedOverWithin = 1_000_000

/**
 * The same where processes stand still. A grant to one of them may end before it goes on. The next waiter hears of
 * neither, and asks by itself after two seconds at most.
 */
const idleBehindStalled = 2_000 + 100

/**
 * For how many milliseconds a lock may be idle while somebody waits. On Redis: the retry interval of waiters from the
 * server's expiry, and 100 ms; two late answers, if answers may be late; two seconds, if notifications may be lost. A
 * grant that replicas do not confirm is withdrawn after a tenth of the ttl, a second at most. On etcd: waiters near the
 * head check every two seconds, and wait as long for a missing answer. If an operator deletes claims, each deleted
 * claim that a check finds costs another delay.
 */
const idleWithin = (
  {
    backend,
    dimensions,
    incidents,
    isHealthy,
    longestDelay,
    longestTtl,
    messageFaultRate,
    notificationFaultRate,
    replicas
  }: Plan
): number => {
  if (backend === "etcd") {
    // Without faults all events arrive at once, or a tenth of a second later if a watch catches up.
    if (dimensions.has("bursts") && isHealthy && !mixesEventsUp(dimensions)) return 300
    const isMeddled = incidents.some(({ kind }) => kind === "claim deleted")
    // Two seconds until it checks by itself, and more behind many claims.
    return 2_800 + 500 + (messageFaultRate === 0 ? 0 : 2_000 + 2 * longestDelay / 1_000) +
      (isMeddled ? longestDelay / 1_000 : 0)
  }
  return (notificationFaultRate > 0
    ? 2_000 + 100
    : 100 + 100 + (messageFaultRate === 0 ? 0 : 2 * longestDelay / 1_000)) +
    (replicas === 0 ? 0 : Math.min(longestTtl / 10, 1_000))
}

import * as Duration from "effect/Duration"
import type { Checker, Rule } from "./checker.ts"
import type { Log } from "./log.ts"
import type { Plan } from "./plan.ts"
import type { Process } from "./process.ts"
import type { Outcome, Section } from "./section.ts"
import { prefix } from "./section.ts"
import type { ServerLog } from "./serverLog.ts"
import { millis, type Timeline } from "./timeline.ts"

/** How late a timer of a process that runs may be, in microseconds, with what an early one costs in a second try. */
const tick = 4_000

/** What the observer asks of the backend. */
export interface Server {
  /** Does the server hold or queue this claim? */
  readonly hasClaim: (key: string, id: string) => boolean
  /**
   * The id of the claim that was granted with a token, where that may not be its holder's own: claims of one process that wait
   * for the same may have exchanged their places.
   */
  readonly grantedWith?: (process: number, key: string, token: bigint) => string | undefined
  /** How does a lock stand? Where that is not told, nobody asks whether it is idle. */
  readonly stateOf?: (key: string) => LockState
  /** Whose claims stand in a queue, the holder's first; undefined where it is none of ours. */
  readonly queueOf?: (key: string) => ReadonlyArray<number | undefined>
  /** Has it refused something since then, which may have had a call fail? */
  readonly hasRefusedSince?: (since: number) => boolean
  /** What the server keeps for claims of a process, in words. */
  readonly claimsOf?: (process: number) => ReadonlyArray<string>
}

/** Who has a lock at the server. */
export interface LockState {
  /** A claim's id, which is empty for another library's; undefined where it is free. */
  readonly holder: string | undefined
  /** Whose claim that is; undefined where it is none of ours. */
  readonly process: number | undefined
  /** Since when: microseconds. */
  readonly since: number
}

/**
 * Sees the resource and the holders' leases on the one clock of the world, and says what promise was broken.
 *
 * The resource is a number that each step carries: it takes a step whose number is not below the largest it has seen.
 */
export class Observer {
  server: Server = { hasClaim: () => false }
  /** Sections that ask. */
  readonly acquiring = new Set<Section>()

  /** Sections that are on their way out. */
  private readonly releasing = new Set<Section>()
  /** Processes that have crashed, and when. */
  private readonly dead = new Map<number, number>()
  /** Processes whose lockers are closed. */
  readonly closed = new Set<number>()
  /** Since when somebody waits for each lock behind claims that nobody keeps. */
  private readonly blockedSince = new Map<string, number>()
  private readonly timeline: Timeline
  private readonly log: Log
  private readonly plan: Plan
  private readonly checker: Checker
  private readonly serverLog: ServerLog
  /** The largest number that the resource of a key has seen. */
  private readonly fences = new Map<string, bigint>()
  private readonly entered = new Map<string, bigint>()
  private readonly progressAt = new Map<string, number>()

  constructor(timeline: Timeline, log: Log, plan: Plan, checker: Checker, serverLog: ServerLog) {
    this.timeline = timeline
    this.log = log
    this.plan = plan
    this.checker = checker
    this.serverLog = serverLog
  }

  report(rule: Rule, what: string): void {
    this.checker.report(rule, what)
  }

  private get inside(): Set<Section> {
    return this.serverLog.inside
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
    if (this.serverLog.wasDeletedByHand(id)) this.checkHandOver(section, id)
    if (!section.interrupted) this.checkTimeLimit(section, "enters")
    section.state = "inside"
    section.lastStepAt = now
    this.acquiring.delete(section)
    this.inside.add(section)
    this.checker.counts.grants++
    this.checkOrder(section)
    this.note(2, section, () => `${section.title} enters ${key} with token ${token}, claim ${id}`)
    if (!this.serverLog.hasForgotten(id)) {
      const last = this.entered.get(key)
      // Several who are granted at once may come in in any order.
      const repeats = last !== undefined && (this.plan.capacity === 1 ? token <= last : token === last)
      if (repeats && !this.serverLog.mayRepeatTokens(key)) {
        this.report("S2", `${section.title} enters with token ${token} after ${last}`)
      }
      if (token <= this.serverLog.floorOf(id) && !this.serverLog.mayRepeatTokens(key)) {
        this.report(
          "S2",
          `${section.title} enters with token ${token}, which is not above ${this.serverLog.floorOf(id)}`
        )
      }
      this.entered.set(key, token)
    }
    if (this.plan.backend === "etcd") {
      if (!this.serverLog.hasForgotten(id)) this.serverLog.checkExclusion(key, id, "enters")
      if (this.plan.capacity === 1) this.serverLog.checkFairness(key, id)
    }
    this.serverLog.entered.add(id)
    const free = this.serverLog.takeFreeTime(key)
    const { dimensions } = this.plan
    const allowed = promptness + (dimensions.has("tokens") ? logIn : 0) +
      (dimensions.has("far-waiters") ? catchingUp : 0)
    if (free !== undefined && free > allowed) {
      this.report("S9", `${section.title} enters ${free / 1_000} ms after the lock was released to it`)
    }
    this.recordProgress(key)
  }

  /**
   * It was handed over to by another of its process, which was deaf to its deletion. Where that one's claim stands it keeps the
   * others out until this one is told; where that too was deleted by somebody nothing is promised of either.
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
   * Without faults, what one process asks for in turn it gets in turn. A Redis that does not know a script yet lets the next
   * one pass, which comes when it does.
   */
  private checkOrder({ askedAt, lock, plan, process, title }: Section): void {
    if (this.plan.backend !== "etcd" || !this.plan.isFaultFree || this.plan.capacity > 1) return
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
    const fence = this.fences.get(key)
    // Tokens of shared claims order grants; they are no fence.
    const stale = fence !== undefined && token < fence && this.plan.capacity === 1
    this.note(3, section, () => `${section.title} steps${late ? " late" : ""}${stale ? " and is refused" : ""}`)
    if (stale) {
      this.checker.counts.refused++
      if (!late && !this.serverLog.hasForgotten(section.id!) && !this.serverLog.mayRepeatTokens(key)) {
        this.report("S1", `${section.title} steps with token ${token} after a step with ${fence}`)
      }
    } else if (fence === undefined || token > fence) this.fences.set(key, token)
    section.lastStepAt = now
    this.recordProgress(key)
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
    // At the end of its time nothing is heard of the server while it looks at a password, once or more.
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

  // What holds at every moment.

  checkAll(): void {
    const { dimensions } = this.plan
    if (dimensions.has("crowds") || dimensions.has("notifications") || dimensions.has("bursts")) this.checkIdleLocks()
    if (dimensions.has("dead-waiters")) this.checkDeadWaiters()
    for (const section of this.inside) {
      const { lease, process } = section
      if (lease === undefined) continue
      if (lease.state === "held") {
        const over = process.monotonic() - section.deadline
        if (over > tick && !process.paused && this.timeline.now - process.resumedAt > tick) {
          this.report("S3", `${section.title} has not been told of its deadline ${over / 1_000} ms after it`)
        }
        // On etcd a lease is what is vouched for, and it lives longer by the guard.
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

  /** Is it answered in the time that it gave? */
  private checkTimeLimit(section: Section, what: string): void {
    if (!this.plan.dimensions.has("time-limits") || section.overtime <= 100) return
    const { form, timeout } = section.plan
    const given = section.interrupted ? "was interrupted" : `${form}, timeout ${timeout ?? "none"}`
    this.report("S13", `${section.title} (${given}) ${what} ${Math.round(section.overtime)} ms after its time`)
  }

  /** Is a lock free, or granted to somebody who does not know, while somebody waits for it? */
  checkIdleLocks(): void {
    for (const lock of this.plan.keys.map((key) => prefix + key)) {
      const state = this.server.stateOf?.(lock)
      if (state === undefined) return
      const { holder, process, since } = state
      if (holder !== undefined) {
        // What is nobody's of us, or of one who is dead, is over in its time.
        if (process === undefined || this.dead.has(process)) continue
        const knows = ({ id }: Section) => id === holder
        // Who has closed, and had no answer to that, hears of nothing.
        if ([...this.inside, ...this.releasing].some(knows) || this.closed.has(process)) continue
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

  /** Does one wait behind a claim of a process that has long been dead, and that is not the first? */
  private checkDeadWaiters(): void {
    const isAwake = (index: number | undefined): boolean =>
      Array.from(this.acquiring).some(({ process }) => process.index === index && !process.dead && !process.paused)
    // What a process had sent before it was cut off may be executed when that is over, and show that it lives.
    const held = this.plan.incidents.filter(({ kind }) => kind === "cut off").map(({ at, duration }) => at + duration)
    const heldUntil = Math.min(this.plan.healedAt, Math.max(0, ...held))
    for (const lock of this.plan.keys.map((key) => prefix + key)) {
      const isDead = (index: number | undefined): boolean =>
        index !== undefined && this.timeline.now - Math.max(heldUntil, this.dead.get(index) ?? Infinity) > deadAfter
      const waiting = this.server.queueOf?.(lock).slice(1) ?? []
      // Far from the head a process goes by its foremost claim.
      const isSeen = (one: number | undefined, place: number): boolean =>
        !this.plan.dimensions.has("far-waiters") || waiting.indexOf(one) === place
      const isBlocked = waiting.some((one, place) => isAwake(one) && isSeen(one, place) && isDead(waiting[place - 1]))
      if (!isBlocked) this.blockedSince.delete(lock)
      else if (!this.blockedSince.has(lock)) this.blockedSince.set(lock, this.timeline.now)
      // Who is cut off can do nothing about it.
      const since = Math.max(this.plan.healedAt, this.blockedSince.get(lock) ?? Infinity)
      if (this.timeline.now - since <= passedOverWithin) continue
      return this.report("S10", `somebody waits for ${lock} behind one whose process is dead`)
    }
  }

  /** Was the lease rightly said to be lost, and in time? */
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
    // What is gone at the server is not ours to keep for it.
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
    }
  }

  /** Was anything wrong in the time for which its lease was last confirmed? It may have lived a little longer. */
  private checkLossReason({ lease, title }: Section, reason: string): void {
    const confirmedFor = millis(Duration.toMillis(lease!.ttl) + 3_000)
    if (this.isExcused(this.timeline.now - confirmedFor)) return
    this.report("S7", `${title} has lost its lock (${reason}), although nothing was wrong`)
  }

  /** Has anything been wrong since then that a call may have failed for? What was answered then is heard a little later. */
  private isExcused(since: number): boolean {
    return !this.plan.isHealthy || this.server.hasRefusedSince?.(since - millis(10)) === true
  }

  private recordProgress(key: string): void {
    this.progressAt.set(key, this.timeline.now)
  }

  /** With the faults over: is somebody waiting while nothing goes on? `most` is in milliseconds. */
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
 * Within how many microseconds a lock that was released is in the next one's hands, where nothing goes wrong; and how much
 * later where the next one has to be given a new token first, or is far from the head as far as it knows: its watch began in the
 * past, and the server lets such watches catch up at its own pace.
 */
const promptness = 30_000
const logIn = 100_000
const catchingUp = 100_000

/** Microseconds until a process that died is known to be dead: the lease by which it lives, and how late that may end. */
const deadAfter = 6_000_000

/** Within how many microseconds all of its claims are taken out of a queue from then on. */
const passedOverWithin = 1_000_000

/**
 * For how many milliseconds a lock may be idle while somebody waits: from the end of the holder's time at the server the
 * interval at which waiters retry, and 100 ms; where answers are late, two of them; where messages are lost, two seconds.
 * A grant that replicas do not confirm is given back after a tenth of the time to live, a second at most.
 *
 * On etcd whoever is near the head looks every two seconds, and an answer that does not come is waited for as long. Where
 * somebody deletes claims each that a look finds gone costs one, until that is heard.
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
    // Where nothing is wrong all is told at once, or a tenth of a second later of what was to be told before.
    if (dimensions.has("bursts") && isHealthy && !dimensions.has("proxies")) return 300
    const isMeddled = incidents.some(({ kind }) => kind === "claim deleted")
    // Two seconds until it looks by itself, and more where many stand before it.
    return 2_800 + 500 + (messageFaultRate === 0 ? 0 : 2_000 + 2 * longestDelay / 1_000) +
      (isMeddled ? longestDelay / 1_000 : 0)
  }
  return (notificationFaultRate > 0
    ? 2_000 + 100
    : 100 + 100 + (messageFaultRate === 0 ? 0 : 2 * longestDelay / 1_000)) +
    (replicas === 0 ? 0 : Math.min(longestTtl / 10, 1_000))
}

import * as Duration from "effect/Duration"
import type { Judge, Rule } from "./judge.ts"
import type { Ledger } from "./ledger.ts"
import type { Log } from "./log.ts"
import type { Plan } from "./plan.ts"
import type { Process } from "./process.ts"
import type { Outcome, Section } from "./section.ts"
import { prefix } from "./section.ts"
import { millis, type Timeline } from "./timeline.ts"

/** How late a timer of a process that runs may be, in microseconds, with what an early one costs in a second try. */
const tick = 4_000

/** What the witness asks of the backend. */
export interface Server {
  /** Does the server hold or queue this claim? */
  readonly knows: (key: string, id: string) => boolean
  /**
   * The id of the claim that was granted with a token, where that may not be its holder's own: claims of one process that wait
   * for the same may have exchanged their places.
   */
  readonly grantedWith?: (process: number, key: string, token: bigint) => string | undefined
  /** How does a lock stand? Where that is not told, nobody asks whether it is idle. */
  readonly stand?: (key: string) => Stand
  /** Whose claims stand in a queue, the holder's first; undefined where it is none of ours. */
  readonly queueOf?: (key: string) => ReadonlyArray<number | undefined>
  /** Has it refused something since then, which may have had a call fail? */
  readonly excuses?: (since: number) => boolean
  /** What the server keeps for claims of a process, in words. */
  readonly claimsOf?: (process: number) => ReadonlyArray<string>
}

/** Who has a lock at the server. */
export interface Stand {
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
export class Witness {
  server: Server = { knows: () => false }
  /** Sections that ask. */
  readonly asking = new Set<Section>()

  /** Sections that are on their way out. */
  private readonly leaving = new Set<Section>()
  /** Processes that have crashed, and when. */
  private readonly dead = new Map<number, number>()
  /** Processes whose lockers are closed. */
  readonly closed = new Set<number>()
  /** Since when somebody waits for each lock behind claims that nobody keeps. */
  private readonly blockedSince = new Map<string, number>()
  private readonly timeline: Timeline
  private readonly log: Log
  private readonly plan: Plan
  private readonly judge: Judge
  private readonly ledger: Ledger
  /** The largest number that the resource of a key has seen. */
  private readonly fences = new Map<string, bigint>()
  private readonly entered = new Map<string, bigint>()
  private readonly progressAt = new Map<string, number>()

  constructor(timeline: Timeline, log: Log, plan: Plan, judge: Judge, ledger: Ledger) {
    this.timeline = timeline
    this.log = log
    this.plan = plan
    this.judge = judge
    this.ledger = ledger
  }

  broken(rule: Rule, what: string): void {
    this.judge.broken(rule, what)
  }

  private get inside(): Set<Section> {
    return this.ledger.inside
  }

  asks(section: Section): void {
    section.asks(this.timeline.now)
    section.hurries(this.timeline.now)
    this.asking.add(section)
    this.note(1, section, () => `${section.title} asks for ${section.lock} (${section.plan.form})`)
  }

  enters(section: Section): void {
    const key = section.lock
    const { now } = this.timeline
    const { claim, fencingToken: token } = section.holding!
    const id = this.server.grantedWith?.(section.process.index, key, token) ?? claim.id
    section.id = id
    if (this.ledger.wasDeletedByHand(id)) this.lookAtHandOver(section, id)
    if (!section.interrupted) this.lookAtTime(section, "enters")
    section.state = "inside"
    section.lastStepAt = now
    this.asking.delete(section)
    this.inside.add(section)
    this.judge.counts.grants++
    this.lookAtOrder(section)
    this.note(2, section, () => `${section.title} enters ${key} with token ${token}, claim ${id}`)
    if (!this.ledger.hasForgotten(id)) {
      const last = this.entered.get(key)
      // Several who are granted at once may come in in any order.
      const repeats = last !== undefined && (this.plan.capacity === 1 ? token <= last : token === last)
      if (repeats && !this.ledger.mayRepeatTokens(key)) {
        this.broken("S2", `${section.title} enters with token ${token} after ${last}`)
      }
      if (token <= this.ledger.floorOf(id) && !this.ledger.mayRepeatTokens(key)) {
        this.broken("S2", `${section.title} enters with token ${token}, which is not above ${this.ledger.floorOf(id)}`)
      }
      this.entered.set(key, token)
    }
    if (this.plan.backend === "etcd") {
      if (!this.ledger.hasForgotten(id)) this.ledger.othersAreOut(key, id, "enters")
      if (this.plan.capacity === 1) this.ledger.inTurn(key, id)
    }
    this.ledger.cameIn.add(id)
    const free = this.ledger.taken(key)
    const { has } = this.plan
    const allowed = promptness + (has.has("tokens") ? logIn : 0) + (has.has("distance") ? catchingUp : 0)
    if (free !== undefined && free > allowed) {
      this.broken("S9", `${section.title} enters ${free / 1_000} ms after the lock was released to it`)
    }
    this.progressed(key)
  }

  /**
   * It was handed over to by another of its process, which was deaf to its deletion. Where that one's claim stands it keeps the
   * others out until this one is told; where that too was deleted by somebody nothing is promised of either.
   */
  private lookAtHandOver({ lock, process }: Section, id: string): void {
    if (this.server.queueOf?.(lock)[0] === process.index) return this.ledger.noteHandedOver(id)
    for (const other of [...this.leaving, ...this.inside]) {
      if (other.lock === lock && other.process === process && this.ledger.hasForgotten(other.id!)) {
        this.ledger.forgot(id)
      }
    }
  }

  /**
   * Without faults, what one process asks for in turn it gets in turn. A Redis that does not know a script yet lets the next
   * one pass, which comes when it does.
   */
  private lookAtOrder({ askedAt, lock, plan, process, title }: Section): void {
    if (this.plan.backend !== "etcd" || !this.plan.quiet || this.plan.capacity > 1) return
    if (plan.form === "trySection" || plan.form === "tryScope") return
    for (const other of this.asking) {
      const { form } = other.plan
      if (
        other.askedAt >= askedAt || other.process !== process || other.lock !== lock || form === "trySection" ||
        form === "tryScope"
      ) continue
      if (other.interrupted || other.overtime >= 0) continue
      this.broken("S9", `${title} enters ${lock} before ${other.title}, which asked first`)
    }
  }

  steps(section: Section): void {
    const { holding, lock: key, plan: { careful }, process } = section
    const { now } = this.timeline
    const token = holding!.fencingToken
    this.judge.counts.steps++
    const over = process.monotonic() - section.deadline
    const late = holding!.state !== "held" || (careful ? over >= 0 : over > tick)
    if (late) {
      this.judge.counts.lateSteps++
      section.lateSteps++
      const paused = process.resumedAt >= section.lastStepAt && process.resumedAt >= 0
      if (!paused) this.broken("S3", `${section.title} steps after its deadline`)
      else if (careful) this.broken("S3", `${section.title} looked at its lease and steps after its deadline`)
      else if (section.lateSteps > 1) this.broken("S1", `${section.title} takes a second step after its deadline`)
    }
    const fence = this.fences.get(key)
    // Tokens of shared claims order grants; they are no fence.
    const stale = fence !== undefined && token < fence && this.plan.capacity === 1
    this.note(3, section, () => `${section.title} steps${late ? " late" : ""}${stale ? " and is refused" : ""}`)
    if (stale) {
      this.judge.counts.refused++
      if (!late && !this.ledger.hasForgotten(section.id!) && !this.ledger.mayRepeatTokens(key)) {
        this.broken("S1", `${section.title} steps with token ${token} after a step with ${fence}`)
      }
    } else if (fence === undefined || token > fence) this.fences.set(key, token)
    section.lastStepAt = now
    this.progressed(key)
  }

  leaves(section: Section): void {
    if (section.state !== "inside") return
    section.state = "leaving"
    section.hurries(this.timeline.now)
    this.inside.delete(section)
    this.leaving.add(section)
    this.note(4, section, () => `${section.title} leaves ${section.lock}`)
    this.lookAtLoss(section)
    this.progressed(section.lock)
  }

  ends(section: Section, outcome: Outcome): void {
    const { process } = section
    const endsWithin = section.endsWithin(this.plan.backend)
    if (section.state === "asking") this.lookAtTime(section, `ends (${outcome})`)
    const took = this.timeline.now - section.endingSince - (process.pausedFor - section.pausedBefore)
    if (took > millis(endsWithin)) {
      this.broken(
        "S6",
        `${section.title} (${section.state}) took ${took / 1_000} ms to end, and may take ${endsWithin}`
      )
    }
    this.asking.delete(section)
    this.inside.delete(section)
    this.leaving.delete(section)
    section.state = "over"
    section.outcome = outcome
    // At the end of its time nothing is heard of the server while it looks at a password, once or more.
    const isHasty = section.plan.timeout !== undefined || millis(section.plan.ttl / 3) < 4 * logIn
    const mayLogIn = this.plan.has.has("tokens") && isHasty
    if (outcome === "backend failed" && !section.hadNoTime && !mayLogIn && !this.isExcused(section.askedAt)) {
      this.broken("S11", `${section.title} failed with an error of the backend, and nothing is wrong with that`)
    }
    this.judge.counts.outcomes[outcome] = (this.judge.counts.outcomes[outcome] ?? 0) + 1
    this.note(5, section, () => `${section.title} ends: ${outcome}`)
    this.lookAtLoss(section)
  }

  crashes(process: Process): void {
    this.dead.set(process.index, this.timeline.now)
    for (const set of [this.inside, this.asking, this.leaving]) {
      for (const section of set) {
        if (section.process === process) set.delete(section)
      }
    }
  }

  // What holds at every moment.

  look(): void {
    const { has } = this.plan
    if (has.has("crowds") || has.has("pushes") || has.has("bursts")) this.lookForIdle()
    if (has.has("deaths")) this.lookForDead()
    for (const section of this.inside) {
      const { holding, process } = section
      if (holding === undefined) continue
      if (holding.state === "held") {
        const over = process.monotonic() - section.deadline
        if (over > tick && !process.paused && this.timeline.now - process.resumedAt > tick) {
          this.broken("S3", `${section.title} has not been told of its deadline ${over / 1_000} ms after it`)
        }
        // On etcd a lease is what is vouched for, and it lives longer by the guard.
        const guard = this.plan.backend === "etcd" ? millis(Math.max(100, section.plan.ttl / 10)) : 0
        const most = this.ledger.vouchedUntil(section.id!) - guard
        const isExcused = this.ledger.hasForgotten(section.id!) || this.ledger.isAboutToHear(section.id!)
        if (section.deadline > most + 1 && !isExcused) {
          const by = (section.deadline - most) / 1_000
          this.broken("S3", `${section.title} believes for ${by} ms longer than a request vouches for`)
        }
      } else if (!section.lossSeen) this.lookAtLoss(section)
    }
  }

  /** Is it answered in the time that it gave? */
  private lookAtTime(section: Section, what: string): void {
    if (!this.plan.has.has("callers") || section.overtime <= 100) return
    const { form, timeout } = section.plan
    const given = section.interrupted ? "was interrupted" : `${form}, timeout ${timeout ?? "none"}`
    this.broken("S13", `${section.title} (${given}) ${what} ${Math.round(section.overtime)} ms after its time`)
  }

  /** Is a lock free, or granted to somebody who does not know, while somebody waits for it? */
  lookForIdle(): void {
    for (const lock of this.plan.keys.map((key) => prefix + key)) {
      const stand = this.server.stand?.(lock)
      if (stand === undefined) return
      const { holder, process, since } = stand
      if (holder !== undefined) {
        // What is nobody's of us, or of one who is dead, is over in its time.
        if (process === undefined || this.dead.has(process)) continue
        const knows = ({ id }: Section) => id === holder
        // Who has closed, and had no answer to that, hears of nothing.
        if ([...this.inside, ...this.leaving].some(knows) || this.closed.has(process)) continue
      }
      for (const section of this.asking) {
        if (section.lock !== lock || section.process.dead || section.process.paused) continue
        const idle = this.timeline.now - Math.max(since, section.askedAt, section.process.resumedAt)
        if (idle <= millis(idleWithin(this.plan))) continue
        const what = holder === undefined ? "is free" : "is granted to one who has not heard of it"
        return this.broken("S10", `${section.title} waits for ${lock}, which ${what} for ${idle / 1_000} ms`)
      }
    }
  }

  /** Does one wait behind a claim of a process that has long been dead, and that is not the first? */
  private lookForDead(): void {
    const isAwake = (index: number | undefined): boolean =>
      Array.from(this.asking).some(({ process }) => process.index === index && !process.dead && !process.paused)
    // What a process had sent before it was cut off may be executed when that is over, and show that it lives.
    const held = this.plan.incidents.filter(({ kind }) => kind === "cut off").map(({ at, duration }) => at + duration)
    const heldUntil = Math.min(this.plan.healedAt, Math.max(0, ...held))
    for (const lock of this.plan.keys.map((key) => prefix + key)) {
      const isDead = (index: number | undefined): boolean =>
        index !== undefined && this.timeline.now - Math.max(heldUntil, this.dead.get(index) ?? Infinity) > deadAfter
      const waiting = this.server.queueOf?.(lock).slice(1) ?? []
      // Far from the head a process goes by its foremost claim.
      const isSeen = (one: number | undefined, place: number): boolean =>
        !this.plan.has.has("distance") || waiting.indexOf(one) === place
      const isBlocked = waiting.some((one, place) => isAwake(one) && isSeen(one, place) && isDead(waiting[place - 1]))
      if (!isBlocked) this.blockedSince.delete(lock)
      else if (!this.blockedSince.has(lock)) this.blockedSince.set(lock, this.timeline.now)
      // Who is cut off can do nothing about it.
      const since = Math.max(this.plan.healedAt, this.blockedSince.get(lock) ?? Infinity)
      if (this.timeline.now - since <= passedOverWithin) continue
      return this.broken("S10", `somebody waits for ${lock} behind one whose process is dead`)
    }
  }

  /** Was the lease rightly said to be lost, and in time? */
  private lookAtLoss(section: Section): void {
    const loss = section.holding?.loss
    if (loss === undefined || section.lossSeen) return
    section.lossSeen = true
    const { losses } = this.judge.counts
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
      this.lookAtReason(section, loss.reason)
    }
    switch (loss.reason) {
      case "Expired":
      case "Replaced":
        if (!this.ledger.hasEnded(id) && !this.ledger.hasForgotten(id) && this.server.knows(section.lock, id)) {
          this.broken("S7", `${section.title} was told ${loss.reason}, and the server holds its claim`)
        }
        return
      case "Stalled":
      case "Unreachable": {
        if (process.wallJumped) return
        if (over < -1) this.broken("S7", `${section.title} was lost ${-over / 1_000} ms before its deadline`)
        const told = this.ledger.heardUntil(id) - process.monotonic()
        if (told > 0) {
          this.broken("S7", `${section.title} was lost, and it had been told that it lives ${told / 1_000} ms more`)
        }
        return
      }
    }
  }

  /** Was anything wrong in the time for which its lease was last confirmed? It may have lived a little longer. */
  private lookAtReason({ holding, title }: Section, reason: string): void {
    const confirmedFor = millis(Duration.toMillis(holding!.ttl) + 3_000)
    if (this.isExcused(this.timeline.now - confirmedFor)) return
    this.broken("S7", `${title} has lost its lock (${reason}), although nothing was wrong`)
  }

  /** Has anything been wrong since then that a call may have failed for? What was answered then is heard a little later. */
  private isExcused(since: number): boolean {
    return !this.plan.isWhole || this.server.excuses?.(since - millis(10)) === true
  }

  private progressed(key: string): void {
    this.progressAt.set(key, this.timeline.now)
  }

  /** With the faults over: is somebody waiting while nothing goes on? `most` is in milliseconds. */
  lookForProgress(since: number, most: number): void {
    for (const section of this.asking) {
      if (section.process.dead) continue
      const from = Math.max(since, section.askedAt, this.progressAt.get(section.lock) ?? 0)
      if (this.timeline.now - from > millis(most)) {
        this.broken("S5", `${section.title} waits, and nobody has got anywhere for ${most} ms`)
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
  { backend, has, incidents, isWhole, mostDelay, mostTtl, often, oftenPushes, replicas }: Plan
): number => {
  if (backend === "etcd") {
    // Where nothing is wrong all is told at once, or a tenth of a second later of what was to be told before.
    if (has.has("bursts") && isWhole && !has.has("proxies")) return 300
    const isMeddled = incidents.some(({ kind }) => kind === "claim deleted")
    // Two seconds until it looks by itself, and more where many stand before it.
    return 2_800 + 500 + (often === 0 ? 0 : 2_000 + 2 * mostDelay / 1_000) + (isMeddled ? mostDelay / 1_000 : 0)
  }
  return (oftenPushes > 0 ? 2_000 + 100 : 100 + 100 + (often === 0 ? 0 : 2 * mostDelay / 1_000)) +
    (replicas === 0 ? 0 : Math.min(mostTtl / 10, 1_000))
}

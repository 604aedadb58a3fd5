import type { Log } from "./log.ts"
import { permitsOf } from "./permits.ts"
import type { Plan } from "./plan.ts"
import type { Process } from "./process.ts"
import type { Outcome, Section } from "./section.ts"
import { millis, type Timeline } from "./timeline.ts"

/**
 * What must hold.
 *
 * - S1: nobody else is in while a holder believes in its lock, and no stale step is taken.
 * - S2: tokens grow from grant to grant.
 * - S3: a holder is out before its time at the server is over, by its own clock.
 * - S4: nothing is left at the server.
 * - S5: whoever waits gets on, once nothing goes wrong any more.
 * - S6: everything ends.
 * - S7: no good lock is thrown away.
 * - S8: nothing dies, and no fiber and no timer is left.
 * - S9: without faults, first come is first served, and at once.
 */
export type Rule = "S1" | "S2" | "S3" | "S4" | "S5" | "S6" | "S7" | "S8" | "S9"

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

/** How late a timer of a process that runs may be, in microseconds, with what an early one costs in a second try. */
const tick = 4_000

/** What the witness asks of the backend. */
export interface Server {
  /** Does the server hold or queue this claim? */
  readonly knows: (key: string, id: string) => boolean
}

/**
 * Sees the resource, the server and the holders' leases on the one clock of the world, and says what promise was broken.
 *
 * The resource is a number that each step carries: it takes a step whose number is not below the largest it has seen.
 */
export class Witness {
  violation: Violation | undefined
  server: Server = { knows: () => false }
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
  /** Sections that are inside. */
  readonly inside = new Set<Section>()
  /** Sections that ask. */
  readonly asking = new Set<Section>()

  private readonly timeline: Timeline
  private readonly log: Log
  private readonly plan: Plan
  private readonly heeded: ReadonlySet<Rule> | undefined
  /** The largest number that the resource of a key has seen. */
  private readonly fences = new Map<string, bigint>()
  /** The largest token that was granted on a key, as far as tokens must grow. */
  private readonly granted = new Map<string, bigint>()
  private readonly entered = new Map<string, bigint>()
  /** Claims that the server forgot although it had acknowledged them: nobody promises anything about those. */
  private readonly forgotten = new Set<string>()
  /** Keys whose tokens may repeat. */
  private readonly unordered = new Set<string>()
  /** Claims that ended at the server, for whatever reason. */
  private readonly ended = new Set<string>()
  /** Until when a claim may be believed at most, by the clock of its process. */
  private readonly vouched = new Map<string, number>()
  /** Until when a claim must be believed at least: its process has heard so. */
  private readonly heard = new Map<string, number>()
  /** Claims by arrival at the server that are neither granted nor gone. */
  private readonly arrivals = new Map<string, Array<string>>()
  private readonly progressAt = new Map<string, number>()
  /** When the holder of a key left, with somebody waiting. */
  private readonly freeSince = new Map<string, number>()

  /** `heeded`: only these rules count. */
  constructor(timeline: Timeline, log: Log, plan: Plan, heeded: ReadonlySet<Rule> | undefined) {
    this.heeded = heeded
    this.timeline = timeline
    this.log = log
    this.plan = plan
  }

  broken(rule: Rule, what: string): void {
    if (this.heeded !== undefined && !this.heeded.has(rule)) return
    this.violation ??= { rule, what, at: this.timeline.now }
  }

  // The server.

  /** A claim has a place that it did not have; `waits` where it is not the first. */
  arrived(key: string, id: string, waits: boolean): void {
    if (waits) this.counts.waits++
    const list = this.arrivals.get(key)
    if (list === undefined) this.arrivals.set(key, [id])
    else list.push(id)
  }

  /** The server has granted a claim, with a token that must be above all before. */
  serverGranted(key: string, id: string, token: bigint): void {
    const last = this.granted.get(key)
    if (last !== undefined && token <= last && !this.unordered.has(key)) {
      this.broken("S2", `token ${token} of ${id} after ${last}`)
    }
    this.granted.set(key, token)
    this.othersAreOut(key, id, "was granted the lock")
    this.inTurn(key, id)
  }

  /** Another library's client has the lock. */
  foreignGranted(key: string): void {
    this.othersAreOut(key, undefined, "(another library's client) has the lock")
  }

  /** A claim that has ended at the server, by its holder's wish or because its time is over. */
  gone(key: string, id: string, byItself: boolean): void {
    this.ended.add(id)
    const list = this.arrivals.get(key)
    const index = list?.indexOf(id) ?? -1
    if (index >= 0) list!.splice(index, 1)
    // Whoever was to have it may have given up.
    if (this.freeSince.has(key)) {
      if (list === undefined || list.length === 0) this.freeSince.delete(key)
      else this.freeSince.set(key, this.timeline.now)
    }
    if (byItself) {
      for (const section of this.inside) {
        if (section.id === id && section.believes && !this.forgotten.has(id)) {
          this.broken("S3", `the server let go of the claim of ${section.title}, which believes in it`)
        }
      }
    }
  }

  /** The holder has been released with others in the queue: from now on somebody should get it. */
  handedOn(key: string): void {
    if (this.plan.quiet && this.plan.capacity === 1) this.freeSince.set(key, this.timeline.now)
  }

  /** The server no longer keeps what it acknowledged. */
  forgot(id: string): void {
    this.forgotten.add(id)
  }

  /** Tokens may begin anew: from then on nothing is promised of their order on this key. */
  forgotTokens(key: string): void {
    this.unordered.add(key)
  }

  /** A request that was sent at a moment of its process's clock has the claim live until then, at most. */
  vouch(id: string, until: number): void {
    if (until > (this.vouched.get(id) ?? -Infinity)) this.vouched.set(id, until)
  }

  /** The process has been told so; whoever hears it at the deadline hears it too late. */
  hears(id: string, until: number): void {
    for (const section of this.inside) if (section.id === id && !section.believes) return
    if (until > (this.heard.get(id) ?? -Infinity)) this.heard.set(id, until)
  }

  // The sections.

  asks(section: Section): void {
    section.state = "asking"
    section.askedAt = this.timeline.now
    section.hurries(this.timeline.now)
    this.asking.add(section)
    this.note(1, section, () => `${section.title} asks for ${section.lock} (${section.plan.form})`)
  }

  enters(section: Section): void {
    const key = section.lock
    const { now } = this.timeline
    const token = section.holding!.fencingToken
    const id = section.id!
    section.state = "inside"
    section.enteredAt = section.lastStepAt = now
    this.asking.delete(section)
    this.inside.add(section)
    this.counts.grants++
    this.note(2, section, () => `${section.title} enters ${key} with token ${token}, claim ${id}`)
    if (!this.forgotten.has(id)) {
      const last = this.entered.get(key)
      // Several who are granted at once may come in in any order.
      const repeats = last !== undefined && (this.plan.capacity === 1 ? token <= last : token === last)
      if (repeats && !this.unordered.has(key)) {
        this.broken("S2", `${section.title} enters with token ${token} after ${last}`)
      }
      this.entered.set(key, token)
    }
    if (this.plan.backend === "etcd") {
      if (!this.forgotten.has(id)) this.othersAreOut(key, id, "enters")
      if (this.plan.capacity === 1) this.inTurn(key, id)
    }
    const free = this.freeSince.get(key)
    if (free !== undefined && now - free > promptness[this.plan.backend]) {
      this.broken("S9", `${section.title} enters ${(now - free) / 1_000} ms after the lock was released to it`)
    }
    this.freeSince.delete(key)
    this.progressed(key)
  }

  steps(section: Section): void {
    const { holding, lock: key, plan: { careful }, process } = section
    const { now } = this.timeline
    const token = holding!.fencingToken
    this.counts.steps++
    const over = process.monotonic() - section.deadline
    const late = holding!.state !== "held" || (careful ? over >= 0 : over > tick)
    if (late) {
      this.counts.lateSteps++
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
      this.counts.refused++
      if (!late && !this.forgotten.has(section.id!) && !this.unordered.has(key)) {
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
    this.note(4, section, () => `${section.title} leaves ${section.lock}`)
    this.lookAtLoss(section)
    this.progressed(section.lock)
  }

  ends(section: Section, outcome: Outcome): void {
    const { endsWithin, process } = section
    const took = this.timeline.now - section.endingSince - (process.pausedFor - section.pausedBefore)
    if (took > millis(endsWithin)) {
      this.broken(
        "S6",
        `${section.title} (${section.state}) took ${took / 1_000} ms to end, and may take ${endsWithin}`
      )
    }
    this.asking.delete(section)
    this.inside.delete(section)
    section.state = "over"
    section.outcome = outcome
    this.counts.outcomes[outcome] = (this.counts.outcomes[outcome] ?? 0) + 1
    this.note(5, section, () => `${section.title} ends: ${outcome}`)
    this.lookAtLoss(section)
  }

  crashes(process: Process): void {
    for (const set of [this.inside, this.asking]) {
      for (const section of set) {
        if (section.process === process) set.delete(section)
      }
    }
  }

  // What holds at every moment.

  look(): void {
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
        const most = (this.vouched.get(section.id!) ?? -Infinity) - guard
        if (section.deadline > most + 1 && !this.forgotten.has(section.id!)) {
          const by = (section.deadline - most) / 1_000
          this.broken("S3", `${section.title} believes for ${by} ms longer than a request vouches for`)
        }
      } else if (!section.lossSeen) this.lookAtLoss(section)
    }
  }

  /** Was the lease rightly said to be lost, and in time? */
  private lookAtLoss(section: Section): void {
    const loss = section.holding?.loss
    if (loss === undefined || section.lossSeen) return
    section.lossSeen = true
    const { losses } = this.counts
    losses[loss.reason] = (losses[loss.reason] ?? 0) + 1
    const { process } = section
    const id = section.id!
    this.note(6, section, () => `${section.title} has lost ${section.lock}: ${loss.reason}`)
    const over = process.monotonic() - section.deadline
    switch (loss.reason) {
      case "Expired":
      case "Replaced":
        if (!this.ended.has(id) && !this.forgotten.has(id) && this.server.knows(section.lock, id)) {
          this.broken("S7", `${section.title} was told ${loss.reason}, and the server holds its claim`)
        }
        return
      case "Stalled":
      case "Unreachable": {
        if (process.wallJumped) return
        if (over < -1) this.broken("S7", `${section.title} was lost ${-over / 1_000} ms before its deadline`)
        const told = (this.heard.get(id) ?? -Infinity) - process.monotonic()
        if (told > 0) {
          this.broken("S7", `${section.title} was lost, and it had been told that it lives ${told / 1_000} ms more`)
        }
        return
      }
    }
  }

  /** All who may believe in a lock must have room in it beside this claim, which has it now. */
  private othersAreOut(key: string, id: string | undefined, what: string): void {
    const { capacity } = this.plan
    let permits = id === undefined ? capacity : permitsOf(id, capacity)
    for (const section of this.inside) {
      if (section.lock !== key || section.id === id || !section.believes) continue
      if (this.forgotten.has(section.id!)) continue
      permits += permitsOf(section.id!, capacity)
      if (permits <= capacity) continue
      const left = (section.deadline - section.process.monotonic()) / 1_000
      this.broken("S1", `${id ?? ""} ${what} while ${section.title} believes in its own for ${left} ms more`)
    }
  }

  /** Without faults, nobody who came before may still be waiting. */
  private inTurn(key: string, id: string): void {
    const list = this.arrivals.get(key)
    const index = list?.indexOf(id) ?? -1
    if (index < 0) return
    if (index > 0 && this.plan.quiet) this.broken("S9", `${id} was granted before ${list![0]}, which came first`)
    list!.splice(index, 1)
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

/** Within how many microseconds a lock that was released is in the next one's hands, where nothing goes wrong. */
const promptness = { redis: 30_000, etcd: 250_000 }

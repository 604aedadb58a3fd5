import type { Checker } from "./checker.ts"
import { permitsOf } from "./permits.ts"
import type { Plan } from "./plan.ts"
import type { Section } from "./section.ts"
import { millis, type Timeline } from "./timeline.ts"

/** What the server did with claims as it executed requests, whether or not a client received the replies. */
export class ServerLog {
  /** Sections that are inside their locks. */
  readonly inside = new Set<Section>()
  private readonly timeline: Timeline
  private readonly plan: Plan
  private readonly checker: Checker
  /** The largest token that was granted on a key. */
  private readonly granted = new Map<string, bigint>()
  /** Claims that the server acknowledged and then forgot. Nothing is promised about those. */
  private readonly forgotten = new Set<string>()
  /** By claim, what tokens had been raised above when it came. */
  private readonly floors = new Map<string, bigint>()
  /** Keys whose tokens may repeat. */
  private readonly unordered = new Set<string>()
  /** Claims that ended at the server, for any reason. */
  private readonly ended = new Set<string>()
  /** Claims whose withdrawal was acknowledged to their process. */
  private readonly withdrawn = new Set<string>()
  /** Claims that an operator deleted, or whose lease an operator ended. */
  private readonly deleted = new Set<string>()
  private tombstonesLost = false
  /** By claim, how many of its requests have no answer in time. */
  private readonly unanswered = new Map<string, number>()
  private readonly ttls = new Map<string, number>()
  /** Until when a claim may be considered held at most, by the clock of its process. */
  private readonly confirmed = new Map<string, number>()
  /** Until when a claim must be considered held at least: its process has received that. */
  private readonly heard = new Map<string, number>()
  /** By key, the claims that are neither granted nor gone, in the order of their arrival. */
  private readonly arrivals = new Map<string, Array<string>>()
  /** By when the processes of deleted claims know of the deletion. */
  private readonly heardOfAt = new Map<string, number>()
  /** Claims whose sections have begun. */
  readonly entered = new Set<string>()
  /** By key, when its holder released it while somebody waited. */
  private readonly freeSince = new Map<string, number>()

  constructor(timeline: Timeline, plan: Plan, checker: Checker) {
    this.timeline = timeline
    this.plan = plan
    this.checker = checker
  }

  /** A claim has got a place. `waits`: it is not the first. Its token must be above `floor`. */
  recordArrival(key: string, id: string, waits: boolean, floor = 0n): void {
    this.floors.set(id, floor)
    if (this.withdrawn.has(id) && !this.tombstonesLost) {
      this.checker.report("S4", `${id} has come to ${key} after its end was acknowledged`)
    }
    if (waits) this.checker.counts.waits++
    const list = this.arrivals.get(key)
    if (list === undefined) this.arrivals.set(key, [id])
    else list.push(id)
  }

  /** The server has granted a claim. Its token must be above all earlier ones. */
  recordGrant(key: string, id: string, token: bigint): void {
    const last = this.granted.get(key)
    if (last !== undefined && token <= last && !this.unordered.has(key)) {
      this.checker.report("S2", `token ${token} of ${id} after ${last}`)
    }
    this.granted.set(key, token)
    this.checkExclusion(key, id, "was granted the lock")
    this.checkFairness(key, id)
  }

  /** A client of another library has the lock. */
  recordForeignGrant(key: string): void {
    this.checkExclusion(key, undefined, "(another library's client) has the lock")
  }

  /** A claim has ended at the server. `byItself`: its time was over, and nobody withdrew it. */
  recordEnd(key: string, id: string, byItself: boolean): void {
    this.ended.add(id)
    const list = this.arrivals.get(key)
    const index = list?.indexOf(id) ?? -1
    if (index >= 0) list!.splice(index, 1)
    // The claim that was next may have given up.
    if (this.freeSince.has(key)) {
      if (list === undefined || list.length === 0) this.freeSince.delete(key)
      else this.freeSince.set(key, this.timeline.now)
    }
    if (byItself) {
      for (const section of this.inside) {
        if (section.id === id && section.considersHeld && !this.forgotten.has(id)) {
          this.checker.report("S3", `the server let go of the claim of ${section.title}, which considers it held`)
        }
      }
    }
  }

  /** The process has been told that its claim is withdrawn: a request of it that arrives later must take nothing. */
  recordWithdrawal(id: string): void {
    this.withdrawn.add(id)
  }

  /** A request of this claim has been sent. Until its answer the claim is in doubt. */
  recordSent(id: string, ttl?: number): void {
    if (ttl !== undefined) this.ttls.set(id, ttl)
    this.unanswered.set(id, (this.unanswered.get(id) ?? 0) + 1)
  }

  /**
   * A request has been answered after so many milliseconds. If its caller may have given up by then, the answer counts
   * as lost. A call has at least a quarter of the ttl; with replicas, which may take a tenth of it, a third less that
   * tenth; and a call that has waited for a connection has 50 ms for its answer.
   */
  recordAnswer(id: string, took: number): void {
    const share = this.plan.replicas === 0 ? 1 / 4 : 1 / 3 - 1 / 10
    if (took > Math.min((this.ttls.get(id) ?? Infinity) * share, 50)) return
    this.unanswered.set(id, this.unanswered.get(id)! - 1)
  }

  /** Whether a request of this claim may still be on its way, as far as its process knows. */
  isInDoubt(id: string): boolean {
    return (this.unanswered.get(id) ?? 0) > 0
  }

  /** Its process leaves a tombstone for it, in case a request of it still arrives. */
  recordTombstone(id: string): void {
    if (!this.isInDoubt(id)) this.checker.report("S4", `a tombstone is left for ${id}, of which nothing is in doubt`)
  }

  /** The server may have lost its tombstones. */
  recordTombstonesLost(): void {
    this.tombstonesLost = true
  }

  /** The holder has released the lock, and others wait: one of them should get it now. */
  recordRelease(key: string, next?: string): void {
    // A process may grant the lock to its own next claim before the server knows of it.
    if (next !== undefined && this.entered.has(next)) return
    if (this.plan.isFaultFree && this.plan.capacity === 1) this.freeSince.set(key, this.timeline.now)
  }

  /** Whether it must still wait for a claim before it, as far as is known. */
  mustWait(id: string): boolean {
    return this.plan.capacity === 1 && !this.entered.has(id)
  }

  recordDeletion(id: string): void {
    this.deleted.add(id)
  }

  wasDeletedByHand(id: string): boolean {
    return this.deleted.has(id)
  }

  /**
   * An operator has deleted it while only claims of its own process came before it. It may have been granted by hand-
   * over already, and learns of its deletion in a moment, if events arrive at all.
   */
  recordDeletionBehindOwn(id: string): void {
    if (this.plan.dimensions.has("successors")) this.expectToHearOfDeletion(id)
  }

  /** It learns of its deletion in a moment, if events arrive at all. */
  expectToHearOfDeletion(id: string): void {
    const { incidents } = this.plan
    if (incidents.some(({ kind }) => kind !== "claim deleted")) return this.recordForgotten(id)
    this.heardOfAt.set(id, this.timeline.now + millis(30))
  }

  /** Whether it was deleted and has not had time to learn of that. */
  isAboutToHear(id: string): boolean {
    return this.timeline.now < (this.heardOfAt.get(id) ?? 0)
  }

  /** The server has forgotten a claim that it had acknowledged. */
  recordForgotten(id: string): void {
    this.forgotten.add(id)
  }

  /** Tokens of this key may start again: from now on nothing is promised of their order. */
  recordTokensForgotten(key: string): void {
    this.unordered.add(key)
  }

  /** A request keeps the claim alive until then, at most, by the clock of its process. */
  confirmUntil(id: string, until: number): void {
    if (until > (this.confirmed.get(id) ?? -Infinity)) this.confirmed.set(id, until)
  }

  /** The process has received a confirmation until then. One that arrives after the deadline is too late. */
  recordConfirmation(id: string, until: number): void {
    for (const section of this.inside) if (section.id === id && !section.considersHeld) return
    if (until > (this.heard.get(id) ?? -Infinity)) this.heard.set(id, until)
  }

  /**
   * Checks that all sections that consider the lock held, and those that are still ending, have room beside this claim.
   */
  checkExclusion(key: string, id: string | undefined, what: string): void {
    const { capacity, dimensions } = this.plan
    const others = Array.from(this.inside).filter((section) =>
      section.lock === key && section.id !== id && !this.forgotten.has(section.id!) &&
      this.timeline.now >= (this.heardOfAt.get(section.id!) ?? 0)
    )
    let permits = id === undefined ? capacity : permitsOf(id, capacity)
    for (const section of others) {
      if (!section.considersHeld) continue
      permits += permitsOf(section.id!, capacity)
      if (permits <= capacity) continue
      const left = (section.deadline - section.process.monotonic()) / 1_000
      this.checker.report("S1", `${id ?? ""} ${what} while ${section.title} considers its own held for ${left} ms more`)
    }
    if (!dimensions.has("closing")) return
    for (const section of others) {
      if (section.considersHeld || !section.isWindingDown) continue
      permits += permitsOf(section.id!, capacity)
      if (permits > capacity) this.checker.report("S12", `${id ?? ""} ${what} while ${section.title} has time to end`)
    }
  }

  /** Without faults no claim that came earlier may still wait. */
  checkFairness(key: string, id: string): void {
    const list = this.arrivals.get(key)
    const index = list?.indexOf(id) ?? -1
    if (index < 0) return
    if (index > 0 && this.plan.isFaultFree) {
      this.checker.report("S9", `${id} was granted before ${list![0]}, which came first`)
    }
    list!.splice(index, 1)
  }

  /** For how many microseconds the lock was free before it is taken now; undefined if it was not free. */
  takeFreeTime(key: string): number | undefined {
    const since = this.freeSince.get(key)
    this.freeSince.delete(key)
    return since === undefined ? undefined : this.timeline.now - since
  }

  /** The number that the token of a claim must be above. */
  floorOf(id: string): bigint {
    return this.floors.get(id) ?? 0n
  }

  hasForgotten(id: string): boolean {
    return this.forgotten.has(id)
  }

  hasEnded(id: string): boolean {
    return this.ended.has(id)
  }

  mayRepeatTokens(key: string): boolean {
    return this.unordered.has(key)
  }

  confirmedUntil(id: string): number {
    return this.confirmed.get(id) ?? -Infinity
  }

  heardUntil(id: string): number {
    return this.heard.get(id) ?? -Infinity
  }
}

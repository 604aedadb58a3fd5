import type { Checker } from "./checker.ts"
import { permitsOf } from "./permits.ts"
import type { Plan } from "./plan.ts"
import type { Section } from "./section.ts"
import { millis, type Timeline } from "./timeline.ts"

/** What the server has said of claims, as it executed requests, whatever of that was ever heard. */
export class ServerLog {
  /** Sections that are inside. */
  readonly inside = new Set<Section>()
  private readonly timeline: Timeline
  private readonly plan: Plan
  private readonly checker: Checker
  /** The largest token that was granted on a key, as far as tokens must grow. */
  private readonly granted = new Map<string, bigint>()
  /** Claims that the server forgot although it had acknowledged them: nobody promises anything about those. */
  private readonly forgotten = new Set<string>()
  /** What tokens had been raised above when a claim came. */
  private readonly floors = new Map<string, bigint>()
  /** Keys whose tokens may repeat. */
  private readonly unordered = new Set<string>()
  /** Claims that ended at the server, for whatever reason. */
  private readonly ended = new Set<string>()
  /** Claims that were withdrawn, as their process was told. */
  private readonly withdrawn = new Set<string>()
  /** Claims that somebody deleted, or whose lease he ended. */
  private readonly deleted = new Set<string>()
  private tombstonesLost = false
  /** How many requests of a claim have had no answer in time. */
  private readonly unanswered = new Map<string, number>()
  private readonly ttls = new Map<string, number>()
  /** Until when a claim may be believed at most, by the clock of its process. */
  private readonly confirmed = new Map<string, number>()
  /** Until when a claim must be believed at least: its process has heard so. */
  private readonly heard = new Map<string, number>()
  /** Claims by arrival at the server that are neither granted nor gone. */
  private readonly arrivals = new Map<string, Array<string>>()
  /** By when claims that were deleted have heard of that. */
  private readonly heardOfAt = new Map<string, number>()
  /** Claims whose sections have begun. */
  readonly entered = new Set<string>()
  /** When the holder of a key left, with somebody waiting. */
  private readonly freeSince = new Map<string, number>()

  constructor(timeline: Timeline, plan: Plan, checker: Checker) {
    this.timeline = timeline
    this.plan = plan
    this.checker = checker
  }

  /** A claim has a place that it did not have; `waits` where it is not the first. Its token must be above the floor. */
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

  /** The server has granted a claim, with a token that must be above all before. */
  recordGrant(key: string, id: string, token: bigint): void {
    const last = this.granted.get(key)
    if (last !== undefined && token <= last && !this.unordered.has(key)) {
      this.checker.report("S2", `token ${token} of ${id} after ${last}`)
    }
    this.granted.set(key, token)
    this.checkExclusion(key, id, "was granted the lock")
    this.checkFairness(key, id)
  }

  /** Another library's client has the lock. */
  recordForeignGrant(key: string): void {
    this.checkExclusion(key, undefined, "(another library's client) has the lock")
  }

  /** A claim that has ended at the server, by its holder's wish or because its time is over. */
  recordEnd(key: string, id: string, byItself: boolean): void {
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
        if (section.id === id && section.considersHeld && !this.forgotten.has(id)) {
          this.checker.report("S3", `the server let go of the claim of ${section.title}, which considers it held`)
        }
      }
    }
  }

  /** The process has been told that its claim is over: whatever of it is still on its way must find that. */
  recordWithdrawal(id: string): void {
    this.withdrawn.add(id)
  }

  /** Something of this claim has been sent, or may come from nowhere: until it is answered it is in doubt. */
  recordSent(id: string, ttl?: number): void {
    if (ttl !== undefined) this.ttls.set(id, ttl)
    this.unanswered.set(id, (this.unanswered.get(id) ?? 0) + 1)
  }

  /**
   * After so many milliseconds; where the caller may have given up by then, the answer is lost. A call has a quarter of the
   * time to live at least; where replicas are waited for, which may take a tenth of it, a third less that; and one that has
   * waited for a connection has 50 ms for its answer.
   */
  recordAnswer(id: string, took: number): void {
    const share = this.plan.replicas === 0 ? 1 / 4 : 1 / 3 - 1 / 10
    if (took > Math.min((this.ttls.get(id) ?? Infinity) * share, 50)) return
    this.unanswered.set(id, this.unanswered.get(id)! - 1)
  }

  /** May something of this claim still be on its way, as far as its process knows? */
  isInDoubt(id: string): boolean {
    return (this.unanswered.get(id) ?? 0) > 0
  }

  /** Its process has its cancellation marked, in case something of it arrives yet. */
  recordTombstone(id: string): void {
    if (!this.isInDoubt(id)) this.checker.report("S4", `a tombstone is left for ${id}, of which nothing is in doubt`)
  }

  /** The server may no longer know of claims that are cancelled. */
  recordTombstonesLost(): void {
    this.tombstonesLost = true
  }

  /** The holder has been released with others in the queue: from now on somebody should get it. */
  recordRelease(key: string, next?: string): void {
    // A process may let its own next one in before the server has heard of it.
    if (next !== undefined && this.entered.has(next)) return
    if (this.plan.isFaultFree && this.plan.capacity === 1) this.freeSince.set(key, this.timeline.now)
  }

  /** It waits for one before it, as far as anybody can know. */
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
   * Somebody has deleted it, behind none but claims of its own process: it may have been let in already, and hear of that in a
   * moment, where it hears at all.
   */
  recordDeletionBehindOwn(id: string): void {
    if (this.plan.dimensions.has("successors")) this.expectToHearOfDeletion(id)
  }

  /** It hears of its deletion in a moment, where it hears at all. */
  expectToHearOfDeletion(id: string): void {
    const { incidents } = this.plan
    if (incidents.some(({ kind }) => kind !== "claim deleted")) return this.recordForgotten(id)
    this.heardOfAt.set(id, this.timeline.now + millis(30))
  }

  /** It was deleted, and has not had the time to hear of that. */
  isAboutToHear(id: string): boolean {
    return this.timeline.now < (this.heardOfAt.get(id) ?? 0)
  }

  /** The server no longer keeps what it acknowledged. */
  recordForgotten(id: string): void {
    this.forgotten.add(id)
  }

  /** Tokens may begin anew: from then on nothing is promised of their order on this key. */
  recordTokensForgotten(key: string): void {
    this.unordered.add(key)
  }

  /** A request that was sent at a moment of its process's clock has the claim live until then, at most. */
  confirmUntil(id: string, until: number): void {
    if (until > (this.confirmed.get(id) ?? -Infinity)) this.confirmed.set(id, until)
  }

  /** The process has been told so; whoever hears it at the deadline hears it too late. */
  recordConfirmation(id: string, until: number): void {
    for (const section of this.inside) if (section.id === id && !section.considersHeld) return
    if (until > (this.heard.get(id) ?? -Infinity)) this.heard.set(id, until)
  }

  /** All who may believe in a lock must have room in it beside this claim, which has it now; and those who have to end. */
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

  /** Without faults, nobody who came before may still be waiting. */
  checkFairness(key: string, id: string): void {
    const list = this.arrivals.get(key)
    const index = list?.indexOf(id) ?? -1
    if (index < 0) return
    if (index > 0 && this.plan.isFaultFree) {
      this.checker.report("S9", `${id} was granted before ${list![0]}, which came first`)
    }
    list!.splice(index, 1)
  }

  /** For how many microseconds the lock that somebody takes now was free for the taking; undefined where it was not. */
  takeFreeTime(key: string): number | undefined {
    const since = this.freeSince.get(key)
    this.freeSince.delete(key)
    return since === undefined ? undefined : this.timeline.now - since
  }

  /** What the token of a claim must be above. */
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

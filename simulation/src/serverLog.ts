import type { Claim } from "effect-dlock/LockStore"
import type { Checker } from "./checker.ts"
import { mixesEventsUp } from "./dimensions.ts"
import { Jobs } from "./jobs.ts"
import { type LockShape, mutex } from "./lockShape.ts"
import type { Plan } from "./plan.ts"
import { Revocations } from "./revocations.ts"
import type { Section } from "./section.ts"
import { millis, type Timeline } from "./timeline.ts"

/** What the server did with claims as it executed requests, whether or not a client received the replies. */
export class ServerLog {
  /** Sections that are inside their locks. */
  readonly inside = new Set<Section>()
  /** Sections that have ended and release their locks. */
  readonly releasing = new Set<Section>()
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
  private readonly shapes = new Map<string, LockShape>()
  /** By claim, when the server granted it. */
  private readonly grantedAt = new Map<string, number>()
  /** Until when a claim may be considered held at most, by the clock of its process. */
  private readonly confirmed = new Map<string, number>()
  /** Until when a claim must be considered held at least: its process has received that. */
  private readonly heard = new Map<string, number>()
  /** By key, the claims that are neither granted nor gone, in the order of their arrival. */
  private readonly arrivals = new Map<string, Array<string>>()
  private readonly arrivedAt = new Map<string, number>()
  /** By key, when a claim that waited was there last, if none waits now. */
  private readonly waitedAt = new Map<string, number>()
  /** By when the processes of deleted claims know of the deletion. */
  private readonly heardOfAt = new Map<string, number>()
  /** Claims whose sections have begun. */
  readonly entered = new Set<string>()
  /** By key, when its holder released it while somebody waited. */
  private readonly freeSince = new Map<string, number>()

  readonly jobs: Jobs
  readonly revoked: Revocations

  constructor(timeline: Timeline, plan: Plan, checker: Checker) {
    this.timeline = timeline
    this.plan = plan
    this.checker = checker
    this.jobs = new Jobs(checker, timeline)
    this.revoked = new Revocations(checker, timeline, plan)
  }

  /** A claim has got a place. `waits`: it is not the first. Its token must be above `floor`. */
  recordArrival(key: string, id: string, waits: boolean, floor = 0n): void {
    this.floors.set(id, floor)
    this.revoked.forget(id)
    this.arrivedAt.set(id, this.timeline.now)
    if (this.withdrawn.has(id) && !this.tombstonesLost) {
      this.checker.report("S4", `${id} has come to ${key} after its end was acknowledged`)
    }
    if (waits) this.checker.counts.waits++
    const list = this.arrivals.get(key)
    if (list === undefined) this.arrivals.set(key, [id])
    else list.push(id)
  }

  /** A process is about to request a claim. */
  recordShape({ capacity, id, kind, permits }: Claim): void {
    this.shapes.set(id, { kind, permits, capacity })
  }

  /**
   * The server has granted a claim. Its token must be above all earlier ones. `waits` tells whether a claim waits whose
   * process is alive and connected, as far as the server knows.
   */
  recordGrant(key: string, id: string, token: bigint, waits?: (id: string) => boolean): void {
    const last = this.granted.get(key)
    if (last !== undefined && token <= last && !this.unordered.has(key)) {
      this.checker.report("S2", `token ${token} of ${id} after ${last}`)
    }
    this.granted.set(key, token)
    this.grantedAt.set(id, this.timeline.now)
    this.checkExclusion(key, id, this.shapes.get(id) ?? mutex, "was granted the lock")
    this.checkFairness(key, id, waits)
  }

  /** A client of another library has the lock. */
  recordForeignGrant(key: string): void {
    this.checkExclusion(key, undefined, mutex, "(another library's client) has the lock")
  }

  /** A claim has ended at the server. `byItself`: its time was over, and nobody withdrew it. */
  recordEnd(key: string, id: string, byItself: boolean): void {
    this.ended.add(id)
    const list = this.arrivals.get(key)
    const index = list?.indexOf(id) ?? -1
    if (index >= 0) this.recordWaiterGone(key, list!, index)
    // The claim that was next may have given up.
    if (this.freeSince.has(key)) {
      if (list === undefined || list.length === 0) this.freeSince.delete(key)
      else this.freeSince.set(key, this.timeline.now)
    }
    if (byItself) {
      for (const section of this.inside) {
        if (section.id === id && section.considersHeld && !this.forgotten.has(id) && !this.isAboutToHear(id)) {
          this.checker.report("S3", `the server let go of the claim of ${section.title}, which considers it held`)
        }
      }
    }
  }

  /** Its process withdraws it. From now on others may be let in before it: it may hand over a lock that it never entered. */
  recordLeaving(key: string, id: string): void {
    const list = this.arrivals.get(key)
    const index = list?.indexOf(id) ?? -1
    if (index >= 0) this.recordWaiterGone(key, list!, index)
  }

  private recordWaiterGone(key: string, list: Array<string>, index: number): void {
    list.splice(index, 1)
    this.waitedAt.set(key, this.timeline.now)
  }

  /** Since when others wait behind a claim that has the mutex. */
  contendedSince(key: string, id: string): number | undefined {
    const others = this.arrivals.get(key)?.filter((other) => other !== id && !this.entered.has(other)) ?? []
    if (others.length === 0) return undefined
    return Math.max(this.since(id), Math.min(...others.map((other) => this.arrivedAt.get(other)!)))
  }

  /** Whether others waited behind it at any time. */
  wasContended(key: string, id: string): boolean {
    return this.contendedSince(key, id) !== undefined || (this.waitedAt.get(key) ?? -1) >= this.since(id)
  }

  private since(id: string): number {
    return this.grantedAt.get(id) ?? this.arrivedAt.get(id) ?? 0
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
    // Who waits for several locks has one of them before it enters.
    const { dimensions, isFaultFree, kind } = this.plan
    if (isFaultFree && kind === "mutex" && !dimensions.has("several")) this.freeSince.set(key, this.timeline.now)
  }

  /** Whether it must still wait for a claim before it, as far as is known. */
  mustWait(id: string): boolean {
    return this.plan.kind === "mutex" && !this.entered.has(id)
  }

  recordDeletion(id: string): void {
    this.deleted.add(id)
    if (this.hearsOfDeletions) this.expectToHearOfDeletion(id)
  }

  /** In this world every process hears soon that one of its claims was deleted, whether it waits or is held. */
  get hearsOfDeletions(): boolean {
    return this.plan.dimensions.has("shared-deletions")
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
    this.heardOfAt.set(id, this.timeline.now + (this.hearsOfDeletions ? this.hearingTime : millis(30)))
  }

  /**
   * The watch on held claims begins 30 ms after a grant, at times with a call that must be answered, and may need 100 ms to catch
   * up. If events are mixed up, the next renewal tells.
   */
  private get hearingTime(): number {
    const { dimensions, longestDelay, longestTtl } = this.plan
    return millis(200) + 2 * longestDelay + (mixesEventsUp(dimensions) ? millis(longestTtl / 2) : 0)
  }

  /** Whether it was deleted and has not had time to learn of that. */
  isAboutToHear(id: string): boolean {
    return this.timeline.now < (this.heardOfAt.get(id) ?? 0)
  }

  /** Whether it was deleted, and had time to learn of that. */
  shouldHaveHeard(id: string): boolean {
    return this.hearsOfDeletions && this.timeline.now > (this.heardOfAt.get(id) ?? Infinity)
  }

  /** The server has forgotten a claim that it had acknowledged. */
  recordForgotten(id: string): void {
    this.forgotten.add(id)
  }

  /**
   * The server has forgotten all claims, also those that it did not know any more: one that was handed over after another client
   * had deleted it is kept safe by the claim before it.
   */
  recordHeldForgotten(): void {
    for (const { id } of this.inside) this.forgotten.add(id!)
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
    for (const section of [...this.inside, ...this.releasing]) {
      if (section.id === id && !section.considersHeld) return
    }
    if (until > (this.heard.get(id) ?? -Infinity)) this.heard.set(id, until)
  }

  /**
   * Checks that all sections that consider the lock held, and those that are still ending, have room beside this claim:
   * together they may have as many permits as the smallest capacity that one of them knows.
   */
  checkExclusion(key: string, id: string | undefined, shape: LockShape, what: string): void {
    const { dimensions } = this.plan
    const others = Array.from(this.inside).filter((section) =>
      section.lock === key && section.id !== id && !this.forgotten.has(section.id!) &&
      this.timeline.now >= (this.heardOfAt.get(section.id!) ?? 0)
    )
    let { capacity, permits } = shape
    const hasRoomBeside = (other: LockShape): boolean => {
      permits += other.permits
      capacity = Math.min(capacity, other.capacity)
      return permits <= capacity
    }
    for (const section of others) {
      if (!section.considersHeld || hasRoomBeside(section.shape)) continue
      const left = (section.deadline - section.process.monotonic()) / 1_000
      this.checker.report("S1", `${id ?? ""} ${what} while ${section.title} considers its own held for ${left} ms more`)
    }
    // A locker that closes waits for its programs no longer than the guard gap.
    if (
      (dimensions.has("caps") || dimensions.has("revocations")) &&
      !this.plan.incidents.some(({ kind }) => kind === "locker closed")
    ) {
      for (const section of others) {
        if (section.considersHeld || !section.isOutstaying || hasRoomBeside(section.shape)) continue
        this.checker.report("S18", `${id ?? ""} ${what} while ${section.title} ends after its cap or its grace`)
      }
    }
    if (dimensions.has("leaders")) {
      for (const section of others) {
        if (section.process.dead || section.lease?.state !== "released" || section.state !== "inside") continue
        this.checker.report("S21", `${id ?? ""} ${what} while the program of ${section.title} goes on`)
      }
    }
    if (!dimensions.has("closing")) return
    for (const section of others) {
      if (section.considersHeld || !section.isWindingDown || hasRoomBeside(section.shape)) continue
      this.checker.report("S12", `${id ?? ""} ${what} while ${section.title} has time to end`)
    }
  }

  /** No claim that came earlier may still wait: without faults none, and otherwise none of which the server knows it. */
  checkFairness(key: string, id: string, waits?: (id: string) => boolean): void {
    const list = this.arrivals.get(key)
    const index = list?.indexOf(id) ?? -1
    if (index < 0) return
    const first = this.plan.isFaultFree ? list![0]! : list!.slice(0, index).find((other) => waits?.(other))
    if (index > 0 && first !== undefined) {
      this.checker.report("S9", `${id} was granted before ${first}, which came first`)
    }
    list!.splice(index, 1)
  }

  /** The server says how many permits are held, and knows who holds how many. */
  checkSum(key: string, used: number | undefined, held: number): void {
    if (used === undefined || used === held) return
    this.checker.report("S14", `the server counts ${used} permits of ${key}, and its holders have ${held}`)
  }

  /** For how many microseconds the lock was free before it is taken now; undefined if it was not free. */
  takeFreeTime(key: string): number | undefined {
    const since = this.freeSince.get(key)
    this.freeSince.delete(key)
    return since === undefined ? undefined : this.timeline.now - since
  }

  /** For how many microseconds a claim has been granted by the server, if that tells of its grants. */
  grantedFor(id: string): number {
    return this.timeline.now - (this.grantedAt.get(id) ?? this.timeline.now)
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

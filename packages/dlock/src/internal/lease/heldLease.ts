import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Inspectable from "effect/Inspectable"
import type * as Latch from "effect/Latch"
import * as Scope from "effect/Scope"
import { LockNotHeld, type LossReason, OwnershipLost } from "../../LockError.ts"
import { type Claim, type Granted, type Held, isExclusive, type Revocation } from "../../LockStore.ts"
import type { SharedLease } from "../../SharedLease.ts"
import * as Owner from "../options/owner.ts"
import type { Item } from "../scheduling/deadlineHeap.ts"
import { fromNanos, type Time } from "../scheduling/time.ts"
import { callBack } from "../telemetry/callBack.ts"
import type { Events, Measured } from "../telemetry/events.ts"
import type { Meter } from "../telemetry/meter.ts"
import type { HoldTrace } from "../telemetry/spans.ts"
import * as Timing from "../timing.ts"
import { contended } from "./contention.ts"
import { revocation, type Revoker } from "./revocations.ts"
import { whileHeld } from "./section.ts"

/** What a lease needs from its locker. */
export interface LeaseHost {
  readonly time: Time
  readonly events: Events
  /** Runs an effect in the context of the program that made the locker. The fiber may outlive that program. */
  readonly fork: <A, E>(effect: Effect.Effect<A, E>) => Fiber.Fiber<A, E>
  /** The identity of the store. Two lockers over one store share its keys. */
  readonly store: object
  /** Called when the lease was just lost. It stops the renewals, if they do not go on, and reports the loss. */
  readonly onLost: (lease: HeldLease, loss: OwnershipLost) => void
  /** Called when the claim of a lost lease is kept no longer. `reason` says why it was lost after all. */
  readonly onKeptNoLonger: (lease: HeldLease, reason: LossReason | undefined) => void
  /** Ends the renewals of a claim that is kept, and waits for its deadline. */
  readonly letRunOut: (lease: HeldLease) => void
  /** Releases the lease for its holder, at the present time `now`: marks it as released, stops its renewals, and withdraws its claim. */
  readonly releaseLease: (lease: HeldLease, now?: number) => Effect.Effect<void>
  /** Gives back all permits of the lease but `permits`. */
  readonly shrink: (lease: HeldLease, permits: number) => Effect.Effect<void, OwnershipLost | LockNotHeld>
  /** Waits until another claim waits behind the claim of the lease. */
  readonly contended: (lease: HeldLease) => Effect.Effect<void>
}

/** What may enclose a section: a lease, or a view of one. */
export interface Enclosing {
  /** How many sections enclose this one. */
  readonly depth: number
  /** The next one outwards. */
  parent: Enclosing | undefined
  /** The scope in which the caller asked. What that scope holds, the caller holds in a section too. */
  readonly callersScope: Scope.Scope | undefined
  readonly state: "held" | "lost" | "released"
  /** The lease that has the claim. */
  readonly held: HeldLease
}

const depthIn = (parent: Enclosing | undefined): number => parent === undefined ? 0 : parent.depth + 1

/**
 * What a lost lease leaves behind:
 *
 * - `leftover`: a claim that the backend may still have.
 * - `kept`: a claim that this process keeps and renews while the program ends.
 * - `runningOut`: a claim that this process keeps while the program ends, and does not renew.
 */
type Remains = "nothing" | "leftover" | "kept" | "runningOut"

const remainsAfter: { readonly [Reason in LossReason]: Remains } = {
  Expired: "nothing",
  Replaced: "nothing",
  Unreachable: "leftover",
  Stalled: "leftover",
  Revoked: "nothing",
  MaxHold: "kept"
}

/**
 * A lease from its grant to its end. It is the state behind the public `Lease` and `SharedLease`, and the only place that
 * decides whether the lock is still held.
 *
 * A lease ends once, as `lost` or as `released`, and it never returns to `held`. It is lost at its `deadline`, or when
 * the backend says so. A timer, a renewal's answer, the holder and the end of the program all check the deadline. The
 * first of them that finds it passed ends the lease.
 *
 * A lease that is lost because of its `maxHold` or of a revocation keeps its claim for a while, so that nobody gets in
 * beside the program that is being interrupted.
 */
export class HeldLease implements Item, Held, Measured, SharedLease, Enclosing {
  readonly key: string
  /** The claim as it is now: a shrink leaves it fewer permits. */
  claim: Claim
  /** Whether the backend has confirmed the shrink. */
  isShrunk = false
  readonly fencingToken: bigint
  /** When the request was sent that the grant counts from. */
  readonly grantedAt: number
  readonly ttl: Duration.Duration
  /** What encloses this lease. Nested requests check this chain for their own key. */
  parent: Enclosing | undefined
  depth: number
  /** While the other locks of a group are awaited, a loss is not reported to the locker. */
  host: LeaseHost

  state: "held" | "lost" | "released" = "held"
  loss: OwnershipLost | undefined
  /** All leases of the scope that holds this one, by the name of the lock. Absent if a section holds it. */
  leasesOfScope: Map<string, HeldLease> | undefined
  /** Whether the caller of its section was interrupted, and waits for the program to end. */
  isLeaving = false
  /** The scope that releases the lease when it closes. Absent if a section holds it. */
  scope: Scope.Closeable | undefined
  callersScope: Scope.Scope | undefined
  meter: Meter | undefined
  acquiredAt = 0
  /** Absent if its caller is not traced. */
  trace: HoldTrace | undefined

  // The heap writes these two fields.
  dueAt = 0
  index = -1
  /** How many milliseconds before `dueAt` the lease may be renewed together with others. */
  slack = 0

  private underWay: Latch.Latch | undefined
  private remains: Remains = "nothing"
  /** How many renewals were sent since the last confirmation. */
  private attempts = 0

  private confirmedAt: number
  private wallClockLead: number
  private readonly ttlMillis: number
  /** How many programs the end of this lease interrupts, and the callback that waits until there are none. */
  private running = 0
  private onIdle: (() => void) | undefined
  /** How many of these programs run in views of this lease, and the callback that waits until there are none. */
  private views = 0
  private onViewsEnd: (() => void) | undefined
  private observers: Set<() => void> | undefined
  private renewalFiber: Fiber.Fiber<never, OwnershipLost> | undefined

  constructor(host: LeaseHost, key: string, claim: Claim, granted: Granted, wallClockLead: number, parent?: Enclosing) {
    this.host = host
    this.key = key
    this.claim = claim
    this.fencingToken = granted.fencingToken
    this.ttl = granted.ttl
    // An integer, like the delays of timers: a deadline between two milliseconds would be noticed too late.
    this.ttlMillis = Math.floor(Duration.toMillis(granted.ttl))
    this.grantedAt = fromNanos(granted.confirmedAt)
    this.confirmedAt = this.grantedAt
    this.wallClockLead = wallClockLead
    this.parent = parent
    this.depth = depthIn(parent)
  }

  /** Makes it a lease within another one. */
  nestIn(parent: Enclosing | undefined): void {
    this.parent = parent
    this.depth = depthIn(parent)
  }

  get held(): this {
    return this
  }

  get deadline(): number {
    return this.confirmedAt + this.ttlMillis
  }

  /** When to renew. It is already past if the grant itself took long. */
  get renewAt(): number {
    return this.confirmedAt + Timing.renewalAfter(this.ttlMillis)
  }

  get retryAfter(): number {
    return Timing.renewalRetryAfter(this.ttlMillis)
  }

  /** How long one renewal may take. */
  get renewalTimeout(): number {
    return Timing.renewalTimeout(this.ttlMillis)
  }

  /** Notes that a renewal with this claim was sent. `answered` opens when its answer arrives. */
  beginRenewal(answered: Latch.Latch): void {
    this.underWay = answered
    this.attempts++
  }

  endRenewal(): void {
    this.underWay = undefined
  }

  /** Notes that the renewal will have no answer. */
  abandonRenewal(): void {
    this.underWay?.openUnsafe()
    this.endRenewal()
  }

  /** Waits for the renewal in flight. Absent if there is none. */
  get renewalAnswered(): Effect.Effect<void> | undefined {
    return this.underWay?.await
  }

  /** Whether the lease was lost, but its claim is not withdrawn and the backend may still keep it. */
  get hasLeftover(): boolean {
    return this.remains === "leftover"
  }

  /** Whether the lease was lost, and its claim is kept all the same while the program ends. */
  get isKept(): boolean {
    return this.remains === "kept" || this.remains === "runningOut"
  }

  /** Whether the claim is kept and not renewed. */
  get isRunningOut(): boolean {
    return this.remains === "runningOut"
  }

  /** Returns whether a claim is left to withdraw, and leaves its withdrawal to the caller. */
  takeLeftover(): boolean {
    const { hasLeftover } = this
    if (hasLeftover) this.remains = "nothing"
    return hasLeftover
  }

  /** Extends the deadline. `sentAt` and `wallClockLead` were read before the confirmed request was sent. */
  confirm(sentAt: number, wallClockLead: number): void {
    if (sentAt < this.confirmedAt) return
    this.confirmedAt = sentAt
    this.wallClockLead = wallClockLead
    this.attempts = 0
  }

  /**
   * Returns whether the lock is held, and ends the lease if its deadline has passed. Unlike a timer, this check is
   * never late.
   */
  check(now: number): boolean {
    return this.state === "held" && this.isConfirmed(now)
  }

  /**
   * Whether the claim is to be renewed. Like `check`, but also true while the claim of a lost lease is kept, unless it runs
   * out. Of such a claim too it finds that the deadline has passed.
   */
  isToRenew(now: number): boolean {
    return (this.state === "held" || this.isKept) && this.isConfirmed(now) && !this.isRunningOut
  }

  private isConfirmed(now: number): boolean {
    if (this.host.time.wallClockLead(now) - this.wallClockLead > this.ttlMillis) this.lose("Stalled", now)
    else if (now >= this.deadline) this.lose(this.reasonAt(now), now)
    else return true
    return false
  }

  /**
   * If the backend was asked in time and did not confirm, it is unreachable. If this process did not ask in time, this
   * process was stalled.
   */
  private reasonAt(now: number): LossReason {
    const late = now - this.deadline > Duration.toMillis(this.claim.guardGap)
    return this.attempts > 0 && !late ? "Unreachable" : "Stalled"
  }

  /** Ends the lease as lost. `mayStillStand` says whether the backend may still have the claim. */
  lose(reason: LossReason, now: number, mayStillStand?: boolean): void {
    const remains = mayStillStand === undefined ? remainsAfter[reason] : mayStillStand ? "leftover" : "nothing"
    if (this.isKept) return this.stopKeeping(remains === "nothing" ? "nothing" : "leftover", reason)
    if (this.state === "held") this.endAsLost(reason, now, remains)
  }

  private endAsLost(reason: LossReason, now: number, remains: Remains, revoker?: Revoker): void {
    this.state = "lost"
    this.remains = remains
    this.loss = new OwnershipLost({
      key: this.key,
      fencingToken: this.fencingToken,
      reason,
      lastConfirmedAgo: Duration.millis(Math.max(0, now - this.confirmedAt)),
      ...(revoker !== undefined && { revocation: revoker })
    })
    this.host.onLost(this, this.loss)
    this.notify()
  }

  /**
   * Ends the lease because its holder was asked to leave and its grace is over. Its claim is never extended again, and
   * keeps others out until the program has ended, or until it runs out.
   */
  revoke(now: number, revoker?: Revoker): void {
    if (this.check(now)) this.endAsLost("Revoked", now, "runningOut", revoker)
    else if (this.remains === "kept") {
      this.remains = "runningOut"
      this.host.letRunOut(this)
    }
  }

  /** Ends the lease because it was held for as long as its holder allowed. Its claim is kept. */
  outstay(now: number): void {
    this.lose("MaxHold", now)
  }

  /** Leaves the kept claim of a lost lease to the backend, where it runs out if nobody withdraws it. */
  stopKeeping(remains: "nothing" | "leftover" = "leftover", reason?: LossReason): void {
    if (!this.isKept) return
    this.remains = remains
    this.host.onKeptNoLonger(this, reason)
  }

  /**
   * Ends the lease as released, before anything is sent. Returns false if it had already ended. A lost lease stays lost,
   * and its claim is to be withdrawn if it was still kept.
   */
  endHold(now: number): boolean {
    if (this.isKept) {
      const isStillKept = this.isConfirmed(now)
      if (isStillKept) this.remains = "nothing"
      return isStillKept
    }
    if (!this.check(now)) return false
    this.state = "released"
    this.notify()
    return true
  }

  private notify(): void {
    const { observers } = this
    this.observers = undefined
    if (observers !== undefined) { for (const observer of observers) callBack(this.host.events, observer, this.key) }
  }

  /** Registers a callback for the end of the lease, lost or released. */
  private observe(observer: () => void): void {
    this.observers ??= new Set()
    this.observers.add(observer)
  }

  /** The fiber is forked at its first use, so that a program that does not use it does not pay for it. */
  get renewal(): Fiber.Fiber<never, OwnershipLost> {
    if (this.renewalFiber === undefined) {
      this.renewalFiber = this.host.fork(this.lost)
      if (this.state === "released") this.renewalFiber.interruptUnsafe()
    }
    return this.renewalFiber
  }

  get stopRenewal(): Effect.Effect<void> {
    // An observer of this fiber may throw.
    return this.renewalFiber === undefined ? Effect.void : Effect.ignoreCause(Fiber.interrupt(this.renewalFiber))
  }

  /** Whether no other claim may hold the key at the same time. */
  get isExclusive(): boolean {
    return isExclusive(this.claim)
  }

  get permits(): number {
    return this.claim.permits
  }

  get grant(): bigint {
    return this.fencingToken
  }

  get holder(): string {
    return Owner.decode(this.claim.holder).name
  }

  /**
   * For logs. The lease refers to the whole context of the program, and the claim's id must stay private, because it is
   * what a release is authorized by.
   */
  toJSON(): unknown {
    const { fencingToken, holder, isExclusive, key, permits, state } = this
    return isExclusive
      ? { _id: "effect-dlock/Lease", key, fencingToken: String(fencingToken), holder, state }
      : { _id: "effect-dlock/SharedLease", key, permits, grant: String(fencingToken), holder, state }
  }

  [Inspectable.NodeInspectSymbol](): unknown {
    return this.toJSON()
  }

  get lost(): Effect.Effect<never, OwnershipLost> {
    return Effect.callback((resume) => {
      const settle = () => {
        if (this.loss !== undefined) resume(Effect.fail(this.loss))
      }
      if (this.state !== "held") return settle()
      return this.whenEnded(settle)
    })
  }

  /** Calls back at the end of the lease, lost or released. The returned effect takes that back. */
  whenEnded(observer: () => void): Effect.Effect<void> {
    this.observe(observer)
    return Effect.sync(() => void this.observers?.delete(observer))
  }

  get contended(): Effect.Effect<void> {
    return contended(this, Effect.suspend(() => this.host.contended(this)))
  }

  get revocation(): Effect.Effect<Revocation> {
    return revocation(this)
  }

  get remaining(): Effect.Effect<Duration.Duration> {
    return Effect.sync(() => {
      const now = this.host.time.now()
      return this.check(now) ? Duration.millis(this.deadline - now) : Duration.zero
    })
  }

  get ensureHeld(): Effect.Effect<void, OwnershipLost | LockNotHeld> {
    return Effect.suspend(() => this.check(this.host.time.now()) ? Effect.void : Effect.fail(this.end))
  }

  /** Why the lease is not held any more. */
  get end(): OwnershipLost | LockNotHeld {
    return this.loss ?? new LockNotHeld({ key: this.key })
  }

  get release(): Effect.Effect<void> {
    return this.scope === undefined
      ? Effect.uninterruptible(Effect.suspend(() => this.host.releaseLease(this)))
      : Scope.close(this.scope, Exit.void)
  }

  /**
   * A getter that makes a function, so that the function can be passed around without its lease. It is made at each
   * use, because there may be very many leases.
   */
  get whileHeld() {
    return <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E | OwnershipLost | LockNotHeld, R> =>
      whileHeld(this, ({ end }) => end, effect)
  }

  /** Lets readers in beside this writer, and no other writer. */
  get downgrade(): Effect.Effect<SharedLease, OwnershipLost | LockNotHeld> {
    return Effect.as(this.host.shrink(this, 1), this)
  }

  /** Waits until no program runs that the end of this lease interrupts. */
  get idle(): Effect.Effect<void> {
    return Effect.callback((resume) => {
      if (this.running === 0) return resume(Effect.void)
      this.onIdle = () => resume(Effect.void)
    })
  }

  /** Notes that a program started, and calls `onEnd` when the lease ends. */
  beginRun(onEnd: () => void): void {
    this.running++
    if (this.state === "held") this.observe(onEnd)
    else onEnd()
  }

  endRun(onEnd: () => void): void {
    this.observers?.delete(onEnd)
    if (--this.running === 0) this.onIdle?.()
  }

  noteLeaving(): void {
    this.isLeaving = true
  }

  /** Notes that a program started in a view of this lease. The end of this lease interrupts it, and a release waits for it. */
  beginView(onEnd: () => void): void {
    this.views++
    this.beginRun(onEnd)
  }

  endView(onEnd: () => void): void {
    if (--this.views === 0) this.onViewsEnd?.()
    this.endRun(onEnd)
  }

  /** Waits until no program runs in a view of this lease. Absent if none does. */
  get viewsEnded(): Effect.Effect<void> | undefined {
    if (this.views === 0) return undefined
    return Effect.callback((resume) => {
      if (this.views === 0) return resume(Effect.void)
      this.onViewsEnd = () => resume(Effect.void)
    })
  }
}

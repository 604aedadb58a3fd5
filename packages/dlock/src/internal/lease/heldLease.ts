import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Inspectable from "effect/Inspectable"
import type * as Latch from "effect/Latch"
import * as Scope from "effect/Scope"
import { LockNotHeld, type LossReason, OwnershipLost } from "../../LockError.ts"
import type { Claim, Granted, Held } from "../../LockStore.ts"
import * as Owner from "../options/owner.ts"
import type { Item } from "../scheduling/deadlineHeap.ts"
import { fromNanos, type Time } from "../scheduling/time.ts"
import { callBack } from "../telemetry/callBack.ts"
import type { Events } from "../telemetry/events.ts"
import * as Timing from "../timing.ts"
import { reportLoss, settled, untilEnd } from "./section.ts"

/** What a lease asks of the locker that made it. */
export interface LeaseHost {
  readonly time: Time
  readonly events: Events
  /** In the context of the program that made the locker, which it may outlive. */
  readonly fork: <A, E>(effect: Effect.Effect<A, E>) => Fiber.Fiber<A, E>
  /** The store, as an identity: two lockers over one store share their keys. */
  readonly store: object
  /** The lease has just been lost: stop renewing it, and say so. */
  readonly onLost: (lease: HeldLease, loss: OwnershipLost) => void
  /** The holder lets go: end the belief, stop renewing, give the claim back. */
  readonly releaseLease: (lease: HeldLease) => Effect.Effect<void>
}

/** Whether the backend may still keep a claim whose lease was lost for that reason. */
const mayStillStandAfter: { readonly [Reason in LossReason]: boolean } = {
  Expired: false,
  Replaced: false,
  Unreachable: true,
  Stalled: true,
  Revoked: false,
  MaxHold: true
}

/**
 * A lease from the grant to its end: the state behind the `Lease` that users see, and the one place that decides
 * whether it is still held.
 *
 * It ends once, as `lost` or as `released`, and nothing revives it. It is lost at `deadline` or at the backend's word;
 * whoever looks first, a timer, a renewal's answer, the holder or the end of its program, finds the deadline passed
 * and ends it.
 */
export class HeldLease implements Item, Held {
  readonly key: string
  readonly claim: Claim
  readonly fencingToken: bigint
  /** What the grant counted from. */
  readonly grantedAt: number
  readonly ttl: Duration.Duration
  /** The lease inside which this one was taken: the chain that a nested request is checked against. */
  parent: HeldLease | undefined
  /** In how many sections it was taken. */
  readonly depth: number
  readonly host: LeaseHost

  state: "held" | "lost" | "released" = "held"
  loss: OwnershipLost | undefined
  /** The leases of the scope that holds this one, by name; absent for one that a section holds. */
  leasesOfScope: Map<string, HeldLease> | undefined
  /** The scope whose end releases it; absent for one that a section holds. */
  scope: Scope.Closeable | undefined

  // The heap's.
  dueAt = 0
  index = -1
  /** By how much earlier than due it may be renewed in company. */
  slack = 0

  private underWay: Latch.Latch | undefined
  private mayStillStand = false
  /** Renewals sent since the last confirmation. */
  private attempts = 0

  private confirmedAt: number
  private wallClockLead: number
  private readonly ttlMillis: number
  /** What runs under it, and who waits until nothing does. */
  private running = 0
  private onIdle: (() => void) | undefined
  private observers: Set<() => void> | undefined
  private renewalFiber: Fiber.Fiber<never, OwnershipLost> | undefined

  constructor(host: LeaseHost, key: string, claim: Claim, granted: Granted, wallClockLead: number, parent?: HeldLease) {
    this.host = host
    this.key = key
    this.claim = claim
    this.fencingToken = granted.fencingToken
    this.ttl = granted.ttl
    // Whole, as timers are: a deadline between two milliseconds would be noticed after it.
    this.ttlMillis = Math.floor(Duration.toMillis(granted.ttl))
    this.grantedAt = fromNanos(granted.confirmedAt)
    this.confirmedAt = this.grantedAt
    this.wallClockLead = wallClockLead
    this.parent = parent
    this.depth = parent === undefined ? 0 : parent.depth + 1
  }

  get deadline(): number {
    return this.confirmedAt + this.ttlMillis
  }

  /** For a grant that took long this is at once. */
  get renewAt(): number {
    return this.confirmedAt + Timing.renewalAfter(this.ttlMillis)
  }

  get retryAfter(): number {
    return Timing.renewalRetryAfter(this.ttlMillis)
  }

  /** What one renewal may take. */
  get renewalTimeout(): number {
    return Timing.renewalTimeout(this.ttlMillis)
  }

  /** A renewal that carries this claim has been sent; `answered` opens when it has its answer. */
  beginRenewal(answered: Latch.Latch): void {
    this.underWay = answered
    this.attempts++
  }

  endRenewal(): void {
    this.underWay = undefined
  }

  /** It will have no answer. */
  abandonRenewal(): void {
    this.underWay?.openUnsafe()
    this.endRenewal()
  }

  /** Waits for the renewal that is under way; absent where none is. */
  get renewalAnswered(): Effect.Effect<void> | undefined {
    return this.underWay?.await
  }

  /** Lost, and yet to be withdrawn: the backend may still keep it. */
  get hasLeftover(): boolean {
    return this.mayStillStand
  }

  /** Whether there is something to withdraw, for the one who does. */
  takeLeftover(): boolean {
    const { mayStillStand } = this
    this.mayStillStand = false
    return mayStillStand
  }

  /** `sentAt` and `wallClockLead` were read before the request was sent that this confirms. */
  confirm(sentAt: number, wallClockLead: number): void {
    if (sentAt < this.confirmedAt) return
    this.confirmedAt = sentAt
    this.wallClockLead = wallClockLead
    this.attempts = 0
  }

  /** Is it held? Ends it if its deadline has passed: a timer may be late, this is not. */
  check(now: number): boolean {
    if (this.state !== "held") return false
    if (this.host.time.wallClockLead(now) - this.wallClockLead > this.ttlMillis) this.lose("Stalled", now)
    else if (now >= this.deadline) this.lose(this.reasonAt(now), now)
    else return true
    return false
  }

  /** A backend that was asked in time and did not confirm is to blame; where nobody asked in time, we are. */
  private reasonAt(now: number): LossReason {
    const late = now - this.deadline > Duration.toMillis(this.claim.guardGap)
    return this.attempts > 0 && !late ? "Unreachable" : "Stalled"
  }

  /** `mayStillStand` where the backend may still keep the claim. */
  lose(reason: LossReason, now: number, mayStillStand: boolean | undefined = mayStillStandAfter[reason]): void {
    if (this.state !== "held") return
    this.state = "lost"
    this.mayStillStand = mayStillStand
    this.loss = new OwnershipLost({
      key: this.key,
      fencingToken: this.fencingToken,
      reason,
      lastConfirmedAgo: Duration.millis(Math.max(0, now - this.confirmedAt))
    })
    this.host.onLost(this, this.loss)
    this.notify()
  }

  /** Ends the belief in the lock, before anything is sent. False if it had ended already. */
  endHold(now: number): boolean {
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

  /** Calls back when the lease is lost or released. */
  private observe(observer: () => void): void {
    this.observers ??= new Set()
    this.observers.add(observer)
  }

  /** Forked when somebody first asks for it: it only waits, and who would not know of it need not pay for it. */
  get renewal(): Fiber.Fiber<never, OwnershipLost> {
    if (this.renewalFiber === undefined) {
      this.renewalFiber = this.host.fork(this.lost)
      if (this.state === "released") this.renewalFiber.interruptUnsafe()
    }
    return this.renewalFiber
  }

  get stopRenewal(): Effect.Effect<void> {
    // An observer of that fiber may throw.
    return this.renewalFiber === undefined ? Effect.void : Effect.ignoreCause(Fiber.interrupt(this.renewalFiber))
  }

  get holder(): string {
    return Owner.decode(this.claim.holder).name
  }

  /** For logs: a lease leads to the program's whole context, and its claim's id is what a release is known by. */
  toJSON(): unknown {
    const { fencingToken, holder, key, state } = this
    return { _id: "effect-dlock/Lease", key, fencingToken: String(fencingToken), holder, state }
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
      this.observe(settle)
      return Effect.sync(() => this.observers?.delete(settle))
    })
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

  private get end(): OwnershipLost | LockNotHeld {
    return this.loss ?? new LockNotHeld({ key: this.key })
  }

  get release(): Effect.Effect<void> {
    return this.scope === undefined
      ? Effect.uninterruptible(Effect.suspend(() => this.host.releaseLease(this)))
      : Scope.close(this.scope, Exit.void)
  }

  /** A function that may be passed around, made anew for each who asks: a lease may be one of very many. */
  get whileHeld() {
    return <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E | OwnershipLost | LockNotHeld, R> =>
      Effect.uninterruptibleMask((restore) =>
        Effect.andThen(
          this.ensureHeld,
          Effect.flatMap(
            untilEnd<A, E, R>(
              this,
              restore,
              "lost or released",
              (context) => Effect.runForkWith(context)(restore(effect), { uninterruptible: true })
            ),
            (exit) => this.state === "released" ? settled(exit, this.end) : reportLoss(this, exit)
          )
        )
      )
  }

  /** Until nothing runs under it that is stopped by its loss. */
  get idle(): Effect.Effect<void> {
    return Effect.callback((resume) => {
      if (this.running === 0) return resume(Effect.void)
      this.onIdle = () => resume(Effect.void)
    })
  }

  /** Something runs under it that its loss stops. */
  beginRun(onEnd: () => void): void {
    this.running++
    if (this.state === "held") this.observe(onEnd)
    else onEnd()
  }

  endRun(onEnd: () => void): void {
    this.observers?.delete(onEnd)
    if (--this.running === 0) this.onIdle?.()
  }
}

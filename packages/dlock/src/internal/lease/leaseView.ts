import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Inspectable from "effect/Inspectable"
import * as Scope from "effect/Scope"
import { LockNotHeld, type LossReason, OwnershipLost } from "../../LockError.ts"
import type { Revocation } from "../../LockStore.ts"
import type { SharedLease } from "../../SharedLease.ts"
import { callBack } from "../telemetry/callBack.ts"
import type { Enclosing, HeldLease } from "./heldLease.ts"
import { type Ending, whileHeld } from "./section.ts"

/**
 * A lease inside a section or scope that already holds the same lock: a re-entry. It has no claim of its own, since a
 * second claim would wait for the first one, which is held by the same caller. This one is for readers, `ExclusiveView`
 * is for all others.
 *
 * A release of the view ends only the view. The end of the outer lease ends the view too, as a loss, since a program
 * that runs on after it has no lock any more.
 */
export class LeaseView implements Ending, SharedLease, Enclosing {
  readonly outer: HeldLease
  parent: Enclosing | undefined
  readonly depth: number
  readonly callersScope: Scope.Scope | undefined
  readonly permits = 1
  /** The span of the outer lease is that of the view too. */
  readonly trace = undefined
  /** The scope that ends the view when it closes. Absent if a section has it. */
  scope: Scope.Closeable | undefined
  private isReleased = false
  /** The loss of the view alone. */
  private ownLoss: OwnershipLost | undefined
  private readonly observers = new Set<() => void>()

  constructor(outer: HeldLease, parent: Enclosing | undefined, callersScope: Scope.Scope | undefined) {
    this.outer = outer
    this.parent = parent
    this.depth = parent === undefined ? 0 : parent.depth + 1
    this.callersScope = callersScope
  }

  get held(): HeldLease {
    return this.outer
  }

  /** Whether its program relies on being alone. */
  get isExclusive(): boolean {
    return false
  }

  get key(): string {
    return this.outer.key
  }

  get grant(): bigint {
    return this.outer.grant
  }

  get holder(): string {
    return this.outer.holder
  }

  get ttl(): Duration.Duration {
    return this.outer.ttl
  }

  get host() {
    return this.outer.host
  }

  get state(): "held" | "lost" | "released" {
    if (this.ownLoss !== undefined) return "lost"
    if (this.isReleased) return "released"
    return this.outer.state === "held" ? "held" : "lost"
  }

  get loss(): OwnershipLost | undefined {
    if (this.state !== "lost") return undefined
    return this.ownLoss ?? this.outer.loss ?? this.lossBy("Revoked")
  }

  private lossBy(reason: LossReason): OwnershipLost {
    const { fencingToken, key } = this.outer
    return new OwnershipLost({ key, fencingToken, reason, lastConfirmedAgo: Duration.zero })
  }

  /** Ends the view because it was held for as long as its holder allowed. The outer lease goes on. */
  outstay(now: number): void {
    if (!this.check(now)) return
    const { events } = this.host
    this.ownLoss = this.lossBy("MaxHold")
    events.lostByView(this.ownLoss)
    for (const observer of Array.from(this.observers)) callBack(events, observer, this.key)
  }

  /** Calls back when the view is released. */
  whenEnded(observer: () => void): void {
    this.observers.add(observer)
  }

  check(now: number): boolean {
    return this.state === "held" && this.outer.check(now)
  }

  beginRun(onEnd: () => void): void {
    this.observers.add(onEnd)
    this.outer.beginView(onEnd)
  }

  endRun(onEnd: () => void): void {
    this.observers.delete(onEnd)
    this.outer.endView(onEnd)
  }

  get lost(): Effect.Effect<never, OwnershipLost> {
    return Effect.callback((resume) => {
      const settle = () => {
        const { loss } = this
        if (loss !== undefined) resume(Effect.fail(loss))
      }
      if (this.state !== "held") return settle()
      this.observers.add(settle)
      return Effect.andThen(this.outer.whenEnded(settle), Effect.sync(() => void this.observers.delete(settle)))
    })
  }

  get contended(): Effect.Effect<void> {
    return this.outer.contended
  }

  get revocation(): Effect.Effect<Revocation> {
    return this.outer.revocation
  }

  get remaining(): Effect.Effect<Duration.Duration> {
    return Effect.suspend(() => this.isReleased ? Effect.succeed(Duration.zero) : this.outer.remaining)
  }

  get ensureHeld(): Effect.Effect<void, OwnershipLost | LockNotHeld> {
    return Effect.suspend(() => this.check(this.host.time.now()) ? Effect.void : Effect.fail(this.end))
  }

  /** Why the lease is not held any more. */
  get end(): OwnershipLost | LockNotHeld {
    return this.loss ?? new LockNotHeld({ key: this.key })
  }

  get whileHeld() {
    return <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E | OwnershipLost | LockNotHeld, R> =>
      whileHeld(this, ({ end }) => end, effect)
  }

  get release(): Effect.Effect<void> {
    return this.scope === undefined ? this.ended : Scope.close(this.scope, Exit.void)
  }

  /** Ends the view, and not the lease. */
  get ended(): Effect.Effect<void> {
    return Effect.sync(() => {
      if (this.isReleased) return
      this.isReleased = true
      this.onRelease()
      for (const observer of Array.from(this.observers)) observer()
    })
  }

  protected onRelease(): void {}

  toJSON(): unknown {
    return this.outer.toJSON()
  }

  [Inspectable.NodeInspectSymbol](): unknown {
    return this.toJSON()
  }
}

import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Inspectable from "effect/Inspectable"
import * as Scope from "effect/Scope"
import type { Leases } from "../../Leases.ts"
import { LockNotHeld, type OwnershipLost } from "../../LockError.ts"
import type { Revocation } from "../../LockStore.ts"
import type { Time } from "../scheduling/time.ts"
import type { HoldTrace } from "../telemetry/spans.ts"
import { HeldLease } from "./heldLease.ts"
import type { LeaseView } from "./leaseView.ts"
import { type Ending, whileHeld } from "./section.ts"

/** What a group needs from its locker. */
export interface GroupHost {
  readonly time: Time
  /** Releases leases for their holder. */
  readonly release: (leases: ReadonlyArray<HeldLease>) => Effect.Effect<void>
}

/** The leases of several locks that were acquired together. It is lost with the first of them, and released as a whole. */
export class LeaseGroup implements Ending, Leases {
  readonly members: ReadonlyArray<HeldLease | LeaseView>
  readonly host: GroupHost
  readonly holder: string
  readonly depth: number
  /**
   * The leases of this group, and those of the groups around it that were held when this one was made, also by a scope. What
   * had ended is left out: otherwise they would pile up if each section forks a fiber that outlives it and opens the next.
   */
  readonly leases: ReadonlyArray<HeldLease>
  /** The scope that releases the leases when it closes. Absent if a section holds them. */
  scope: Scope.Closeable | undefined
  /** Absent if its caller is not traced. */
  trace: HoldTrace | undefined
  private isReleased = false

  constructor(host: GroupHost, holder: string, members: ReadonlyArray<HeldLease | LeaseView>, outer?: Leases) {
    this.host = host
    this.holder = holder
    this.members = members
    this.depth = Math.max(...members.map(({ depth }) => depth))
    const around = outer instanceof LeaseGroup ? outer.leases.filter(({ state }) => state === "held") : []
    this.leases = Array.from(
      new Set([...members.map((member) => member instanceof HeldLease ? member : member.outer), ...around])
    )
  }

  /** The leases that the group holds itself. The others are views of leases that the caller has. */
  get own(): ReadonlyArray<HeldLease> {
    return this.members.filter((member) => member instanceof HeldLease)
  }

  get key(): string {
    return this.members[0]!.key
  }

  get keys(): ReadonlyArray<string> {
    return this.members.map(({ key }) => key)
  }

  readonly tokenOf = (key: string): bigint => {
    const member = this.members.find((one) => one.key === key)
    if (member === undefined) throw new Error(`These leases are not about "${key}": ${this.keys.join(", ")}`)
    if (member.isExclusive) return member.grant
    throw new Error(`"${key}" is shared with other holders, so it has no fencing token`)
  }

  get state(): "held" | "lost" | "released" {
    if (this.isReleased) return "released"
    return this.members.some(({ state }) => state === "lost") ? "lost" : "held"
  }

  get loss(): OwnershipLost | undefined {
    if (this.state !== "lost") return undefined
    const losses = this.members.flatMap(({ loss }) => loss ?? [])
    // The cap of the group comes to what is left of it also after a loss.
    return losses.find(({ reason }) => reason !== "MaxHold") ?? losses[0]
  }

  check(now: number): boolean {
    let isHeld = !this.isReleased
    // Each of them finds out for itself whether its deadline has passed.
    for (const member of this.members) isHeld = member.check(now) && isHeld
    return isHeld
  }

  /** Ends the group because it was held for as long as its holder allowed. */
  outstay(now: number): void {
    for (const member of this.members) member.outstay(now)
  }

  /** Whether one of the locks is still held, although the group may be lost. */
  isAnyHeld(now: number): boolean {
    let isAny = false
    for (const member of this.members) isAny = member.check(now) || isAny
    return isAny
  }

  /** Calls back when all locks of the group have ended: what is left of a lost group is still held, and its cap counts on. */
  whenEnded(observer: () => void): void {
    let left = this.members.length
    for (const member of this.members) {
      let isOver = false
      member.whenEnded(() => {
        if (isOver) return
        isOver = true
        if (--left === 0) observer()
      })
    }
  }

  beginRun(onEnd: () => void): void {
    for (const member of this.members) member.beginRun(onEnd)
  }

  endRun(onEnd: () => void): void {
    for (const member of this.members) member.endRun(onEnd)
  }

  get lost(): Effect.Effect<never, OwnershipLost> {
    return Effect.suspend(() => {
      if (this.isReleased) return Effect.never
      const { loss } = this
      return loss === undefined ? Effect.raceAllFirst(this.members.map(({ lost }) => lost)) : Effect.fail(loss)
    })
  }

  get contended(): Effect.Effect<void> {
    return Effect.raceAllFirst(this.members.map(({ contended }) => contended))
  }

  get revocation(): Effect.Effect<Revocation> {
    return Effect.raceAllFirst(this.members.map(({ revocation }) => revocation))
  }

  get remaining(): Effect.Effect<Duration.Duration> {
    return Effect.suspend(() =>
      this.isReleased
        ? Effect.succeed(Duration.zero)
        : Effect.map(
          Effect.all(this.members.map(({ remaining }) => remaining)),
          (all) => all.reduce((least, one) => Duration.min(least, one))
        )
    )
  }

  get ensureHeld(): Effect.Effect<void, OwnershipLost | LockNotHeld> {
    return Effect.suspend(() => this.check(this.host.time.now()) ? Effect.void : Effect.fail(this.end))
  }

  /** Why the leases are not held any more. */
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

  /** Releases the leases, and ends the views. */
  get ended(): Effect.Effect<void> {
    return Effect.uninterruptible(Effect.suspend(() => {
      // A group that was lost stays so: what is still held of it is released all the same.
      if (this.state === "held") this.isReleased = true
      const views = this.members.filter((member) => !(member instanceof HeldLease)).map(({ ended }) => ended)
      return Effect.andThen(Effect.all(views, { discard: true }), this.host.release(this.own))
    }))
  }

  toJSON(): unknown {
    return { _id: "effect-dlock/Leases", leases: this.members.map((member) => member.toJSON()), state: this.state }
  }

  [Inspectable.NodeInspectSymbol](): unknown {
    return this.toJSON()
  }
}

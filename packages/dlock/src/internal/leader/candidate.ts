import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import { OwnershipLost } from "../../LockError.ts"
import type { Engine } from "../engine.ts"
import type { HeldLease } from "../lease/heldLease.ts"
import * as Timing from "../timing.ts"

/** What a candidate does: it waits for its election or for the end of a pause, leads, or ends a lost leadership. */
export type CandidateState = "standing" | "leading" | "lost"

/** One term of a leader: its lease, and the fiber of its program. */
export class Term {
  readonly lease: HeldLease
  private readonly fiber: Fiber.Fiber<unknown, unknown>
  private readonly electedAt: number
  /** Why it was stepped down from within. Absent if it was not. */
  steppedDown: string | undefined

  constructor(lease: HeldLease, fiber: Fiber.Fiber<unknown, unknown>) {
    this.lease = lease
    this.fiber = fiber
    this.electedAt = lease.host.time.now()
    terms.set(lease, this)
  }

  /** Interrupts the program. The lock stays held and renewed until the program has ended. */
  stepDown(why: string): void {
    this.steppedDown ??= why
    this.fiber.interruptUnsafe()
  }

  /** The error of a leadership that was given up from within, for a candidate that does not stand again. */
  get resignation(): OwnershipLost {
    const { lease } = this
    return new OwnershipLost({
      key: lease.key,
      fencingToken: lease.fencingToken,
      reason: "Revoked",
      lastConfirmedAgo: this.confirmedAgo,
      revocation: { by: lease.holder, ...(this.steppedDown !== undefined && { why: this.steppedDown }) }
    })
  }

  /** Whether it ended so soon after its election that another one may end as soon. */
  get isShort(): boolean {
    const { host, ttl } = this.lease
    return host.time.now() - this.electedAt < Timing.renewalAfter(Duration.toMillis(ttl))
  }

  /** How long ago the last confirmation of the lease was requested. */
  get confirmedAgo(): Duration.Duration {
    const { deadline, host, ttl } = this.lease
    return Duration.millis(Math.max(0, host.time.now() - deadline + Math.floor(Duration.toMillis(ttl))))
  }

  get state(): CandidateState {
    const { lease } = this
    // The check notices a deadline that has passed before the timer of the lease does.
    if (lease.check(lease.host.time.now())) return "leading"
    // Its program may also have released the lock and gone on.
    return this.fiber.pollUnsafe() === undefined ? "lost" : "standing"
  }
}

/** The terms by their leases, for `resign`. */
const terms = new WeakMap<HeldLease, Term>()

/** The term of a leader that has this lease. */
export const termOf = (lease: HeldLease): Term | undefined => terms.get(lease)

/** One call of `Leader.run`, or one layer. */
export class Candidate {
  /** The term, from its election until its program has ended and its lock is released. */
  term: Term | undefined

  get state(): CandidateState {
    return this.term?.state ?? "standing"
  }

  /** Unlike `state`, it ends no lease whose deadline has passed: it is asked by who reads the metrics. */
  get isLeading(): boolean {
    const lease = this.term?.lease
    return lease !== undefined && lease.state === "held" && lease.host.time.now() < lease.deadline
  }
}

/** The candidates of each locker, by the name that they stand for. */
const candidates = new WeakMap<object, Map<string, Set<Candidate>>>()

/** Remembers a candidate of a locker for as long as an effect runs. */
export const asCandidate = <A, E, R>(
  locker: Engine,
  name: string,
  use: (candidate: Candidate) => Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  Effect.acquireUseRelease(
    Effect.sync(() => {
      const candidate = new Candidate()
      let byName = candidates.get(locker)
      if (byName === undefined) candidates.set(locker, byName = new Map())
      let all = byName.get(name)
      if (all === undefined) byName.set(name, all = new Set())
      all.add(candidate)
      return { all, byName, candidate, leave: locker.stand(name, candidate) }
    }),
    ({ candidate }) => use(candidate),
    ({ all, byName, candidate, leave }) =>
      Effect.sync(() => {
        leave()
        all.delete(candidate)
        if (all.size === 0 && byName.get(name) === all) byName.delete(name)
      })
  )

/** What the candidates of a locker do. Of several under one name, the one that needs most attention counts. */
export const statusOf = (locker: object, name: string): {
  readonly state: CandidateState | "idle"
  readonly lastConfirmedAgo: Option.Option<Duration.Duration>
} => {
  const all = Array.from(candidates.get(locker)?.get(name) ?? [])
  for (const state of ["lost", "leading"] as const) {
    const found = all.find((candidate) => candidate.state === state)
    if (found?.term !== undefined) return { state, lastConfirmedAgo: Option.some(found.term.confirmedAgo) }
  }
  return { state: all.length > 0 ? "standing" : "idle", lastConfirmedAgo: Option.none() }
}

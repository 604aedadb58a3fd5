import type { Outcome, Recorded, Rule, Violation } from "./events.ts"
import { FaultWindows } from "./faultWindows.ts"
import { Idle, type IdleLimits } from "./idle.ts"
import { JobHistories } from "./jobs.ts"
import { Lags, onTheWay } from "./lags.ts"
import { begun, type Lease } from "./lease.ts"
import { downgraded, fit, isExclusive, type LockShape } from "./lockShape.ts"
import { isOutside, OutsideChecks } from "./outside.ts"

/** A caller that asks, or has asked, for a key. */
interface Asked {
  readonly key: string
  readonly who: string
  readonly from: number
  over: number
}

/** The largest tokens of a key that is shared: of anybody, and of those who were alone inside. */
interface Newest {
  readonly any: bigint
  readonly exclusive: bigint
}

/** A lease at the moment at which too many were inside. */
interface Inside {
  readonly lease: Lease
  readonly lock: LockShape
  readonly steps: number
  readonly acceptedSteps: number
}

/** A finding that can be checked only when the events of the next moments have come. */
interface Open {
  readonly at: number
  /** The processes whose pauses count. */
  readonly of: ReadonlyArray<string>
  /** Returns false while it is too early to decide. */
  readonly decide: (last: boolean) => boolean
}

export interface Limits {
  /** By how many milliseconds a loss may be reported late, in addition to the lag of its process. */
  readonly late: number
  /** How much longer than its holder considers it held a backend keeps a lock. */
  readonly guard: number
  /** Milliseconds that a program takes to end after an interrupt. */
  readonly ending: number
  /** For how long later events may change a finding. */
  readonly grace: number
  /** How late the end of a holder's time may be noticed: every `retryInterval`, and a little. */
  readonly notice: number
  /** See `IdleLimits`. */
  readonly remote: IdleLimits["remote"]
  readonly grain: number
  readonly deadAfter: number
  /** Whether a call may fail because its own process's thread was busy, with the answer in its socket. */
  readonly busyFails: boolean
  /** Rules that are not checked. */
  readonly without: ReadonlyArray<Rule>
}

/** Why two may have been inside without a fault of the library. */
type Excuse = "forgot" | "paused" | "ignored"

/** Milliseconds that are lost where times are rounded. */
const rounding = 20

/** Whether it was asked to leave, and does not end by itself. */
const isIgnoring = ({ lingers, revokedUntil }: Lease): boolean => lingers && revokedUntil !== undefined

/** Whose key it is: some are a worker's own, in all of its lives. Of other keys every worker's faults count. */
const askerOf = (key: string): string | undefined => /^(?:cold|probe)-([a-z0-9]+)/.exec(key)?.[1]

/** Milliseconds of lag after which the machine, not the library, may have made a call fail. */
const stalled = 200

/** Milliseconds from a request to the failure of its caller: a call and its retries. */
const longestCall = 5_000

/** How the text of a violation names an overlap that did harm. */
export const unrefused = "late steps that nothing refused"

const usual: Limits = {
  late: 100,
  guard: 100,
  ending: 0,
  grace: 2_500,
  notice: 200,
  remote: { places: [], notice: 0 },
  grain: 0,
  deadAfter: 0,
  busyFails: false,
  without: []
}

/**
 * Reads a history in its order and finds violations. It depends on the history alone and reads one line at a time, so
 * that a long run needs no more memory than a short one.
 */
export class Checker {
  readonly violations: Array<Violation> = []
  readonly faultWindows = new FaultWindows()
  readonly outcomes: Record<Outcome, number> = { done: 0, busy: 0, timeout: 0, lost: 0, backend: 0, interrupted: 0 }
  /**
   * Overlaps that are explained: by a data loss of the backend, by a paused process, or by a program that did not end until
   * its revoked claim had run out. The fence refused all their late steps.
   */
  readonly excused = { paused: 0, forgot: 0, ignored: 0 }
  readonly losses = new Map<string, number>()
  /** What metrics and calls agree on, of all processes that ended by themselves. */
  readonly counted = new Map<string, number>()
  sections = 0
  refused = 0
  longestWait = 0
  private readonly limits: Limits
  private readonly lags = new Lags()
  private readonly idle: Idle
  private readonly jobs = new JobHistories(this.faultWindows)
  private readonly leases = new Map<string, Lease>()
  private readonly inside = new Map<string, Map<string, Lease>>()
  /** What operators, leaders and observers tell. */
  readonly outside: OutsideChecks
  private readonly newest = new Map<string, { readonly id: string; readonly token: bigint }>()
  private readonly newestShared = new Map<string, Newest>()
  private readonly asked = new Map<string, Asked>()
  private open: Array<Open> = []

  constructor(limits: Partial<Limits> = {}) {
    this.limits = { ...usual, ...limits }
    this.idle = new Idle(this.limits)
    this.outside = new OutsideChecks(this.leases, this.faultWindows, this.lags, this.limits, {
      later: (at, decide, who) => this.later(at, decide, who),
      found: (rule, text, at) => this.found(rule, text, at)
    })
  }

  add(event: Recorded): void {
    const { arrived, who } = event
    if (event.t === "gone") this.lags.ended(who, arrived)
    else this.lags.heard(who, arrived)
    if (isOutside(event)) return this.outside.add(event)
    switch (event.t) {
      case "asked":
        this.asked.set(event.ask, { key: event.key, who, from: event.at, over: Infinity })
        this.outside.leaders.asks(who, event.key)
        return this.idle.asks(event.ask, event.key, who, event.at, event.ttl, event.lock !== undefined)
      case "acquired":
        this.begin(begun(event))
        this.stoodIdle(event)
        return this.idle.asksNoMore(event.ask, event.key)
      case "enter":
      case "step":
      case "downgrade":
      case "exit": {
        const lease = this.leases.get(event.id)
        if (lease === undefined) return
        if (event.t === "exit") this.leave(lease, arrived)
        else this.step(lease, event.t === "enter", event.accepted, arrived)
        if (event.t === "downgrade") lease.lock = downgraded(lease.lock)
        return
      }
      case "lost":
        return this.lost(event)
      case "ended":
        this.outcomes[event.outcome]++
        this.overAt(this.asked.get(event.ask), event.at)
        this.longestWait = Math.max(this.longestWait, event.waited)
        return this.idle.asksNoMore(event.ask, event.key)
      case "lag":
        return this.lags.add(event.worker ?? who, event.from, event.to, who)
      case "job":
        // A fault that explains it may be told a moment later.
        return this.later(arrived, () => {
          const wrong = this.jobs.add(event.key, event)
          if (wrong !== undefined) this.found("repeated", wrong, arrived)
          return true
        }, who)
      case "slow":
        return this.later(arrived, () => {
          const from = event.at - event.took
          const late = event.took - event.limit - this.lags.within(who, from, event.at) -
            this.lags.onTheWay(from, event.at)
          if (late > 0) this.found("slow", `${event.what} took ${event.took.toFixed(0)} ms`, arrived)
          return true
        }, who)
      case "failed":
        return this.later(arrived, () => {
          if (this.faultWindows.mayHaveLostAnswer(who, event.from, event.at)) return true
          // A busy thread is no excuse, unless the caller's time limit was short.
          const isExcused = event.hasty === true || this.limits.busyFails
          // Only the last request counts: waits before it made nothing fail.
          const from = Math.max(event.from, event.at - longestCall)
          const own = isExcused ? this.lags.within(who, from, event.at) : 0
          // A call with a third of a second gives three hosts a tenth each, so a lag of one tenth may make it fail.
          const enough = Math.min(stalled, (event.at - event.from) / 4)
          if (own + this.lags.onTheWay(from, event.at) > enough) return true
          this.found("failed", `${who}, ${event.what}: ${event.why}`, arrived)
          return true
        }, who)
      case "tombstone":
        return this.later(arrived, () => {
          if (this.faultWindows.mayHaveLostAnswer(askerOf(event.key), event.at - 1_000, event.at + 100)) return true
          if (this.isInDoubt(event.key, event.at)) return true
          // Whoever breaks a lock leaves one too.
          if (this.faultWindows.findDataLoss(event.key, event.at - 1_000, event.at + 100) !== undefined) return true
          // An answer that comes after its caller gave up counts as lost.
          if (this.lags.ofAnybody(event.at - 1_000, event.at + 100) > stalled) return true
          this.found("tombstone", event.key, arrived)
          return true
        })
      case "script":
        return this.later(arrived, () => {
          if (this.faultWindows.hasHitServers(event.from - 100, event.at)) return true
          this.found("script", `${event.what}: ${event.took.toFixed(1)} ms`, arrived)
          return true
        })
      case "ghost":
        return this.later(arrived, () => {
          if (this.faultWindows.hasHit(who, event.from - 2_000, event.at)) return true
          const lag = this.lags.within(who, event.from, event.at) + this.lags.onTheWay(event.from, event.at)
          if (lag > event.waited / 4) return true
          this.found("ghost", `${event.key} kept its own process out for ${event.waited.toFixed(0)} ms`, arrived)
          return true
        }, who)
      case "stuck":
        return this.found("stuck", `${who} waited ${event.waited.toFixed(0)} ms for ${event.key}`, arrived)
      case "unserved":
        return this.found("unserved", `${who} was not served for ${event.waited.toFixed(0)} ms`, arrived)
      case "unhandled":
        return this.found("unhandled", `${who}: ${event.message}`, arrived)
      case "miscounted":
        return this.found("miscounted", `${who}: ${event.what}`, arrived)
      case "counted":
        for (const [what, count] of Object.entries(event.counts)) {
          this.counted.set(what, (this.counted.get(what) ?? 0) + count)
        }
        return
      case "left":
      case "orphan":
      case "elsewhere":
        return this.found(event.t, event.what, arrived)
      case "fault":
        return this.faultWindows.begin(event)
      case "healed":
        return this.faultWindows.end(event.n, event.to)
      case "gone":
        this.idle.gone(who, arrived)
        for (const asked of this.asked.values()) if (asked.who === who) this.overAt(asked, arrived)
        for (const lease of this.leases.values()) if (lease.who === who) this.leave(lease, arrived, true)
    }
  }

  /** Who is inside now, for faults to aim at. */
  present(): ReadonlyArray<{ readonly key: string; readonly who: string }> {
    return Array.from(this.inside.values(), (of) => Array.from(of.values()).at(-1))
      .flatMap((lease) => lease === undefined ? [] : [{ key: lease.key, who: lease.who }])
  }

  /** Checks the findings that are old enough; with `last`, all of them. */
  settle(moment: number, last = false): void {
    const isRipe = ({ at, of }: Open): boolean =>
      moment >= at + this.limits.grace && !of.some((who) => this.lags.isOpen(who, at))
    this.open = this.open.filter((one) => !(last || isRipe(one)) || !one.decide(last))
    for (const [id, lease] of this.leases) {
      if (lease.over === undefined || lease.over >= moment - 30_000) continue
      this.leases.delete(id)
      this.outside.forget(lease)
    }
    for (const [ask, { over }] of this.asked) if (over < moment - 30_000) this.asked.delete(ask)
    this.lags.forget(moment - 120_000)
    this.faultWindows.forget(moment - 60_000)
  }

  private begin(lease: Lease): void {
    this.leases.set(lease.id, lease)
    this.outside.begins(lease)
  }

  private overAt(asked: Asked | undefined, at: number): void {
    if (asked !== undefined) asked.over = Math.min(asked.over, at)
  }

  /** Whether any caller that asks for this key at this moment may have lost an answer since it asked. */
  private isInDoubt(key: string, at: number): boolean {
    return Array.from(this.asked.values()).some((one) =>
      one.key === key && one.from <= at && one.over >= at - 1_000 &&
      this.faultWindows.mayHaveLostAnswer(one.who, one.from, at + 100)
    )
  }

  private step(lease: Lease, enters: boolean, accepted: boolean, arrived: number): void {
    if (!accepted) this.refused++
    lease.steps++
    if (accepted) lease.acceptedSteps++
    lease.lastStepAt = arrived
    if (lease.lostAt !== undefined && !isIgnoring(lease) && ++lease.afterLoss === 2) {
      this.found("after", `${lease.who} stepped twice into ${lease.key} after it had told of the loss`, arrived)
    }
    if (lease.stale) {
      if (accepted) lease.accepted++
      else lease.refused++
      this.stillThere(lease, arrived)
    }
    if (!enters) return
    this.sections++
    this.outside.enters(lease, arrived)
    const others = this.inside.get(lease.key) ?? new Map<string, Lease>()
    this.inside.set(lease.key, others)
    if (lease.lock.kind === "mutex") {
      for (const other of others.values()) this.overlap(other, lease, arrived)
      this.compare(lease, accepted, arrived, others.size > 0)
    } else {
      this.count(lease, Array.from(others.values()), arrived)
      this.compareShared(lease, arrived)
    }
    others.set(lease.id, lease)
  }

  private stoodIdle({ arrived, at, id, key, lock }: Recorded & { readonly t: "acquired" }): void {
    const decide = this.idle.enters(id, key, at, lock === undefined || isExclusive(lock))
    if (decide === undefined) return
    this.later(arrived, () => {
      const idle = decide(this.faultWindows, this.lags)
      if (idle === undefined) return true
      this.found("idle", `${idle.who} waited ${idle.ms.toFixed(0)} ms for ${key}, which nobody had`, arrived)
      return true
    })
  }

  /** The lock is released, unless it was lost or its process is gone. */
  private leave(lease: Lease, arrived: number, gone = false): void {
    // A refused release is not reported: the lock ends by its ttl.
    const isHeld = lease.lostAt === undefined || lease.revokedUntil !== undefined
    const isGivenBack = !gone && isHeld && !this.faultWindows.mayRefuse(arrived)
    if (lease.over === undefined) this.outside.leaves(lease, arrived, gone)
    this.idle.leaves(lease.id, lease.key, arrived, isGivenBack ? 0 : lease.ttl)
    lease.over ??= arrived
    this.inside.get(lease.key)?.delete(lease.id)
  }

  /** Two are inside. The one with the smaller token is stale, or, without tokens, the first one. */
  private overlap(first: Lease, second: Lease, at: number): void {
    const stale = first.token !== undefined && second.token !== undefined && second.token < first.token ? second : first
    const fresh = stale === first ? second : first
    stale.stale = true
    // The second one with a smaller token may be the holder, if tokens could go back.
    if (stale === first) stale.overtakenAt ??= at
    this.later(at, (last) => {
      if (stale.over === undefined && !last) return false
      const where = `${stale.who} and ${fresh.who} in ${stale.key}`
      const excuse = this.excuse(stale, at)
      if (excuse === undefined) {
        this.found("overlap", `${where}${stale.accepted > 0 ? `, ${stale.accepted} ${unrefused}` : ""}`, at)
      } else if (stale.accepted > 0) {
        this.found("overlap", `${where}, ${excuse}, ${stale.accepted} ${unrefused}`, at)
      } else if (excuse === "paused" && stale.refused > 1) {
        this.found("after", `${stale.who} made ${stale.refused} steps in ${stale.key} after a pause`, at)
      } else this.excused[excuse]++
      return true
    })
  }

  /**
   * Are there more permits inside than the smallest capacity among them? Nobody knows whose have run out, so it is enough
   * that those without an excuse have room. One who is too much even when all others with an excuse are gone must end as
   * with a mutex: after a pause it may take one step more, which only a fence would refuse.
   */
  private count(newcomer: Lease, others: ReadonlyArray<Lease>, at: number): void {
    const inside = [newcomer, ...others].map((lease): Inside => {
      const { acceptedSteps, lock, steps } = lease
      // Its entry is a step already, and what the fence says of that is checked with its token.
      return { lease, lock, steps: lease === newcomer ? steps - 1 : steps, acceptedSteps }
    })
    const haveRoom = (those: ReadonlyArray<Inside>): boolean => fit(those.map(({ lock }) => lock))
    if (haveRoom(inside)) return
    this.later(at, (last) => {
      if (!last && inside.some(({ lease }) => lease.over === undefined)) return false
      const excuses = new Map(inside.flatMap((one) => {
        const excuse = this.excuse(one.lease, at)
        // The last that was let in has displaced the others.
        const isLast = inside.every(({ lease }) => lease.token! <= one.lease.token!)
        return excuse === undefined || isLast ? [] : [[one, excuse] as const]
      }))
      const rest = inside.filter((one) => !excuses.has(one))
      const names = inside.map(({ lease, lock }) => `${lease.who} (${lock.permits} of ${lock.capacity})`).join(" and ")
      const where = `${names} in ${newcomer.key}`
      if (!haveRoom(rest)) {
        this.found("overlap", where, at)
        return true
      }
      for (const [one, excuse] of excuses) {
        if (!haveRoom([...rest, one])) this.checkEnd(one, inside, excuse, where, at)
      }
      const [excuse] = excuses.values()
      this.excused[excuse!]++
      return true
    })
  }

  /** One of those inside was too much, and its end comes in time. */
  private checkEnd(
    { acceptedSteps, lease, lock, steps }: Inside,
    inside: ReadonlyArray<Inside>,
    excuse: Excuse,
    where: string,
    at: number
  ): void {
    const late = lease.steps - steps
    const accepted = lease.acceptedSteps - acceptedSteps
    const isFenced = isExclusive(lease.lock) && isExclusive(lock) &&
      inside.some((other) => isExclusive(other.lock) && other.lease.token! > lease.token!)
    if (isFenced && accepted > 0) {
      this.found("overlap", `${where}, ${excuse}, ${accepted} ${unrefused}`, at)
    } else if (excuse === "paused" && late > 1) {
      this.found("after", `${lease.who} made ${late} steps in ${lease.key} after a pause`, at)
    } else if (excuse !== "ignored" && !isIgnoring(lease)) {
      // Who goes on after it was asked to leave is told of no second loss.
      const asleep = this.lags.within(lease.who, at, lease.lastStepAt)
      const since = lease.lastStepAt - at
      if (since <= lease.ttl + this.limits.late + asleep) return
      this.found(
        "revived",
        `${lease.who} was in ${lease.key} ${since.toFixed(0)} ms after its permits were another's`,
        at
      )
    }
  }

  /** Tokens of a semaphore only differ. A writer's is above all earlier ones, a reader's above those of earlier writers. */
  private compareShared(lease: Lease, at: number): void {
    const { key, lock, token } = lease
    if (token === undefined) return
    const newest = this.newestShared.get(key) ?? { any: -1n, exclusive: -1n }
    const least = lock.kind === "semaphore" ? -1n : isExclusive(lock) ? newest.any : newest.exclusive
    if (token === newest.any) this.found("token", `${key} has given ${token} twice`, at)
    else if (token <= least) {
      this.later(at, () => {
        const excuse = this.excuse(lease, at)
        if (excuse === undefined) this.found("token", `${key}: ${token} after ${least}`, at)
        else this.excused[excuse]++
        return true
      })
    }
    this.newestShared.set(key, {
      any: token > newest.any ? token : newest.any,
      exclusive: isExclusive(lock) && token > newest.exclusive ? token : newest.exclusive
    })
  }

  private compare(lease: Lease, accepted: boolean, at: number, overlapping: boolean): void {
    if (lease.token === undefined) return
    const newest = this.newest.get(lease.key)
    if (newest === undefined || lease.token > newest.token) {
      this.newest.set(lease.key, { id: lease.id, token: lease.token })
    } else if (lease.token === newest.token && lease.id !== newest.id) {
      this.found("token", `${lease.key} has given ${lease.token} twice`, at)
    } else if (!overlapping) {
      this.later(at, () => {
        const excuse = this.excuse(lease, at)
        const how = accepted ? "and was accepted" : "to one who holds the lock"
        if (excuse === undefined) this.found("token", `${lease.key}: ${lease.token} after ${newest.token}, ${how}`, at)
        else this.excused[excuse]++
        return true
      })
    }
  }

  /** Why the lock may have had another holder by `at` without a fault of the library. */
  private excuse(stale: Lease, at: number): Excuse | undefined {
    // A grant that was in flight for long, or that arrived after a pause of its process, counts from its sending.
    const asleep = this.lags.within(stale.who, stale.acquiredAt - stale.ttl, stale.acquiredAt)
    const since = Math.min(stale.since, stale.acquiredAt - Math.min(stale.ttl, asleep))
    const forgot = this.faultWindows.findDataLoss(stale.key, since, at)
    if (forgot !== undefined) return "forgot"
    // It did not end for as long as its claim stood after its holder was asked to leave.
    const { lingers, lostAt, revokedUntil } = stale
    if (lingers && revokedUntil !== undefined && lostAt !== undefined) {
      // By as much as its process stood still, the loss was told after the moment from which `ago` counts.
      const toldLate = this.lags.within(stale.who, lostAt - 250, lostAt + 50)
      if (at >= revokedUntil - toldLate - rounding) return "ignored"
    }
    // Its process was paused past the deadline, and then needed time to end; or the resource had no processor and cannot tell
    // which came first.
    const { ending, guard } = this.limits
    const slept = this.lags.within(stale.who, Math.max(since, at - ending - 250), at + 20) +
      this.lags.within("resource", at - 250, at)
    return slept >= (guard - ending) / 2 || this.lags.isSilentSince(stale.who, at) ? "paused" : undefined
  }

  /**
   * Whatever faults hit the backend, a holder that was overtaken is told within one `ttl`; but while a failover is under
   * way two servers may each be somebody's primary, and then the one that was overtaken may be the one that holds.
   */
  private stillThere(lease: Lease, at: number): void {
    const { overtakenAt } = lease
    if (overtakenAt === undefined || isIgnoring(lease)) return
    const since = at - overtakenAt
    if (since < lease.ttl + this.limits.late) return
    this.later(at, () => {
      const asleep = this.lags.within(lease.who, overtakenAt, at)
      const undecided = Math.max(
        0,
        Math.min(at, this.faultWindows.endOfDataLoss(lease.key, overtakenAt, at)) - overtakenAt
      )
      if (since - undecided > lease.ttl + this.limits.late + asleep) {
        this.found("revived", `${lease.who} was in ${lease.key} ${since.toFixed(0)} ms after it was another's`, at)
      }
      return true
    })
  }

  private lost(event: Recorded & { readonly t: "lost" }): void {
    this.losses.set(event.reason, (this.losses.get(event.reason) ?? 0) + 1)
    const lease = this.leases.get(event.id)
    if (lease === undefined) return
    lease.lostAt ??= event.arrived
    if (event.revoked === true) {
      lease.revokedUntil = event.at - (event.ago ?? 0) + lease.ttl + this.limits.guard
      this.outside.loses(lease, event.at, event.arrived)
      return
    }
    this.later(event.arrived, () => {
      const from = event.at - lease.ttl
      if (this.faultWindows.mayHaveLostAnswer(lease.who, from, event.at)) return true
      if (this.faultWindows.findDataLoss(lease.key, lease.since, event.at) !== undefined) return true
      // It renews three times within a ttl.
      const lag = this.lags.within(lease.who, from, event.at) + this.lags.onTheWay(from, event.at)
      if (lag > lease.ttl / 3) return true
      this.found("gone", `${lease.who} lost ${lease.key}: ${event.reason}`, event.arrived)
      return true
    }, lease.who)
    const { ago } = event
    if (ago === undefined || ago - lease.ttl <= this.limits.late) return
    this.later(event.arrived, () => {
      const late = ago - lease.ttl
      const lag = this.lags.within(lease.who, event.at - late, event.at + 20)
      if (late > this.limits.late + lag) {
        this.found("late", `${lease.who} on ${lease.key}: ${event.reason}, ${late.toFixed(0)} ms late`, event.arrived)
      }
      return true
    }, lease.who)
  }

  private later(at: number, decide: (last: boolean) => boolean, who?: string): void {
    this.open.push({ at, of: who === undefined ? onTheWay : [...onTheWay, who], decide })
  }

  private found(rule: Rule, text: string, at: number): void {
    if (!this.limits.without.includes(rule)) this.violations.push({ rule, text, at })
  }
}

import * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import { LockTimeout, LossReason } from "../../LockError.ts"
import * as LockMetrics from "../../LockMetrics.ts"
import type { Time } from "../scheduling/time.ts"
import { counter, type Distribution, distribution, gauge, type Total } from "./series.ts"

/** How the wait of a call ended, other than with the lock. */
type Failure = "timeout" | "interrupted" | "failed"

/** What a gauge counts. */
interface Count {
  value: number
}

/** A call that asks for a lock and has neither got it nor ended. */
export class Waiter {
  readonly meter: Meter
  readonly startedAt: number
  previous: Waiter | undefined
  next: Waiter | undefined
  isWaiting = true
  /** Whether it is in the list of those that wait. A candidate for a leadership is not. */
  isListed = false

  constructor(meter: Meter, startedAt: number) {
    this.meter = meter
    this.startedAt = startedAt
  }
}

/** The calls that wait, the oldest one first. To add and to remove one is cheap, because every acquire does both. */
export class Waiters {
  private first: Waiter | undefined
  private last: Waiter | undefined
  size = 0

  add(waiter: Waiter): void {
    waiter.isListed = true
    let before = this.last
    // A call that asks anew may have waited for longer than those that came meanwhile.
    while (before !== undefined && isBefore(waiter, before)) before = before.previous
    const next = before === undefined ? this.first : before.next
    waiter.previous = before
    waiter.next = next
    if (before === undefined) this.first = waiter
    else before.next = waiter
    if (next === undefined) this.last = waiter
    else next.previous = waiter
    this.size++
  }

  remove(waiter: Waiter): void {
    waiter.isWaiting = false
    if (!waiter.isListed) return
    waiter.isListed = false
    const { next, previous } = waiter
    if (previous === undefined) this.first = next
    else previous.next = next
    if (next === undefined) this.last = previous
    else next.previous = previous
    // A waiter may be remembered for longer than the list, and must not keep the others.
    waiter.previous = undefined
    waiter.next = undefined
    this.size--
  }

  /** For how many milliseconds the oldest one has waited, by its own clock. */
  get oldestWait(): number {
    const { first } = this
    return first === undefined ? 0 : Math.max(0, first.meter.time.now() - first.startedAt)
  }
}

/** Whether one waiter has waited for longer than another. Times by different clocks cannot be compared. */
const isBefore = (one: Waiter, other: Waiter): boolean =>
  one.startedAt < other.startedAt && one.meter.time === other.meter.time

/** The metrics of the locks of one kind and one name. It finds each series once, so that an update is one call. */
export class Meter {
  readonly time: Time
  private readonly context: Context.Context<never>
  private readonly attributes: Readonly<Record<string, string>>
  private readonly waiters: Waiters
  private readonly held: Count
  private readonly granted: Distribution
  private readonly failures = new Map<Failure, Distribution>()
  private readonly hold: Distribution
  private readonly acquiredTotal: Total
  private readonly releasedTotal: Total
  private readonly busyTotal: Total
  private readonly renewalFailures: Total
  /** All reasons from the beginning: a counter whose first value is 1 seems never to have risen. */
  private readonly lostTotal: Readonly<Record<LossReason, Total>>
  private slack: { readonly millis: Distribution; readonly ratio: Distribution } | undefined

  constructor(time: Time, context: Context.Context<never>, attributes: Readonly<Record<string, string>>) {
    this.time = time
    this.context = context
    this.attributes = attributes
    const makeWaiters = () => new Waiters()
    this.waiters = gauge(LockMetrics.waiting, attributes, context, makeWaiters, ({ size }) => BigInt(size))
    gauge(LockMetrics.oldestWait, attributes, context, () => this.waiters, ({ oldestWait }) => oldestWait)
    this.held = gauge(LockMetrics.held, attributes, context, () => ({ value: 0 }), ({ value }) => BigInt(value))
    this.granted = distribution(LockMetrics.wait, { ...attributes, outcome: "granted" }, context)
    this.hold = distribution(LockMetrics.hold, attributes, context)
    this.acquiredTotal = counter(LockMetrics.acquired, attributes, context)
    this.releasedTotal = counter(LockMetrics.released, attributes, context)
    this.busyTotal = counter(LockMetrics.busy, attributes, context)
    this.renewalFailures = counter(LockMetrics.renewalFailures, attributes, context)
    const lost = LossReason.literals.map((reason) =>
      [reason, counter(LockMetrics.lost, { ...attributes, reason }, context)] as const
    )
    this.lostTotal = Object.fromEntries(lost) as Record<LossReason, Total>
  }

  /** A call asks for a lock. Every waiter ends once, by one of the methods below. */
  begin(startedAt: number): Waiter {
    const waiter = new Waiter(this, startedAt)
    this.waiters.add(waiter)
    return waiter
  }

  /** A candidate stands for a leadership. It is counted when it is elected, and not as one that waits. */
  stand(startedAt: number): Waiter {
    return new Waiter(this, startedAt)
  }

  /** The call got the lock. */
  grant(waiter: Waiter, now: number): void {
    this.waiters.remove(waiter)
    this.granted.add(now - waiter.startedAt)
    this.acquiredTotal.add()
    this.held.value++
  }

  /** The call ended without the lock. */
  fail(waiter: Waiter, cause: Cause.Cause<unknown>, now: number): void {
    this.waiters.remove(waiter)
    const outcome = failureOf(cause)
    let failed = this.failures.get(outcome)
    if (failed === undefined) {
      failed = distribution(LockMetrics.wait, { ...this.attributes, outcome }, this.context)
      this.failures.set(outcome, failed)
    }
    failed.add(now - waiter.startedAt)
  }

  /** The call does not wait, and found the lock held. */
  refuse(waiter: Waiter): void {
    this.forget(waiter)
    this.busyTotal.add()
  }

  /** The call needs no lock any more. */
  forget(waiter: Waiter): void {
    this.waiters.remove(waiter)
  }

  release(acquiredAt: number, now: number): void {
    this.releasedTotal.add()
    this.end(acquiredAt, now)
  }

  lose(acquiredAt: number, now: number, reason: LossReason): void {
    this.lostTotal[reason].add()
    this.end(acquiredAt, now)
  }

  private end(acquiredAt: number, now: number): void {
    this.held.value--
    this.hold.add(now - acquiredAt)
  }

  /** A renewal was confirmed when `left` of `ttl` were left. */
  renew(left: number, ttl: number): void {
    this.slack ??= {
      millis: distribution(LockMetrics.deadlineSlack, this.attributes, this.context),
      ratio: distribution(LockMetrics.deadlineSlackRatio, this.attributes, this.context)
    }
    this.slack.millis.add(left)
    this.slack.ratio.add(left / ttl)
  }

  failRenewal(): void {
    this.renewalFailures.add()
  }
}

const failureOf = (cause: Cause.Cause<unknown>): Failure => {
  if (Cause.hasInterruptsOnly(cause)) return "interrupted"
  const isTimeout = cause.reasons.some((reason) => Cause.isFailReason(reason) && reason.error instanceof LockTimeout)
  return isTimeout ? "timeout" : "failed"
}

import type * as Cause from "effect/Cause"
import type * as Effect from "effect/Effect"
import type { LockBackendError, LossReason, OwnershipLost } from "../../LockError.ts"
import type { Time } from "../scheduling/time.ts"
import { GroupedLog } from "./groupedLog.ts"
import type { Log } from "./log.ts"
import type { Meter, Waiter } from "./meter.ts"
import type { CallOutcome, Meters, StoreOperation } from "./meters.ts"
import { type Outage, wordsOf } from "./outage.ts"

/** What a lease keeps for the metrics. */
export interface Measured {
  /** Absent until its caller has it. */
  meter: Meter | undefined
  /** When its caller got it. */
  acquiredAt: number
}

/**
 * Every event of a lock, one method for each. Only these methods decide what is logged and what is measured.
 *
 * Times are milliseconds of the monotonic clock (`Time.now`), and durations are milliseconds.
 */
export class Events {
  private readonly log: Log
  private readonly outage: Outage
  private readonly time: Time
  private readonly meters: Meters
  private readonly losses: GroupedLog
  private readonly longHolds: GroupedLog
  private readonly revocations: GroupedLog
  private isShortTtlTold = false
  private isUnshrinkableTold = false
  private readonly toldOfCapacity = new Set<string>()

  constructor(
    log: Log,
    outage: Outage,
    time: Time,
    meters: Meters,
    fork: (effect: Effect.Effect<void>) => unknown
  ) {
    this.log = log
    this.outage = outage
    this.time = time
    this.meters = meters
    this.losses = new GroupedLog(log, time, fork, "also lost")
    this.longHolds = new GroupedLog(log, time, fork, "also")
    this.revocations = new GroupedLog(log, time, fork, "also asked to leave")
  }

  // Acquire.

  /** The caller got a lock, at the time `now`. */
  granted(lease: Measured, waiter: Waiter, now: number): void {
    const { meter } = waiter
    lease.meter = meter
    lease.acquiredAt = now
    meter.grant(waiter, now)
  }

  /** A caller that does not wait found the lock held. */
  foundHeld(waiter: Waiter): void {
    waiter.meter.refuse(waiter)
  }

  /** An acquire ended without a lock. */
  notGranted(waiter: Waiter, cause: Cause.Cause<unknown>): void {
    waiter.meter.fail(waiter, cause, this.time.now())
  }

  /** A request for a lock was not answered, and will be sent again. */
  acquireUnanswered(key: string, error: LockBackendError): void {
    this.outage.noteUnanswered(error, key)
  }

  /** An acquire failed because the backend did not answer. */
  acquireFailed(key: string, error: LockBackendError): void {
    this.outage.noteFailed("acquire", error, key, 1)
  }

  /** A lock has a ttl that an ordinary pause of this process can exceed. It is logged once for each locker. */
  ttlTooShort(key: string, ttl: number): void {
    if (this.isShortTtlTold) return
    this.isShortTtlTold = true
    this.log.warn(
      `The ttl of ${ttl} ms is below 1 s: a pause of this process, such as garbage collection, can lose the lock (logged once)`,
      { key }
    )
  }

  /** Claims on a key know different capacities. It is logged once for each key. */
  capacityDiffers(key: string, here: number, inUse: number): void {
    if (this.toldOfCapacity.has(key)) return
    if (this.toldOfCapacity.size >= mostTold) this.toldOfCapacity.clear()
    this.toldOfCapacity.add(key)
    this.log.warn(
      `The capacity changed: ${here} here, ${inUse} in use. The smaller one rules until all processes agree (logged once for each key)`,
      { key }
    )
  }

  /** The store cannot let readers in beside a writer that would let them in. It is logged once for each locker. */
  cannotShrink(key: string): void {
    if (this.isUnshrinkableTold) return
    this.isUnshrinkableTold = true
    this.log.warn("The lock store has no shrink, so readers wait until a downgraded write lock ends (logged once)", {
      key
    })
  }

  // Renewal.

  /** A renewal confirmed a lock when `left` of its `ttl` were left. */
  renewed({ meter }: Measured, left: number, ttl: number): void {
    meter?.renew(left, ttl)
  }

  /** A renewal of this lock failed. It will be sent again. */
  notRenewed({ meter }: Measured): void {
    meter?.failRenewal()
  }

  /** A call with the renewals of `count` locks was not answered. They will be sent again. */
  renewalFailed(key: string, error: LockBackendError, count: number): void {
    this.outage.noteFailed("renewal", error, key, count)
  }

  // The cap on holding. All durations are milliseconds.

  /** A lock was held for four fifths of its cap, and has `left` until its program is interrupted. */
  nearMaxHold(key: string, maxHold: number, left: number): void {
    const held = `has been held for ${seconds(maxHold - left)} of its maxHold of ${seconds(maxHold)}`
    this.longHolds.add({ key, message: `The lock ${JSON.stringify(key)} ${held}, and is lost in ${seconds(left)}` })
  }

  /** A lock was not released within `gap` after its cap. Its renewals stopped, and it expires in `left`. */
  overstayed(key: string, gap: number, left: number): void {
    this.log.warn(
      `The lock was not released within ${seconds(gap)} after its maxHold, so it is renewed no more and runs out in ${
        seconds(left)
      }: does its program ignore the interruption?`,
      { key }
    )
  }

  /** A lock was lost while the program ended that its cap or a revocation had interrupted. */
  lostWhileEnding(key: string, reason: LossReason, ended: "maxHold" | "revocation"): void {
    this.log.warn(`The lock was lost (${reason}) while its program ended after its ${ended}`, { key })
  }

  // Revocation.

  /** The holder of a lock was asked to leave within `grace`. */
  askedToLeave(key: string, { by, why }: { readonly by: string; readonly why?: string }, grace: number): void {
    const because = why === undefined ? "" : `: ${why}`
    this.revocations.add({
      key,
      message: `The holder of the lock ${JSON.stringify(key)} is asked to leave within ${
        seconds(grace)
      } by ${by}${because}`
    })
  }

  /** The program of a revoked lock did not end before the deadline. Its claim is over in `gap`. */
  ranOut(key: string, gap: number): void {
    this.log.warn(
      `The revoked lock was not released before it ran out, and others get it in ${
        seconds(gap)
      }: does its program ignore the interruption?`,
      { key }
    )
  }

  // Release and loss.

  /** The holder released the lock at the time `now`. */
  released({ acquiredAt, meter }: Measured, now: number): void {
    meter?.release(acquiredAt, now)
  }

  /** A release was not answered, and will be sent again. */
  releaseUnanswered(key: string, error: LockBackendError): void {
    this.outage.noteUnanswered(error, key)
  }

  /** A caller stopped waiting for its release. The release continues in the background. */
  releaseFailed(key: string, error: LockBackendError): void {
    this.outage.noteFailed("release", error, key, 1)
  }

  /** The backend refused a release. It will be tried again. */
  releaseRefused(key: string, cause: unknown): void {
    if (this.outage.noteRefused("release")) return
    this.log.warn(
      `The lock was not released, so others wait until its ttl ends or a retry succeeds: ${wordsOf(cause)}`,
      {
        key
      }
    )
  }

  /** A lock was lost. */
  lost({ acquiredAt, meter }: Measured, loss: OwnershipLost): void {
    meter?.lose(acquiredAt, this.time.now(), loss.reason)
    this.losses.add(loss)
  }

  /** A section that had entered a lock again lost it. The lock itself is still held. */
  lostByView(loss: OwnershipLost): void {
    this.losses.add(loss)
  }

  // The backend.

  /** A call to the store has ended. */
  called(operation: StoreOperation, millis: number, outcome: CallOutcome): void {
    this.meters.called(operation, millis, outcome)
  }

  /** The backend answered a call. A refusal is an answer too. */
  answered(key: string): void {
    this.outage.noteAnswered(key)
  }

  // Defects, in this package or in the program.

  /** A callback at the end of a fiber threw, for example an observer that the program added to the fiber. */
  observerThrew(error: unknown, key?: string): void {
    observerThrew(this.log, error, key)
  }

  /** A defect ended the renewals of `count` locks, which are now lost. */
  renewalBroke(defect: unknown, count: number, key: string | undefined): void {
    const locks = count === 1 ? "a lock" : `${count} locks`
    this.log.error(`A defect in dlock or its store ended the renewal of ${locks}, now lost`, defect, { key })
  }

  /** A defect ended the store's stream of losses. */
  lossesBroke(defect: unknown): void {
    this.log.error(
      "A defect in the lock store ended its reports of lost locks. Renewals and deadlines still find each loss",
      defect
    )
  }

  /** A defect ended the store's watch for claims that wait behind a lock. */
  contentionBroke(defect: unknown, key: string): void {
    this.log.error("A defect in the lock store: `contended` of a lease never completes", defect, { key })
  }

  /** The locker closes. */
  close(): void {
    this.losses.flush()
    this.longHolds.flush()
    this.revocations.flush()
  }
}

const seconds = (millis: number): string => `${Math.round(millis) / 1_000} s`

/** How many keys are remembered of which a warning was logged. */
const mostTold = 1_000

// The same events for stores and timers, which have no locker.

export const observerThrew = (log: Log, error: unknown, key?: string): void =>
  log.error("A callback at the end of a fiber threw an error: look for a Fiber.addObserver that throws", error, { key })

/** The tracer of the program, or what it exports to, threw. The lock is held or waited for all the same. */
export const tracerThrew = (log: Log, error: unknown): void =>
  log.error("The tracer threw an error, so a span of a lock is wrong or missing", error)

/** The callback of a timer threw. The timer continues. */
export const timerBroke = (log: Log, defect: unknown): void =>
  log.error("A timer callback of dlock or its store threw an error. The timer continues", defect)

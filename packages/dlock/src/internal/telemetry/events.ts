import type * as Effect from "effect/Effect"
import type { AcquireError, CapacityMismatch, LockBackendError, OwnershipLost } from "../../LockError.ts"
import type { Time } from "../scheduling/time.ts"
import type { Log } from "./log.ts"
import { LossLog } from "./lossLog.ts"
import { type Outage, wordsOf } from "./outage.ts"

/**
 * Every event in a lock's life, each one method: what is logged of it is said here and nowhere else. A method that logs
 * nothing is the place for a metric or a span event; it costs its call.
 *
 * Tokens are fencing tokens. Times are milliseconds of the monotonic clock (`Time.now`), durations milliseconds.
 */
export class Events {
  private readonly log: Log
  private readonly outage: Outage
  private readonly losses: LossLog
  private isShortTtlTold = false

  constructor(log: Log, outage: Outage, time: Time, fork: (effect: Effect.Effect<void>) => unknown) {
    this.log = log
    this.outage = outage
    this.losses = new LossLog(log, time, fork)
  }

  // An acquire, from its call at `startedAt`.

  /** A lock was granted. `confirmedAt` is when the request was sent that the grant counts from. */
  granted(_key: string, _token: bigint, _startedAt: number, _confirmedAt: number): void {}

  /** A key was held by others, and its caller did not wait. */
  foundHeld(_key: string, _startedAt: number): void {}

  /** An acquire ended without a lock; `why` is absent where it was interrupted or died of a defect. */
  notGranted(_key: string, _why: AcquireError | CapacityMismatch | undefined, _startedAt: number): void {}

  /** A request for a lock was not answered, and goes out again. */
  acquireUnanswered(key: string, error: LockBackendError): void {
    this.outage.noteUnanswered(error, key)
  }

  /** The caller of an acquire is told that the backend did not answer. */
  acquireFailed(key: string, error: LockBackendError): void {
    this.outage.noteFailed("acquire", error, key, 1)
  }

  /** A lock has so short a ttl that an ordinary delay of this process can lose it. Logged once for a locker. */
  ttlTooShort(key: string, ttl: number): void {
    if (this.isShortTtlTold) return
    this.isShortTtlTold = true
    this.log.warn(
      `The ttl of ${ttl} ms is below 1 s: a pause of this process, such as garbage collection, can lose the lock (logged once)`,
      { key }
    )
  }

  // Renewals.

  /** A renewal, sent at `sentAt`, confirmed a lock. */
  renewed(_key: string, _token: bigint, _sentAt: number): void {}

  /** The renewals of so many locks, which went together, were not answered; they go out again. */
  renewalFailed(key: string, error: LockBackendError, count: number): void {
    this.outage.noteFailed("renewal", error, key, count)
  }

  // The end of a lock.

  /** The holder gave the lock up; `grantedAt` is what its grant counted from. */
  released(_key: string, _token: bigint, _grantedAt: number): void {}

  /** A release was not answered, and goes out again. */
  releaseUnanswered(key: string, error: LockBackendError): void {
    this.outage.noteUnanswered(error, key)
  }

  /** A release was waited for in vain; it goes on behind its caller. */
  releaseFailed(key: string, error: LockBackendError): void {
    this.outage.noteFailed("release", error, key, 1)
  }

  /** The backend refused a release, which is tried again now and then. */
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
  lost(loss: OwnershipLost): void {
    this.losses.add(loss)
  }

  // The backend.

  /** A call was answered, be it with a refusal. */
  answered(key: string): void {
    this.outage.noteAnswered(key)
  }

  // Faults of code, ours or that of a program.

  /** What runs when a fiber ends, such as an observer that the program put on it, threw. */
  observerThrew(error: unknown, key?: string): void {
    observerThrew(this.log, error, key)
  }

  /** The renewals of so many locks died of a defect, and these are lost. */
  renewalBroke(defect: unknown, count: number, key: string | undefined): void {
    const locks = count === 1 ? "a lock" : `${count} locks`
    this.log.error(`A defect ended the renewal of ${locks}, now lost. It is in dlock or its store`, defect, { key })
  }

  /** The store's stream of losses died of a defect. */
  lossesBroke(defect: unknown): void {
    this.log.error(
      "A defect in the lock store ended its reports of lost locks. Renewals and deadlines still find each loss",
      defect
    )
  }

  /** The locker goes. */
  close(): void {
    this.losses.flush()
  }
}

// The same for those who have no locker: stores, and timers, which both have.

export const observerThrew = (log: Log, error: unknown, key?: string): void =>
  log.error("A callback at the end of a fiber threw an error: look for a Fiber.addObserver that throws", error, { key })

/** What a timer does threw; the timer goes on. */
export const timerBroke = (log: Log, defect: unknown): void =>
  log.error("A defect interrupted a timer of dlock or its store. The timer goes on", defect)

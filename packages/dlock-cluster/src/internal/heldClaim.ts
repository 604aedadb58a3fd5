import type { LossReason } from "effect-dlock/LockError"
import { OwnershipLost } from "effect-dlock/LockError"
import type { Claim, Granted, Held } from "effect-dlock/LockStore"
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"

/** A moment by both clocks: a machine that slept is found by the wall clock alone. */
export interface Moment {
  /** Milliseconds of the monotonic clock. */
  readonly at: number
  /** The wall clock minus the monotonic clock, in milliseconds. */
  readonly wallClockLead: number
}

export const momentOf = (clock: Clock.Clock): Moment => {
  const at = fromNanos(clock.monotonicTimeNanosUnsafe())
  return { at, wallClockLead: clock.currentTimeMillisUnsafe() - at }
}

const fromNanos = (nanos: bigint): number => Number(nanos) / 1_000_000

/** A claim that was granted, and until when this process may trust it. */
export class HeldClaim implements Held {
  readonly claim: Claim
  readonly fencingToken: bigint
  /** The claim's key without the prefix. */
  readonly key: string
  private readonly ttl: number
  private confirmedAt: number
  private wallClockLead: number

  /** `sent` was read before the request was sent. */
  constructor(claim: Claim, granted: Granted, sent: Moment) {
    this.claim = claim
    this.key = claim.key.slice(claim.prefix.length)
    this.fencingToken = granted.fencingToken
    this.ttl = Duration.toMillis(claim.ttl)
    this.confirmedAt = fromNanos(granted.confirmedAt)
    this.wallClockLead = sent.wallClockLead
  }

  /** Extends the deadline. `sent` was read before the confirmed request was sent. */
  confirm(confirmedAt: bigint, sent: Moment): void {
    const at = fromNanos(confirmedAt)
    if (at < this.confirmedAt) return
    this.confirmedAt = at
    this.wallClockLead = sent.wallClockLead
  }

  /** How many milliseconds ago the last confirmation was requested, by the clock that says more. */
  age({ at, wallClockLead }: Moment): number {
    // The wall clock may be moved, so it counts only for what no correction of a clock explains: a whole ttl.
    const slept = wallClockLead - this.wallClockLead
    return at - this.confirmedAt + (slept > this.ttl ? slept : 0)
  }

  /** How many milliseconds this process may trust the claim. Zero or less after its deadline. */
  remaining(now: Moment): number {
    return this.ttl - this.age(now)
  }

  lost(reason: LossReason, now: Moment): OwnershipLost {
    return new OwnershipLost({
      key: this.key,
      fencingToken: this.fencingToken,
      reason,
      lastConfirmedAgo: Duration.millis(Math.max(0, this.age(now)))
    })
  }
}

/** What this process knows of one claim. */

import type { LockBackendError } from "effect-dlock/LockError"
import type { Ahead, Claim, Gone, Granted } from "effect-dlock/LockStore"
import type { StoreTelemetry } from "effect-dlock/StoreTelemetry"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { Tally } from "../client/port.ts"
import type { LockKeys } from "../protocol/keys.ts"

/**
 * What this process knows of a claim, from its first request to its end.
 *
 * A grant that is told by a notification proves nothing by its arrival: it may have been under way for long. It counts
 * from a request whose answer said "still queued", the latest of those, and only if its token is above the `floor` that
 * this answer named: then the grant came after that request ran, which had set the claim's time to live. The first
 * request of a claim always qualifies, since the claim did not exist before it.
 */
export class TrackedClaim implements Tally {
  readonly claim: Claim
  readonly keys: LockKeys
  private readonly telemetry: StoreTelemetry
  /** Milliseconds, like the next. */
  readonly ttl: number
  readonly guard: number
  /**
   * `confirming`: granted, which counts when enough replicas have it. `withdrawing`: from the decision to withdraw it
   * to the server's answer; whatever comes for it meanwhile is not for us, and it is not asked for again.
   */
  state: "asking" | "queued" | "confirming" | "held" | "withdrawing" = "asking"
  /**
   * Known to a server that we have left since. What that one grants must not be believed, and a notification does not
   * say by whom.
   */
  isKnownElsewhere = false
  /** Its place in the queue, counted as its `QueueGroup` counts; absent while it has none. */
  place: number | undefined
  /** There is reason to ask how it stands as soon as it has a place. */
  isHurried = false
  /** Milliseconds of monotonic time at which its place must be kept alive. */
  keepAt = Infinity
  /** What stood before it when it ceased to wait. */
  lastAhead: Ahead | undefined
  /** When the last request was sent that the server answered with a place. */
  confirmedAt = 0n

  /** Requests that were sent, and of which it is not known whether they have run. */
  private unanswered = 0
  private hasRun = false
  private underWay = 0
  private whenNoneIsUnderWay: (() => void) | undefined
  private outcome: Deferred.Deferred<Granted | Gone, LockBackendError> | undefined
  private given: Granted | undefined
  private firstSentAt: bigint | undefined
  private base: { readonly sentAt: bigint; readonly floor: bigint } | undefined

  constructor(claim: Claim, keys: LockKeys, telemetry: StoreTelemetry) {
    this.telemetry = telemetry
    this.claim = claim
    this.keys = keys
    this.ttl = Duration.toMillis(claim.ttl)
    this.guard = Duration.toMillis(claim.guardGap)
  }

  get isWithdrawn(): boolean {
    return this.state === "withdrawing"
  }

  /** A server may yet come to know of it, after it was withdrawn: it must find the claim cancelled. */
  get isInDoubt(): boolean {
    return this.unanswered > 0
  }

  /** No server has ever heard of it, nor will. */
  get isUnheardOf(): boolean {
    return this.unanswered === 0 && !this.hasRun
  }

  /** A notification for it may be under way: it has had a place, for all that is known, and not only a grant at once. */
  get mayBeNotified(): boolean {
    return this.base !== undefined || this.given === undefined
  }

  noteSent(at: bigint): void {
    // What a grant counts from that overtakes the answer to the first.
    this.firstSentAt ??= at
    this.unanswered++
    this.underWay++
  }

  noteAnswered(hasRun: boolean): void {
    this.unanswered--
    if (hasRun) this.hasRun = true
  }

  noteEnded(): void {
    if (--this.underWay > 0) return
    const waiting = this.whenNoneIsUnderWay
    this.whenNoneIsUnderWay = undefined
    if (waiting !== undefined) this.telemetry.callBack(waiting, this.claim.key)
  }

  /** Whether every request has its answer, or will have none. */
  get isIdle(): boolean {
    return this.underWay === 0
  }

  /** Waits until that is so. */
  get idle(): Effect.Effect<void> {
    return Effect.callback((resume) => {
      const before = this.whenNoneIsUnderWay
      this.whenNoneIsUnderWay = () => {
        before?.()
        resume(Effect.void)
      }
    })
  }

  /** Forgets a grant that came too late to be believed, before it is asked for again: it must not answer for the next. */
  askAgain(): void {
    if (this.state !== "held") return
    this.state = "asking"
    this.outcome = undefined
    this.given = undefined
  }

  /** How its wait ends. A claim that is granted at once is never asked. */
  get granted(): Deferred.Deferred<Granted | Gone, LockBackendError> {
    if (this.outcome === undefined) {
      this.outcome = Deferred.makeUnsafe()
      if (this.given !== undefined) Deferred.doneUnsafe(this.outcome, Effect.succeed(this.given))
    }
    return this.outcome
  }

  /** Takes in an answer that said "still queued". False for an old one, or about a claim that is held by now. */
  notePlace(sentAt: bigint, floor: bigint): boolean {
    if (this.state !== "asking" && this.state !== "queued") return false
    this.state = "queued"
    if (this.base !== undefined && this.base.sentAt > sentAt) return false
    this.base = { sentAt, floor }
    this.confirmedAt = sentAt
    return true
  }

  /** From when a grant counts that a notification tells; `undefined` where it is too old to be believed. */
  baseOf(token: bigint, now: bigint): bigint | undefined {
    const sentAt = this.base !== undefined && token > this.base.floor ? this.base.sentAt : this.firstSentAt
    if (sentAt === undefined) return undefined
    return now < sentAt + Duration.toNanosUnsafe(this.claim.ttl) ? sentAt : undefined
  }

  grant(fencingToken: bigint, confirmedAt: bigint): Granted {
    this.state = "held"
    const given: Granted = { _tag: "Granted", fencingToken, ttl: this.claim.ttl, confirmedAt }
    this.given = given
    // Who waited runs on at once, within this, and may ask again.
    const { outcome } = this
    if (outcome !== undefined) {
      this.telemetry.callBack(() => Deferred.doneUnsafe(outcome, Effect.succeed(given)), this.claim.key)
    }
    return given
  }

  /** Ends its wait without a grant. */
  endWait(outcome: Effect.Effect<Gone, LockBackendError>): void {
    this.telemetry.callBack(() => Deferred.doneUnsafe(this.granted, outcome), this.claim.key)
  }
}

export const toMillis = (nanos: bigint): number => Number(nanos) / 1_000_000

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
 * A notification of a grant may be arbitrarily old, so its time of arrival proves nothing. The grant counts from the
 * latest request that was answered "still queued", and only if its token is above the `floor` in that answer. Then the
 * grant came after that request ran, and that request had set the claim's ttl. The first request of a claim always
 * qualifies, because the claim did not exist before.
 */
export class TrackedClaim implements Tally {
  readonly claim: Claim
  readonly keys: LockKeys
  private readonly telemetry: StoreTelemetry
  /** Milliseconds. `guard` too. */
  readonly ttl: number
  readonly guard: number
  /**
   * - `confirming`: the claim is granted, and the grant counts when enough replicas have it.
   * - `withdrawing`: from the decision to withdraw the claim until the server's answer. Messages for the claim are
   *   ignored, and the claim is not requested again.
   */
  state: "asking" | "queued" | "confirming" | "held" | "withdrawing" = "asking"
  /**
   * Whether a server knows this claim that we have since left. Grants by that server must not count, and a notification
   * does not say which server sent it.
   */
  isKnownElsewhere = false
  /** Its place in the queue, as its `QueueGroup` counts places. `undefined` while it has no place. */
  place: number | undefined
  /** Whether the claim must ask for its state at once, or as soon as it has a place. An answer on its way does not do. */
  isHurried = false
  /** When its place must be refreshed, in milliseconds of monotonic time. */
  keepAt = Infinity
  /** What was in front of the claim when it stopped waiting. */
  lastAhead: Ahead | undefined
  /** When the latest request was sent that the server answered with a place. */
  confirmedAt = 0n

  /** The number of sent requests that may or may not have run. */
  private unanswered = 0
  private hasRun = false
  private inFlight = 0
  private whenNoneIsInFlight: (() => void) | undefined
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

  /** Whether a server may first hear of the claim after its withdrawal. If so, it must find the claim cancelled. */
  get isInDoubt(): boolean {
    return this.unanswered > 0
  }

  /** Whether no server has ever heard of the claim or will. */
  get isUnheardOf(): boolean {
    return this.unanswered === 0 && !this.hasRun
  }

  /**
   * Whether a notification for the claim may be on its way. It may, if the claim may have had a place, instead of being
   * granted at once.
   */
  get mayBeNotified(): boolean {
    return this.base !== undefined || this.given === undefined
  }

  noteSent(at: bigint): void {
    // A notification may overtake the answer to the first request. Its grant counts from here.
    this.firstSentAt ??= at
    this.unanswered++
    this.inFlight++
  }

  noteAnswered(hasRun: boolean): void {
    this.unanswered--
    if (hasRun) this.hasRun = true
  }

  noteEnded(): void {
    if (--this.inFlight > 0) return
    const waiting = this.whenNoneIsInFlight
    this.whenNoneIsInFlight = undefined
    if (waiting !== undefined) this.telemetry.callBack(waiting, this.claim.key)
  }

  /** Whether every request has been answered, or will not be. */
  get isIdle(): boolean {
    return this.inFlight === 0
  }

  /** Waits until the claim is idle. */
  get idle(): Effect.Effect<void> {
    return Effect.callback((resume) => {
      const before = this.whenNoneIsInFlight
      this.whenNoneIsInFlight = () => {
        before?.()
        resume(Effect.void)
      }
    })
  }

  /**
   * Forgets a grant that came too late to count, before the claim is requested again. Otherwise it would answer the new
   * request.
   */
  askAgain(): void {
    if (this.state !== "held") return
    this.state = "asking"
    this.outcome = undefined
    this.given = undefined
  }

  /** How the wait ends. Not created for a claim that is granted at once. */
  get granted(): Deferred.Deferred<Granted | Gone, LockBackendError> {
    if (this.outcome === undefined) {
      this.outcome = Deferred.makeUnsafe()
      if (this.given !== undefined) Deferred.doneUnsafe(this.outcome, Effect.succeed(this.given))
    }
    return this.outcome
  }

  /** Records an answer "still queued". Returns false for an old answer, and for a claim that is already held. */
  notePlace(sentAt: bigint, floor: bigint): boolean {
    if (this.state !== "asking" && this.state !== "queued") return false
    this.state = "queued"
    if (this.base !== undefined && this.base.sentAt > sentAt) return false
    this.base = { sentAt, floor }
    this.confirmedAt = sentAt
    return true
  }

  /** From when a notified grant counts, or `undefined` if it is too old to count. */
  baseOf(token: bigint, now: bigint): bigint | undefined {
    const sentAt = this.base !== undefined && token > this.base.floor ? this.base.sentAt : this.firstSentAt
    if (sentAt === undefined) return undefined
    return now < sentAt + Duration.toNanosUnsafe(this.claim.ttl) ? sentAt : undefined
  }

  grant(fencingToken: bigint, confirmedAt: bigint): Granted {
    this.state = "held"
    const given: Granted = { _tag: "Granted", fencingToken, ttl: this.claim.ttl, confirmedAt }
    this.given = given
    // The waiting fiber runs at once, inside this call, and may request the claim again.
    const { outcome } = this
    if (outcome !== undefined) {
      this.telemetry.callBack(() => Deferred.doneUnsafe(outcome, Effect.succeed(given)), this.claim.key)
    }
    return given
  }

  /** Ends the wait without a grant. */
  endWait(outcome: Effect.Effect<Gone, LockBackendError>): void {
    this.telemetry.callBack(() => Deferred.doneUnsafe(this.granted, outcome), this.claim.key)
  }
}

/** The tally of a request for several claims. */
export const tallyOf = (all: ReadonlyArray<TrackedClaim>): Tally => ({
  get isWithdrawn() {
    return all.some(({ isWithdrawn }) => isWithdrawn)
  },
  noteSent: (at) => all.forEach((tracked) => tracked.noteSent(at)),
  noteAnswered: (hasRun) => all.forEach((tracked) => tracked.noteAnswered(hasRun)),
  noteEnded: () => all.forEach((tracked) => tracked.noteEnded())
})

export const toMillis = (nanos: bigint): number => Number(nanos) / 1_000_000

import type { LockBackendError } from "effect-dlock/LockError"
import type { Ahead, Claim, Gone, Granted } from "effect-dlock/LockStore"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { Names } from "./names.ts"
import type { Tally } from "./port.ts"

/**
 * What this process knows of a claim, from its first request to its end.
 *
 * A pushed grant proves nothing by its arrival: it may have been under way for long. It counts from a request whose
 * answer said "still queued", the latest of those, and only if its token is above the `floor` that this answer named:
 * then the grant came after that request ran, which had set the claim's time to live. The first request of a claim
 * always qualifies, since the claim did not exist before it.
 */
export class Entry implements Tally {
  readonly claim: Claim
  readonly names: Names
  unanswered = 0
  /**
   * `confirming`: granted, which counts when enough replicas have it. `leaving`: to be left, from the decision to the
   * server's answer; whatever comes for it meanwhile is not for us, and it is not asked for again.
   */
  state: "asking" | "queued" | "confirming" | "held" | "leaving" = "asking"
  /** Known to a server that was left since. What that one grants must not be believed, and a push does not say by whom. */
  isKnownElsewhere = false
  ahead: Ahead = alone
  /** Milliseconds of monotonic time; set while it is queued. */
  refreshAt = Infinity
  /** Milliseconds: when there was last reason to ask at once. An answer to what was sent before does not settle it. */
  hurriedAt = -Infinity
  /** When the last request was sent that the server answered with a place. */
  confirmedAt = 0n

  private outcome: Deferred.Deferred<Granted | Gone, LockBackendError> | undefined
  private given: Granted | undefined
  private firstSentAt: bigint | undefined
  private base: { readonly sentAt: bigint; readonly floor: bigint } | undefined

  constructor(claim: Claim, names: Names) {
    this.claim = claim
    this.names = names
  }

  /** Before each request; what a grant counts from that overtakes the answer to the first. */
  asked(now: bigint): void {
    this.firstSentAt ??= now
    if (this.state !== "held") return
    // Asked for again after a grant: that one came too late to be believed, and must not answer for the next.
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

  /** An answer said "still queued". An old one, or one about a claim that is held by now, says nothing. */
  isQueued(sentAt: bigint, floor: bigint, ahead: Ahead): void {
    if (this.state !== "asking" && this.state !== "queued") return
    this.state = "queued"
    if (this.base !== undefined && this.base.sentAt > sentAt) return
    this.base = { sentAt, floor }
    this.confirmedAt = sentAt
    this.ahead = ahead
  }

  /** From when a pushed grant counts; `undefined` where it is too old to be believed. */
  baseOf(token: bigint, now: bigint): bigint | undefined {
    const sentAt = this.base !== undefined && token > this.base.floor ? this.base.sentAt : this.firstSentAt
    if (sentAt === undefined) return undefined
    return now < sentAt + Duration.toNanosUnsafe(this.claim.ttl) ? sentAt : undefined
  }

  isGranted(fencingToken: bigint, confirmedAt: bigint): Granted {
    this.state = "held"
    this.given = { _tag: "Granted", fencingToken, ttl: this.claim.ttl, confirmedAt }
    if (this.outcome !== undefined) Deferred.doneUnsafe(this.outcome, Effect.succeed(this.given))
    return this.given
  }
}

const alone: Ahead = { holder: undefined, place: 0, waiting: 1 }

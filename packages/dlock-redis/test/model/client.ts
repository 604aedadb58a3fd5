/**
 * When a grant counts: the rules for one claim, as pure functions. Each time is the client's clock when it sent a
 * request, and the answer carries that time back.
 */
import type { AcquireReply, ClaimReply, RenewReply } from "./server.ts"

export interface Claim {
  /**
   * - `idle`: nothing was requested.
   * - `confirming`: the claim is granted, and the grant counts when the replicas have it.
   * - `over`: the claim was withdrawn, and the server confirmed that.
   * - `dead`: its process died.
   */
  readonly phase: "idle" | "asking" | "queued" | "confirming" | "held" | "withdrawing" | "over" | "dead"
  /** Counts the ids of this claim. Each id is used for one attempt. */
  readonly generation: number
  /** How many acquires were sent under this id, and how many of them got no answer. */
  readonly sent: number
  readonly unanswered: number
  /** When the first acquire of this id was sent. */
  readonly first: number
  /** The latest request that was answered `queued`, with the floor of that answer. */
  readonly base: { readonly at: number; readonly floor: number } | undefined
  readonly token: number
  /** The claim is held until then, once the replicas have the grant. */
  readonly deadline: number
  /** For the release: whether an acquire may still arrive. */
  readonly tombstone: boolean
  /** After the release: ask again under a new id. */
  readonly again: boolean
}

export interface ClientFlaws {
  /** F1: a notified grant counts from the last answered request, whatever its floor. */
  readonly ignoresFloor?: boolean
  /** F3: a request counts as soon as it is sent. */
  readonly countsUnanswered?: boolean
  /** F4: a grant that comes too late is given back, and the claim queues again under the same id. */
  readonly givesBack?: boolean
  /** R1: a grant that too few replicas have is given back, and the claim asks again under the same id. */
  readonly keepsId?: boolean
  /** `gone` ends a claim without a release if every acquire was answered. */
  readonly believesGone?: boolean
  /** F7: a release sets no tombstone. */
  readonly releasesWithoutTombstone?: boolean
}

const blank: Omit<Claim, "phase" | "generation"> = {
  sent: 0,
  unanswered: 0,
  first: 0,
  base: undefined,
  token: 0,
  deadline: 0,
  tombstone: false,
  again: false
}

export const idle = (generation: number): Claim => ({ ...blank, phase: "idle", generation })
export const over = (generation: number): Claim => ({ ...blank, phase: "over", generation })
export const dead = (generation: number): Claim => ({ ...blank, phase: "dead", generation })

export const waits = (claim: Claim): boolean => claim.phase === "asking" || claim.phase === "queued"

/**
 * Whether the client considers the lock held. A client that does not act still has its clock, so its trust ends in
 * time.
 */
export const believes = (claim: Claim, now: number): boolean => claim.phase === "held" && now < claim.deadline

export const asked = (claim: Claim, now: number): Claim => ({
  ...claim,
  phase: claim.phase === "idle" ? "asking" : claim.phase,
  first: claim.sent === 0 ? now : claim.first,
  sent: claim.sent + 1,
  unanswered: claim.unanswered + 1
})

export const refreshed = (claim: Claim, now: number, flaws: ClientFlaws): Claim =>
  flaws.countsUnanswered === true && claim.base !== undefined
    ? { ...claim, base: { at: now, floor: claim.base.floor } }
    : claim

/** The client stops trusting the lock here, before it sends the release. */
export const withdrawing = (claim: Claim, again: boolean, flaws: ClientFlaws): Claim => ({
  ...blank,
  phase: "withdrawing",
  generation: claim.generation,
  tombstone: claim.unanswered > 0 && !(flaws.releasesWithoutTombstone === true && claim.phase === "held"),
  again
})

const hold = (claim: Claim, token: number, deadline: number, now: number): Claim => {
  if (now < deadline) return { ...claim, phase: "held", token, deadline, base: undefined, first: 0, sent: 0 }
  // The grant came too late, and the lock may still be ours. The next refresh tells. Giving it back could lose a lock
  // that this claim then holds.
  return { ...claim, phase: "queued" }
}

const granted = (claim: Claim, token: number, at: number, ttl: number, now: number): Claim => {
  if (waits(claim)) return hold(claim, token, at + ttl, now)
  if (!believes(claim, now) || claim.token !== token) return claim
  return { ...claim, deadline: Math.max(claim.deadline, at + ttl) }
}

/** The answer to an acquire or a refresh that was sent at `at`. */
export const answered = (
  claim: Claim,
  kind: "acquire" | "refresh",
  reply: AcquireReply,
  at: number,
  ttl: number,
  now: number,
  flaws: ClientFlaws
): Claim => {
  const heard = kind === "acquire" ? { ...claim, unanswered: claim.unanswered - 1 } : claim
  switch (reply._tag) {
    case "Granted":
      return granted(heard, reply.token, at, ttl, now)
    case "Queued": {
      if (!waits(heard)) return heard
      const later = heard.base === undefined || at > heard.base.at
      return { ...heard, phase: "queued", base: later ? { at, floor: reply.floor } : heard.base }
    }
    case "Busy":
    case "Mismatch":
      return heard.unanswered > 0 ? withdrawing(heard, false, flaws) : over(heard.generation)
    case "Revoked":
      // A claim that is held runs out, or its holder releases it.
      return waits(heard) ? withdrawing(heard, true, flaws) : heard
    case "Cancelled":
    case "Gone":
      if (!waits(heard)) return heard
      // The refresh may have run before an acquire whose answer came first, so a claim that is `gone` is withdrawn as
      // well.
      return flaws.believesGone === true && heard.unanswered === 0
        ? over(heard.generation)
        : withdrawing(heard, true, flaws)
  }
}

/** A notified grant counts from the latest base below its token. The first acquire always qualifies. */
export const notified = (claim: Claim, token: number, ttl: number, now: number, flaws: ClientFlaws): Claim => {
  if (!waits(claim)) return claim
  const qualifies = claim.base !== undefined && (flaws.ignoresFloor === true || token > claim.base.floor)
  const at = qualifies && claim.base !== undefined ? claim.base.at : claim.first
  return hold(claim, token, at + ttl, now)
}

/** A new grant does not count before the replicas have it. */
export const confirming = (claim: Claim): Claim => ({ ...claim, phase: "confirming" })

/** The replicas have the grant. */
export const confirmed = (claim: Claim, now: number): Claim => hold(claim, claim.token, claim.deadline, now)

export const renewed = (
  claim: Claim,
  reply: RenewReply,
  token: number,
  at: number,
  ttl: number,
  now: number,
  flaws: ClientFlaws
): Claim => {
  if (claim.phase !== "held" || claim.token !== token) return claim
  // Its program may still be at work. It ends, or the claim runs out.
  if (reply === "revoked") return claim
  if (reply !== "ok" && reply !== "asked") return withdrawing(claim, false, flaws)
  return believes(claim, now) ? { ...claim, deadline: Math.max(claim.deadline, at + ttl) } : claim
}

export const withdrawn = (claim: Claim, generations: number): Claim =>
  claim.again && claim.generation + 1 < generations ? idle(claim.generation + 1) : over(claim.generation)

export type { ClaimReply }

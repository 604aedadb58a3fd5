/**
 * What a client may believe, and when: the rules for one claim, as pure functions. A time is the client's own clock at
 * the sending of a request; answers carry it back.
 */
import type { AcquireReply, ClaimReply, RenewReply } from "./server.ts"

export interface Claim {
  /**
   * Idle: nothing asked. Confirming: granted, which counts when the replicas have it. Over: left, and the server said so.
   * Dead: its process is.
   */
  readonly phase: "idle" | "asking" | "queued" | "confirming" | "held" | "withdrawing" | "over" | "dead"
  /** Counts the ids of this claim: each is used for one try. */
  readonly generation: number
  /** Acquires sent under this id, and those of them that no answer came to. */
  readonly sent: number
  readonly unanswered: number
  /** When the first acquire of this id was sent. */
  readonly first: number
  /** The latest request that was answered `queued`, with the floor of that answer. */
  readonly base: { readonly at: number; readonly floor: number } | undefined
  readonly token: number
  /** Held until then, once the replicas have it. */
  readonly deadline: number
  /** Of the release: whether an acquire may still arrive. */
  readonly tombstone: boolean
  /** After the release: ask again, under a fresh id. */
  readonly again: boolean
}

export interface ClientFlaws {
  /** F1: a grant that a notification tells counts from the last answered request, whatever its floor. */
  readonly ignoresFloor?: boolean
  /** F3: a request counts as soon as it is sent. */
  readonly countsUnanswered?: boolean
  /** F4: a grant that comes too late is given back, and the claim queues again under the same id. */
  readonly givesBack?: boolean
  /** R1: a grant that too few replicas have is given back, and asked for again under the same id. */
  readonly keepsId?: boolean
  /** `gone` ends a claim without a release where every acquire was answered. */
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

/** Whether the client believes that it holds. A client that does not act still has its clock, so it stops believing. */
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

/** Belief ends here, before the release is sent. */
export const withdrawing = (claim: Claim, again: boolean, flaws: ClientFlaws): Claim => ({
  ...blank,
  phase: "withdrawing",
  generation: claim.generation,
  tombstone: claim.unanswered > 0 && !(flaws.releasesWithoutTombstone === true && claim.phase === "held"),
  again
})

const hold = (claim: Claim, token: number, deadline: number, now: number): Claim => {
  if (now < deadline) return { ...claim, phase: "held", token, deadline, base: undefined, first: 0, sent: 0 }
  // Too late, and perhaps still ours: the next refresh says so. Given back it might be lost under our feet.
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
    case "Cancelled":
    case "Gone":
      if (!waits(heard)) return heard
      // The refresh may have run before an acquire whose answer came first, so what is gone is left all the same.
      return flaws.believesGone === true && heard.unanswered === 0
        ? over(heard.generation)
        : withdrawing(heard, true, flaws)
  }
}

/** A grant that arrives by itself counts from the latest base below its token; the first acquire always qualifies. */
export const notified = (claim: Claim, token: number, ttl: number, now: number, flaws: ClientFlaws): Claim => {
  if (!waits(claim)) return claim
  const qualifies = claim.base !== undefined && (flaws.ignoresFloor === true || token > claim.base.floor)
  const at = qualifies && claim.base !== undefined ? claim.base.at : claim.first
  return hold(claim, token, at + ttl, now)
}

/** A grant that has just been heard is not believed before the replicas have it. */
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
  if (reply !== "ok") return withdrawing(claim, false, flaws)
  return believes(claim, now) ? { ...claim, deadline: Math.max(claim.deadline, at + ttl) } : claim
}

export const withdrawn = (claim: Claim, generations: number): Claim =>
  claim.again && claim.generation + 1 < generations ? idle(claim.generation + 1) : over(claim.generation)

export type { ClaimReply }

import type { ITxnRequest } from "etcd3"
import { Random } from "../random.ts"
import type { Timeline } from "../timeline.ts"
import type { Operation } from "./store.ts"

/**
 * The kind of a call, by which it may be refused. A transaction has the kind of the most that any of its branches does.
 */
export type CallKind =
  | "nothing"
  | "read"
  | "delete"
  | "put"
  | "grant"
  | "revoke"
  | "keepAlive"
  | "inspect"
  | "watch"
  | "authenticate"

export const callKindOf = (request: ITxnRequest): CallKind => {
  const operations = operationsOf(request)
  if (operations.some(({ request_put }) => request_put !== undefined)) return "put"
  if (operations.some(({ request_delete_range }) => request_delete_range !== undefined)) return "delete"
  return operations.length > 0 ? "read" : "nothing"
}

const operationsOf = ({ failure = [], success = [] }: ITxnRequest): ReadonlyArray<Operation> =>
  [...success, ...failure].flatMap((one: Operation) =>
    one.request_txn === undefined ? [one] : operationsOf(one.request_txn)
  )

/** What etcd 3.5 answers to which calls, as the client's transport reports it. */
export interface Refusal {
  readonly text: string
  readonly of: ReadonlySet<CallKind>
  /** What it answers to a request for a watch; if there is nothing, it ends the stream. */
  readonly cancelReason?: string
  /** Whether it may have executed the request. */
  readonly mayBeDone?: true
}

const proposals: ReadonlyArray<CallKind> = ["delete", "put", "grant", "revoke"]
const ofTheLeader: ReadonlyArray<CallKind> = [...proposals, "read", "keepAlive", "inspect"]
const byToken: ReadonlyArray<CallKind> = [...ofTheLeader, "nothing", "watch"]

const invalidToken: Refusal = {
  text: "16 UNAUTHENTICATED: etcdserver: invalid auth token",
  of: new Set(byToken),
  cancelReason: "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token"
}

/** Expired auth tokens, and those from before a change of users. */
export const ofTokens: ReadonlyArray<Refusal> = [invalidToken, {
  text: "3 INVALID_ARGUMENT: etcdserver: revision of auth store is old",
  of: new Set(byToken),
  cancelReason: "rpc error: code = InvalidArgument desc = etcdserver: revision of auth store is old"
}]

/** A learner answers only status requests. */
export const ofLearner: Refusal = {
  text: "14 UNAVAILABLE: etcdserver: rpc not supported for learner",
  of: new Set([...ofTheLeader, "nothing", "authenticate", "watch"])
}

/** How one member refuses by itself. */
const ofMembers: ReadonlyArray<Refusal> = [
  { text: "8 RESOURCE_EXHAUSTED: etcdserver: too many requests", of: new Set([...proposals, "authenticate"]) },
  { text: "15 DATA_LOSS: etcdserver: corrupt cluster", of: new Set([...proposals, "read"]) },
  ofLearner,
  {
    text: "14 UNAVAILABLE: etcdserver: request timed out",
    of: new Set([...ofTheLeader, "authenticate"]),
    mayBeDone: true
  },
  { text: "14 UNAVAILABLE: etcdserver: no leader", of: new Set(ofTheLeader), mayBeDone: true },
  invalidToken
]

/** The cluster's refusal: no more puts, but deletions are allowed. */
export const noSpace: Refusal = {
  text: "8 RESOURCE_EXHAUSTED: etcdserver: mvcc: database space exceeded",
  of: new Set(["put", "grant"])
}

/** The refusal to a user without permission. */
export const denied = (...of: ReadonlyArray<CallKind>): Refusal => ({
  text: "7 PERMISSION_DENIED: etcdserver: permission denied",
  of: new Set(of),
  cancelReason: "rpc error: code = PermissionDenied desc = etcdserver: permission denied"
})

/** What the user may not do any more: a real etcd decides by keys, this one by calls. */
const ofUsers: ReadonlyArray<Refusal> = [
  denied("put", "delete"),
  denied("put", "delete", "revoke"),
  denied(...ofTheLeader, "watch")
]

/** The names of refusals among a world's faults. */
export type Refusing = "member refuses" | "member silent" | "space exceeded" | "permission denied"

interface Period {
  /** Undefined if the member is silent. */
  readonly refusal: Refusal | undefined
  /** Undefined if all members refuse. */
  readonly member: number | undefined
  readonly until: number
  /** How often. */
  readonly share: number
}

/** Which members refuse what, or are silent, and until when. */
export class Refusals {
  private readonly timeline: Timeline
  private readonly members: number
  private readonly periods: Array<Period> = []

  constructor(timeline: Timeline, members: number) {
    this.timeline = timeline
    this.members = members
  }

  begin(kind: Refusing, nth: number, until: number, choice: number): void {
    const random = new Random(choice)
    const member = nth % this.members
    if (kind === "member silent") {
      this.periods.push({ refusal: undefined, member, until, share: 1 })
    } else if (kind === "member refuses") {
      this.periods.push({ refusal: random.pick(ofMembers), member, until, share: random.pick([0.3, 1, 1]) })
    } else {
      const refusal = kind === "space exceeded" ? noSpace : random.pick(ofUsers)
      this.periods.push({ refusal, member: undefined, until, share: 1 })
    }
  }

  /** How a member refuses a call; undefined if it does not. */
  saidBy(member: number, kind: CallKind, random: Random): Refusal | undefined {
    const { now } = this.timeline
    return this.periods.find((one) =>
      now < one.until && (one.member ?? member) === member && one.refusal?.of.has(kind) === true &&
      random.chance(one.share)
    )?.refusal
  }

  /** Until when a member is silent and accepts nothing. */
  silentUntil(member: number): number {
    const silent = this.periods.filter((one) => one.refusal === undefined && one.member === member)
    return Math.max(-Infinity, ...silent.map(({ until }) => until))
  }

  /** Whether since then something was refused, or not answered, that no other member would have answered. */
  hasRefusedSince(since: number): boolean {
    const lately = this.periods.filter(({ until }) => until > since)
    const hasRefused = (member: number): boolean => lately.some((one) => (one.member ?? member) === member)
    return lately.some(({ member }) => member === undefined) ||
      Array.from({ length: this.members }, (_, member) => member).every(hasRefused)
  }
}

/**
 * What the server tells the page, in JSON. Every text that came from a backend is already shown: its control characters are
 * escaped. Times are milliseconds since 1970 by the server's clock.
 */

/** What stays the same for as long as the server runs. */
export interface About {
  readonly driver: string
  /** The prefix of all keys at the backend. */
  readonly keyPrefix: string
  /** The locks whose keys begin with this are shown. */
  readonly within: string
  readonly isReadOnly: boolean
  readonly version: string
}

/** A hold of a lock. */
export interface Hold {
  readonly holder: string
  readonly token: string
  readonly permits: number
  readonly from: number
  /** Whether the backend knows since when. If not, `from` is when it was first seen. */
  readonly isFromKnown: boolean
  /** When the backend lets others in, unless it is renewed. Absent if it never expires, or nobody knows. */
  readonly expiresAt?: number
  /** The longest time that it was seen to have left. */
  readonly full?: number
  readonly isForeign: boolean
  /** Whether it was asked to leave. */
  readonly isRevoked: boolean
  /** Whether no renewal came when one was due. */
  readonly isOverdue: boolean
}

export interface Wait {
  readonly holder: string
  readonly permits: number
  /** When it was first seen. */
  readonly from: number
}

/** A row of the table. Its lists are cut, its counts are not. */
export interface Lock {
  /** What the page calls the lock by: a number that no other lock ever has. */
  readonly id: number
  readonly key: string
  readonly kind?: string
  readonly capacity?: number
  readonly holders: ReadonlyArray<Hold>
  readonly holderCount: number
  readonly permitsHeld: number
  readonly waiting: ReadonlyArray<Wait>
  readonly queueLength: number
  readonly lastToken?: string
}

/** All that is known of one lock, which the page asks for while it is looked at. */
export interface Details extends Lock {
  /** The metadata of its holders and its waiters, in their order. */
  readonly holderMetadata: ReadonlyArray<Pairs>
  readonly waiterMetadata: ReadonlyArray<Pairs>
}

export type Pairs = ReadonlyArray<readonly [name: string, value: string]>

export type HappeningKind =
  | "lost"
  | "overdue"
  | "revoking"
  | "revoked"
  | "broken"
  | "handedOver"
  | "deadlock"
  | "away"
  | "back"

/** Something that happened, for the list of events. */
export interface Happening {
  readonly version: number
  readonly at: number
  readonly kind: HappeningKind
  /** Absent where it is about no single lock. */
  readonly id?: number
  readonly key?: string
  readonly holder?: string
  readonly text: string
}

/** A hold or a wait that is over, for the lanes. */
export interface Span {
  readonly version: number
  readonly holder: string
  readonly id: number
  readonly key: string
  readonly what: "held" | "waited"
  readonly from: number
  readonly to: number
  readonly end: "released" | "lost" | "revoked" | "granted" | "left" | "unseen"
}

/** A waiter, and who is in its way. */
export interface Edge {
  readonly waiter: string
  readonly holder: string
  readonly id: number
  readonly key: string
  /** Whether this never ends by itself. */
  readonly isDeadlocked: boolean
}

/** A hold of a circle. Its holder waits for the key of the next step; that of the last step for the key of the first. */
export interface Step {
  readonly holder: string
  readonly id: number
  readonly key: string
  readonly token: string
  /** Whether it is the one to revoke: the one with the least work to lose. */
  readonly isYoungest: boolean
}

/** Who waits for whom, as much of it as can be drawn. */
export interface Waits {
  readonly cycles: ReadonlyArray<ReadonlyArray<Step>>
  readonly cycleCount: number
  readonly edges: ReadonlyArray<Edge>
  readonly edgeCount: number
  /** Those that most others wait for, directly or not. */
  readonly blockers: ReadonlyArray<{ readonly holder: string; readonly behind: number }>
}

/** How the reading of the backend goes. */
export interface Status {
  readonly backend: "starting" | "up" | "away"
  readonly since: number
  /** Why it is away. */
  readonly why?: string
  /** How long the last reading of the list took, and how often there is one. */
  readonly tookMs?: number
  readonly everyMs?: number
}

/** What changed since the last message. */
export interface Update {
  readonly at: number
  readonly version: number
  /** Whether the page forgets everything before. */
  readonly isWhole: boolean
  /** Whether more comes at once. */
  readonly hasMore: boolean
  readonly locks: ReadonlyArray<Lock>
  readonly gone: ReadonlyArray<number>
  readonly happenings: ReadonlyArray<Happening>
  readonly spans: ReadonlyArray<Span>
  readonly waits?: Waits
  readonly status: Status
  /** Of all hand-overs that were seen, of which only some are among the happenings. */
  readonly handOvers: number
  readonly losses: number
  /** Since when somebody looks: what ended before is not known. */
  readonly watchedSince: number
}

export interface RevokeRequest {
  readonly id: number
  readonly token: string
  readonly graceMs: number
  readonly why: string
}

export interface BreakRequest {
  readonly id: number
  readonly token: string
  /** The key as it is shown, typed by hand. */
  readonly confirmation: string
}

export interface Answer {
  readonly outcome: "released" | "running" | "notHeld" | "broken" | "refused"
  readonly text: string
}

/** How long the lanes reach back. */
export const historyMs = 180_000

import type { BackendName } from "./backendName.ts"
import type { Dimension } from "./dimensions.ts"
import type { Incident, MessageFault, NotificationFault } from "./faultKinds.ts"
import type { LockShape } from "./lockShape.ts"

/** A run of the job that a lock has. */
export interface JobPlan {
  readonly slot: bigint
  /** In milliseconds, for a job that runs once within an interval; then the slot is always 0. */
  readonly within: number | undefined
  readonly counts: "start" | "success"
}

/** A program that leads, and what ends its terms. Milliseconds. */
export interface LeaderPlan {
  /** From when on it stands no more: it is interrupted, as by the end of its process. */
  readonly until: number
  readonly cooldown: number
  /** It resigns, succeeds or fails after its steps. Otherwise it goes on. */
  readonly ends: "resigns" | "succeeds" | "fails" | undefined
  /** From when on in each term it says that it is not well. */
  readonly wellFor: number | undefined
}

/** What an operator does to the hold of a lock that he sees. Milliseconds. */
export interface ActPlan {
  readonly kind: "revoke" | "break"
  readonly key: string
  readonly delay: number
  readonly grace: number
  /** It revokes the same hold again, a while later, with another grace. */
  readonly again: { readonly after: number; readonly grace: number } | undefined
  /** It names the hold that it sees, one that has ended, or one of another lock. */
  readonly names: "current" | "ended" | "other"
  /** Its process ends a moment after it has asked. */
  readonly dies: boolean
}

/** One use of a lock, from the request to its end. */
export interface SectionPlan {
  readonly number: number
  readonly key: string
  readonly shape: LockShape
  /** Other locks that it wants together with this one. */
  readonly also: ReadonlyArray<{ readonly key: string; readonly shape: LockShape }>
  readonly form: "section" | "trySection" | "scope" | "tryScope"
  /** Milliseconds, like all durations of a section. */
  readonly ttl: number
  readonly timeout: number | undefined
  readonly delay: number
  readonly steps: number
  readonly pause: number
  /** The holder of a scope checks its lease before each step, instead of being interrupted. */
  readonly careful: boolean
  /** After how many steps a writer lets readers in, if it does. */
  readonly downgradesAfter: number | undefined
  /** The first and the last of the steps that it takes in a section that re-enters its lock, if it does. */
  readonly reenters: readonly [first: number, last: number] | undefined
  readonly releasesEarly: boolean
  /** It runs a job once, without waiting for a run that is under way. */
  readonly job: JobPlan | undefined
  /** It ends when others wait for its lock. */
  readonly givesWay: boolean
  /** How long it takes to end after an interrupt or a failure. */
  readonly windDown: number
  readonly maxHold: number | undefined
  /** It ends when it is asked to leave. */
  readonly obeys: boolean
  /** It leads: it is one term of many. */
  readonly leads: LeaderPlan | undefined
}

export interface IncidentPlan {
  readonly name: string
  readonly kind: Incident
  readonly at: number
  readonly duration: number
  readonly process: number
  readonly key: string
  /** For an interrupt: which section, and after how many more messages of its process; 0 is at once. */
  readonly section: number
  readonly afterMessages: number
  /** It hits a holder that is inside at that moment, if there is one. */
  readonly aimed: boolean
  readonly choice: number
}

/** All that a seed decides in advance. Times are in microseconds unless a comment says milliseconds. */
export interface Plan {
  readonly seed: number
  readonly backend: BackendName
  /** Its dimensions. */
  readonly dimensions: ReadonlySet<Dimension>
  /** It has no faults: then the lock must also be fair and prompt. */
  readonly isFaultFree: boolean
  /** Calls may fail only because the server refuses them. */
  readonly isHealthy: boolean
  readonly drifts: boolean
  readonly interop: boolean
  /** How many members the cluster has. */
  readonly members: number
  /** How many replicas must confirm a grant: all that there are. */
  readonly replicas: number
  /** No notification is ever sent: that may cost time, and nothing else. */
  readonly neverNotified: boolean
  /** The kind of all its locks. */
  readonly kind: LockShape["kind"]
  readonly keys: ReadonlyArray<string>
  /** The programs of each process, and the sections of each program in their order. */
  readonly processes: ReadonlyArray<ReadonlyArray<ReadonlyArray<SectionPlan>>>
  /** What operators do in each process, at the same time. */
  readonly acts: ReadonlyArray<ReadonlyArray<ActPlan>>
  /** Processes that observe who leads. */
  readonly observers: ReadonlyArray<number>
  readonly incidents: ReadonlyArray<IncidentPlan>
  /** How often a message has a fault, which faults, and the longest delay. */
  readonly messageFaultRate: number
  readonly messages: Readonly<Partial<Record<MessageFault, number>>>
  readonly longestDelay: number
  /** How often a notification has a fault, and which faults. */
  readonly notificationFaultRate: number
  readonly notifications: Readonly<Partial<Record<NotificationFault, number>>>
  /** From then on there are no faults. */
  readonly healedAt: number
  readonly longestTtl: number
  /** The longest time between two steps of a section. */
  readonly longestPause: number
}

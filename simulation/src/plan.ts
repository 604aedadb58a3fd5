import type { BackendName } from "./backendName.ts"
import type { Dimension } from "./dimensions.ts"
import type { Incident, MessageFault, NotificationFault } from "./faultKinds.ts"

/** One use of a lock, from the request to its end. */
export interface SectionPlan {
  readonly number: number
  readonly key: string
  readonly form: "section" | "trySection" | "scope" | "tryScope"
  /** Milliseconds, like all durations of a section. */
  readonly ttl: number
  readonly timeout: number | undefined
  readonly delay: number
  readonly steps: number
  readonly pause: number
  /** A scope's holder that looks at its lease before each step, rather than being interrupted. */
  readonly careful: boolean
  readonly releasesEarly: boolean
  /** How long it takes to end where it is interrupted or fails. */
  readonly windDown: number
}

export interface IncidentPlan {
  readonly name: string
  readonly kind: Incident
  readonly at: number
  readonly duration: number
  readonly process: number
  readonly key: string
  /** For an interrupt: which section, and at which of its process's messages from then on, if not at once. */
  readonly section: number
  readonly afterMessages: number
  /** It strikes whoever is inside at that moment, if anybody is. */
  readonly aimed: boolean
  readonly choice: number
}

/** All that a seed decides beforehand. Times are microseconds where they are not said to be milliseconds. */
export interface Plan {
  readonly seed: number
  readonly backend: BackendName
  /** What is in it besides. */
  readonly dimensions: ReadonlySet<Dimension>
  /** Nothing goes wrong in it: then the lock must be fair and prompt besides. */
  readonly isFaultFree: boolean
  /** No call may fail in it but for what the server refuses. */
  readonly isHealthy: boolean
  readonly drifts: boolean
  readonly interop: boolean
  /** How many members the cluster has. */
  readonly members: number
  /** How many replicas must have a grant, of as many as there are. */
  readonly replicas: number
  /** Nobody is ever told of anything unasked: that costs time, and nothing else. */
  readonly neverNotified: boolean
  /** 1 for mutexes; above it each claim asks for one permit or more. */
  readonly capacity: number
  readonly keys: ReadonlyArray<string>
  /** Of each process the programs, and of each program the sections one after the other. */
  readonly processes: ReadonlyArray<ReadonlyArray<ReadonlyArray<SectionPlan>>>
  readonly incidents: ReadonlyArray<IncidentPlan>
  /** How often a message meets a fault, and which; the longest that one is late. */
  readonly messageFaultRate: number
  readonly messages: Readonly<Partial<Record<MessageFault, number>>>
  readonly longestDelay: number
  /** How often a message meets one that nobody asked for. */
  readonly notificationFaultRate: number
  readonly notifications: Readonly<Partial<Record<NotificationFault, number>>>
  /** From then on nothing goes wrong any more. */
  readonly healedAt: number
  readonly longestTtl: number
  /** The longest time between two steps of a section. */
  readonly longestPause: number
}

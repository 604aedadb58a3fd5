import type { LockShape } from "./lockShape.ts"

/** Milliseconds of the monotonic clock, which all processes of one machine share. */
export const now = (): number => Number(process.hrtime.bigint()) / 1_000_000

/** What a holder does. After a `downgrade` it works as a reader. */
export type Move = "enter" | "step" | "downgrade" | "exit"

/**
 * An event that a worker reports to the resource. `at` is the worker's time, `arrived` (added there) the resource's.
 */
export type Told =
  /** A caller waits; `ask` names this acquire until it has ended. */
  | { readonly t: "asked"; readonly ask: string; readonly key: string; readonly ttl: number; readonly at: number }
    & { readonly lock?: LockShape }
  | { readonly t: "acquired"; readonly id: string; readonly key: string; readonly ttl: number; readonly at: number }
    & { readonly age: number; readonly ask: string; readonly asked: number }
    & { readonly token: string | undefined; readonly lock?: LockShape }
    /** Its program does not end when it is interrupted, while it may still have the lock. */
    & { readonly lingers?: true }
  /** `held`: between these two moments the holder found that it holds the lock. */
  | { readonly t: Move; readonly id: string; readonly held?: readonly [from: number, to: number] }
  | { readonly t: "lost"; readonly id: string; readonly at: number; readonly reason: string }
    & { readonly ago: number | undefined }
    /** Somebody asked its holder to leave. */
    & { readonly revoked?: true }
  | { readonly t: "ended"; readonly key: string; readonly outcome: Outcome; readonly waited: number }
    & { readonly ask: string; readonly at: number; readonly id: string | undefined }
  /**
   * This process did not run between the two moments, and has reported everything before them. Equal moments say that
   * it ran.
   */
  | { readonly t: "lag"; readonly from: number; readonly to: number; readonly worker?: string }
  /** A call, or several, failed with an error of the backend. `hasty`: its time limit was short. */
  | { readonly t: "failed"; readonly what: string; readonly why: string; readonly from: number; readonly at: number }
    & { readonly hasty?: true }
  | { readonly t: "slow"; readonly what: string; readonly took: number; readonly limit: number; readonly at: number }
  /** A lock that nobody holds kept its own process out. */
  | { readonly t: "ghost"; readonly key: string; readonly waited: number; readonly from: number; readonly at: number }
  | { readonly t: "stuck"; readonly key: string; readonly waited: number }
  /** Long after the last fault it is not served on a key that nobody else wants. */
  | { readonly t: "unserved"; readonly waited: number }
  /** A run of a job has begun, or counts. */
  | { readonly t: "job"; readonly key: string; readonly slot: number; readonly what: "began" | "counted" }
    & { readonly at: number }
  /** An operator asked the holder with this token to leave. `unknown`: the answer was lost. */
  | { readonly t: "revoked"; readonly key: string; readonly token: string; readonly grace: number }
    & { readonly from: number; readonly at: number; readonly answer: "asked" | "notHeld" | "foreign" | "unknown" }
  /** A holder was told that it is to leave. */
  | { readonly t: "told"; readonly id: string; readonly at: number }
  /**
   * When a hold that was asked to leave was last seen, and whether it was then seen to be over. `from`: when it was asked.
   */
  | { readonly t: "freed"; readonly key: string; readonly token: string; readonly grace: number; readonly from: number }
    & { readonly seenUntil: number; readonly at: number; readonly isOver: boolean }
  /** All locks that were found between two moments. */
  | { readonly t: "listed"; readonly keys: ReadonlyArray<string>; readonly from: number; readonly at: number }
  /** A call of an operator did what it never does. */
  | { readonly t: "misled"; readonly what: string }
  /** A leader steps down, and may not lead again for so many milliseconds after its end. */
  | { readonly t: "resigned"; readonly id: string; readonly cooldown: number }
  /** An observer was told who leads, by the term, or that nobody does. */
  | { readonly t: "observed"; readonly key: string; readonly token: string | undefined; readonly at: number }
  /** After the last fault nobody led for so long. */
  | { readonly t: "leaderless"; readonly key: string; readonly from: number; readonly at: number }
    & { readonly limit: number }
  | { readonly t: "unhandled"; readonly message: string }
  | { readonly t: "left"; readonly what: string }
  /** The metrics of a process did not say what its calls saw. */
  | { readonly t: "miscounted"; readonly what: string }
  /** The metrics of a process that ended said what its calls saw, which was this. */
  | { readonly t: "counted"; readonly counts: Readonly<Record<string, number>> }
  | { readonly t: "orphan" | "elsewhere"; readonly what: string }
  /** The tombstone of a withdrawn claim on this key, left at that moment. */
  | { readonly t: "tombstone"; readonly key: string; readonly at: number }
  /** A script took so long at the server, which had a processor meanwhile. */
  | { readonly t: "script"; readonly what: string; readonly took: number; readonly from: number; readonly at: number }
  | Fault
  | { readonly t: "healed"; readonly n: number; readonly to: number }

/** How a section ended, for its caller. */
export type Outcome = "done" | "busy" | "timeout" | "lost" | "backend" | "interrupted"

export interface Fault {
  readonly t: "fault"
  readonly n: number
  readonly kind: string
  readonly from: number
  /** Workers that it hit, or all of them: one life of each (`w3.2`), or all of its lives (`w3`). */
  readonly workers: "all" | ReadonlyArray<string>
  /** Keys whose acknowledged locks the backend may have forgotten. */
  readonly forgets: "all" | ReadonlyArray<string>
  /** Whether it hit a holder. */
  readonly hit: boolean
  /** Whether it delays and loses no answer. */
  readonly harmless?: boolean
  /** Milliseconds after its end for which a grant may yet lie with a worker that it hit and that has not heard of it. */
  readonly limbo?: number
  /** Whether the servers did it by themselves: then it is not counted. */
  readonly own?: boolean
}

/** One line of the history, in the resource's order. */
export type Recorded =
  & (
    | Exclude<Told, { readonly t: Move }>
    /** `accepted` by the fence. */
    | Extract<Told, { readonly t: Move }> & { readonly accepted: boolean }
    | { readonly t: "gone" }
  )
  & { readonly who: string; readonly arrived: number }

export const rules = {
  overlap: "two inside, or more permits than there are",
  linear: "a history that is not linearizable",
  token: "a token repeated or went back",
  late: "a loss told late",
  after: "running on after the loss",
  revived: "inside long after another was let in",
  ghost: "a lock without a holder",
  orphan: "left at the server",
  elsewhere: "a lock in another database",
  repeated: "a job run again that counts",
  stuck: "a waiter never served",
  slow: "a call without an end",
  failed: "a call that failed although the server was well",
  gone: "a lock lost although no fault hit it",
  idle: "a key idle although somebody waits",
  tombstone: "a tombstone left although no answer was lost",
  script: "a script of more than 5 ms",
  unasked: "a revocation that nobody asked for",
  unheard: "a holder told late that it is to leave",
  kept: "a revoked lock kept for too long",
  misled: "an operator misled",
  recooled: "a leader again in its cool-down",
  leaderless: "nobody leads although somebody stands",
  unobserved: "a leader that observers do not know",
  unserved: "a client that never came back",
  unhandled: "an error that nobody handled",
  left: "sockets or timers left",
  miscounted: "metrics that say something else than the calls"
} as const

export type Rule = keyof typeof rules

export interface Violation {
  readonly rule: Rule
  readonly text: string
  readonly at: number
}

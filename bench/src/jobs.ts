import type { SharedLock } from "./contenders/contender.ts"
import type { Profile } from "./measure/profile.ts"
import type { Slice } from "./measure/sections.ts"

/** What a process is told to do. */
export type Job =
  /** Tasks side by side, one for each key, for so long. */
  | {
    readonly do: "slice"
    readonly keys: ReadonlyArray<string>
    /** Mutexes, unless given. */
    readonly lock?: SharedLock
    readonly bodyMs: number
    readonly ms: number
    /** Profiles the thread meanwhile, which takes some time itself. */
    readonly isProfiled?: boolean
  }
  /**
   * One lock for each key, all held until the job "release": in sections, or as the library's own leases where it has them. `bare`
   * are the bodies of the sections, without locks.
   */
  | { readonly do: "hold"; readonly keys: ReadonlyArray<string>; readonly form: "section" | "lease" | "bare" }
  | { readonly do: "release" }
  /** So many sections on one key, at once; answers when all have asked. */
  | { readonly do: "queue"; readonly key: string; readonly count: number }
  /** Answers when all of the queue have been through. */
  | { readonly do: "drain" }
  | { readonly do: "usage" }

export interface Usage {
  /** Milliseconds of processor time so far. */
  readonly cpu: number
  /** Bytes, after a garbage collection where the process may ask for one. */
  readonly heap: number
}

/** What it answers, by what it was told. */
export interface Answers {
  readonly slice: Slice & { readonly profile?: Profile }
  readonly hold: object
  /** When. */
  readonly "release": { readonly at: number }
  readonly queue: object
  /** When each was in and out, in turns. */
  readonly drain: { readonly times: ReadonlyArray<number>; readonly failures: ReadonlyArray<string> }
  readonly usage: Usage
}

export type Message =
  | { readonly ready: true }
  | { readonly id: number; readonly answer: Answers[keyof Answers] }
  | { readonly id: number; readonly failed: string }

/** Milliseconds of the clock that all processes of a machine share, to the microsecond. */
export const now = (): number => Number(process.hrtime.bigint() / 1_000n) / 1_000

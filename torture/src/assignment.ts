import type { Address } from "./subjects/subject.ts"

/** What a worker process is told at its start. */
export interface Assignment {
  readonly subject: string
  readonly address: Address
  /** The resource's port. */
  readonly resource: number
  readonly who: string
  readonly seed: number
  readonly ttl: number
  /** Keys that all workers want, and fibers of this worker on each. */
  readonly hot: ReadonlyArray<string>
  readonly fibers: number
  /** Keys that are its own. */
  readonly cold: number
  /** How many sections are longer than the `ttl`. */
  readonly long: number
  /** Milliseconds between two sections, at most. */
  readonly rest: number
  /** Nobody aims at it: it looks at what is left behind in the quiet case. */
  readonly calm: boolean
  /** Milliseconds by which a caller's time limit may be passed; undefined where a call must only end. */
  readonly strict: number | undefined
  /** Milliseconds by which the backend keeps a lock longer than its holder considers it held. */
  readonly guard: number
  /** Milliseconds that a program takes to end when it is told to. */
  readonly ending: number
  /** Its fibers, where it is a crowd and nothing else. */
  readonly crowd?: Crowd
  /** Whom the quiet worker joins, with a claim that lasts. */
  readonly joins: ReadonlyArray<string>
  /** What the quiet worker has for long, again and again. */
  readonly keeps?: Keep
  /** Sections to go through as fast as may be, and then no more. */
  readonly sections?: number
}

/** Many waiters for one key. */
export interface Crowd {
  readonly key: string
  readonly waiters: number
  readonly ttls: ReadonlyArray<number>
}

/** One key that somebody has for so many milliseconds. */
export interface Keep {
  readonly key: string
  readonly ttl: number
  readonly millis: number
}

/** The name of a worker in all of its lives. */
export const placeOf = (index: number): string => `w${index}`

/** One section, at once. */
export interface Section {
  readonly key: string
  readonly ttl: number
  readonly steps: number
  readonly pace: number
}

/** What a worker is told while it works. */
export interface Order {
  readonly section?: Section
  /** So many keys at once. */
  readonly burst?: number
  /** The layer is closed, with all that runs under it, and another is made. */
  readonly close?: boolean
  /** Milliseconds for which its thread does nothing else. */
  readonly stall?: number
  /** No more is begun; what is under way has so many milliseconds to end. */
  readonly stop?: number
}

/** What a worker tells its parent. */
export type Report =
  | { readonly ready: number }
  | { readonly failed: string }
  | { readonly heap: number; readonly sections: number }
  | { readonly finished: number }
  | { readonly closed: number; readonly left: ReadonlyArray<string> }

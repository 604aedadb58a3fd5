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
  /** Keys that all workers use, and how many fibers of this worker use each. */
  readonly hot: ReadonlyArray<string>
  readonly fibers: number
  /** Keys of which all workers want several at once. */
  readonly sets: ReadonlyArray<string>
  /** The jobs that all workers try to run. */
  readonly jobs: ReadonlyArray<readonly [key: string, counts: "start" | "success"]>
  /** What all workers stand for. */
  readonly leaders: ReadonlyArray<string>
  /** Keys whose holders the quiet worker asks to leave. */
  readonly revocable: ReadonlyArray<string>
  /** The share of programs that do not end when they are interrupted, while they may still have the lock. */
  readonly lingering: number
  /** How many keys only this worker uses. */
  readonly cold: number
  /** The share of sections that are longer than the `ttl`. */
  readonly long: number
  /** The share of writers among the sections of a read-write lock. */
  readonly writers: number
  /** Milliseconds between two sections, at most. */
  readonly rest: number
  /** No fault is aimed at it: it checks what is left behind without faults. */
  readonly calm: boolean
  /** By how many milliseconds a call may exceed its caller's time limit; undefined if it must only end. */
  readonly strict: number | undefined
  /** Milliseconds by which the backend keeps a lock longer than its holder considers it held. */
  readonly guard: number
  /** Milliseconds that a program takes to end after an interrupt. */
  readonly ending: number
  /** Its fibers, if it is only a crowd. */
  readonly crowd?: Crowd
  /** Keys for which the quiet worker waits, with a long ttl. */
  readonly joins: ReadonlyArray<string>
  /** A key that the quiet worker holds for long, again and again. */
  readonly keeps?: Keep
  /** How many sections to run, as fast as possible. */
  readonly sections?: number
}

/** Many waiters for one key. */
export interface Crowd {
  readonly key: string
  readonly waiters: number
  readonly ttls: ReadonlyArray<number>
}

/** A key that a worker holds for so many milliseconds. */
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
  /** Acquires so many keys at once. */
  readonly burst?: number
  /** Closes the layer, with all that runs on it, and builds another. */
  readonly close?: boolean
  /** Blocks its thread for so many milliseconds. */
  readonly stall?: number
  /** Begins no more sections; running ones have so many milliseconds to end. */
  readonly stop?: number
}

/** What a worker tells its parent. */
export type Report =
  | { readonly ready: number }
  | { readonly failed: string }
  | { readonly heap: number; readonly sections: number }
  | { readonly finished: number }
  | { readonly reopened: number }
  | { readonly closed: number; readonly left: ReadonlyArray<string> }

/** Milliseconds of the monotonic clock, which all processes of one machine share. */
export const now = (): number => Number(process.hrtime.bigint()) / 1_000_000

/** What a worker tells the resource. `at` is the worker's moment, `arrived` (added there) the resource's. */
export type Told =
  | { readonly t: "acquired"; readonly id: string; readonly key: string; readonly ttl: number; readonly at: number }
    & { readonly age: number }
    & { readonly token: string | undefined }
  | { readonly t: "enter" | "step" | "exit"; readonly id: string }
  | { readonly t: "lost"; readonly id: string; readonly at: number; readonly reason: string }
    & { readonly ago: number | undefined }
  | { readonly t: "ended"; readonly key: string; readonly outcome: Outcome; readonly waited: number }
  /** Between the two moments nothing of this process ran. */
  | { readonly t: "lag"; readonly from: number; readonly to: number; readonly worker?: string }
  | { readonly t: "slow"; readonly what: string; readonly took: number; readonly limit: number; readonly at: number }
  /** A lock that nobody holds kept its own process out. */
  | { readonly t: "ghost"; readonly key: string; readonly waited: number; readonly from: number; readonly at: number }
  | { readonly t: "stuck"; readonly key: string; readonly waited: number }
  /** Long after the last fault it is not served on a key that nobody else wants. */
  | { readonly t: "deaf"; readonly waited: number }
  | { readonly t: "unhandled"; readonly message: string }
  | { readonly t: "left"; readonly what: string }
  | { readonly t: "orphan"; readonly what: string }
  | Fault
  | { readonly t: "healed"; readonly n: number; readonly to: number }

/** How a section ended, seen by who asked for it. */
export type Outcome = "done" | "busy" | "timeout" | "lost" | "backend" | "interrupted"

export interface Fault {
  readonly t: "fault"
  readonly n: number
  readonly kind: string
  readonly from: number
  /** Workers that it befell, or all of them. */
  readonly workers: "all" | ReadonlyArray<string>
  /** Keys of which the backend may have forgotten what it had acknowledged; none unless it is of that nature. */
  readonly forgets: "all" | ReadonlyArray<string>
  /** Whether somebody who was inside was hit. */
  readonly hit: boolean
  /** Of the servers' own accord: nobody did it, so nobody counts it. */
  readonly own?: boolean
}

/** One line of the history, in the resource's order. */
export type Recorded =
  & (
    | Exclude<Told, { readonly t: "enter" | "step" | "exit" }>
    /** `accepted` by the fence. */
    | { readonly t: "enter" | "step" | "exit"; readonly id: string; readonly accepted: boolean }
    | { readonly t: "gone" }
  )
  & { readonly who: string; readonly arrived: number }

export const rules = {
  overlap: "two inside",
  token: "a token repeated or went back",
  late: "a loss told late",
  after: "running on after the loss",
  revived: "inside long after another was let in",
  ghost: "a lock without a holder",
  orphan: "left at the server",
  stuck: "a waiter never served",
  slow: "a call without an end",
  deaf: "a client that never came back",
  unhandled: "an error that nobody handled",
  left: "sockets or timers left"
} as const

export type Rule = keyof typeof rules

export interface Violation {
  readonly rule: Rule
  readonly text: string
  readonly at: number
}

import * as Effect from "effect/Effect"
import type { LockBackendError } from "../../LockError.ts"
import type { Time } from "../scheduling/time.ts"
import { logged } from "./log.ts"

type What = "acquire" | "renewal" | "release"

/**
 * Tells in one line that the backend has gone away, by the first call that failed, and in another that it answers again,
 * with how much failed meanwhile: a line for each failure would be a flood, and say no more.
 */
export class Outage {
  private since: number | undefined
  private toldAt = -Infinity
  private isTold = false
  private readonly failures: Record<What, number> = { acquire: 0, renewal: 0, release: 0 }
  private readonly time: Time
  private readonly fork: (effect: Effect.Effect<void>) => unknown

  constructor(time: Time, fork: (effect: Effect.Effect<void>) => unknown) {
    this.time = time
    this.fork = fork
  }

  /** A call was not answered. */
  begin(error: LockBackendError, key: string): void {
    const now = this.time.now()
    this.since ??= now
    // A backend of which a part is away goes and comes with every call.
    if (this.isTold || now - this.toldAt < pause) return
    this.isTold = true
    this.toldAt = now
    const { cause, operation } = error
    const why = cause instanceof Error ? cause.message : String(cause)
    this.fork(logged(Effect.logWarning(`The lock store does not answer (${operation}): ${why}`), key))
  }

  /** What was asked for has failed for want of an answer. */
  failed(what: What, error: LockBackendError, key: string, count = 1): void {
    this.failures[what] += count
    this.begin(error, key)
  }

  /** Any call was answered. */
  answered(key: string): void {
    if (this.since !== undefined) this.end(this.since, key)
  }

  private end(since: number, key: string): void {
    this.since = undefined
    if (!this.isTold) return
    this.isTold = false
    const seconds = ((this.time.now() - since) / 1_000).toFixed(1)
    const counts = Object.entries(this.failures).flatMap(([what, count]) =>
      count === 0 ? [] : [`${count} ${what}${count === 1 ? "" : "s"}`]
    )
    const line = `The lock store answers again, after ${seconds} s in which ${counts.join(", ") || "nothing"} failed`
    for (const what of ["acquire", "renewal", "release"] as const) this.failures[what] = 0
    this.fork(logged(Effect.logInfo(line), key))
  }
}

/** Milliseconds between two outages of which both are told. */
const pause = 10_000

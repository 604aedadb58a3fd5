import type { LockBackendError } from "../../LockError.ts"
import type { Time } from "../scheduling/time.ts"
import type { Log } from "./log.ts"

type What = "acquire" | "renewal" | "release"

/**
 * Logs one line when the server goes away, and one line when it is back, with the number of calls that failed
 * meanwhile. One line for each failure would flood the log and say no more.
 *
 * The core reports calls that are not answered. A store reports lost connections, if it notices them. While a
 * connection is lost, only its return ends the outage, because other servers of the store may answer all the time.
 */
export class Outage {
  private since: number | undefined
  private toldAt = -Infinity
  private isTold = false
  private isRefusalTold = false
  /** The lost connections, by the objects with which the store reported them. */
  private readonly lost = new Set<object>()
  private hasReason = false
  private readonly failures: Record<What, number> = { acquire: 0, renewal: 0, release: 0 }
  private readonly log: Log
  private readonly time: Time
  private readonly server: string

  constructor(log: Log, time: Time, server: string) {
    this.log = log
    this.time = time
    this.server = server
  }

  /** A call was not answered, and will be tried again. */
  noteUnanswered({ cause, operation }: LockBackendError, key: string): void {
    // The store will soon report why there is no connection, which says more than this error.
    if (this.lost.size > 0 && !this.hasReason) return this.begin()
    this.begin(`${this.server} does not answer (${operation}): ${wordsOf(cause)}`, key)
  }

  /** `count` calls failed because they were not answered. */
  noteFailed(what: What, error: LockBackendError, key: string, count: number): void {
    this.failures[what] += count
    this.noteUnanswered(error, key)
  }

  /** A call was answered. */
  noteAnswered(key: string): void {
    if (this.since !== undefined && this.lost.size === 0) this.end(this.since, key)
  }

  /** A call was refused. Returns true if the reason is a lost connection, which is already reported. */
  noteRefused(what: What): boolean {
    if (this.lost.size === 0) return false
    this.failures[what]++
    return true
  }

  noteLost(connection: object): void {
    this.lost.add(connection)
    this.begin()
  }

  /**
   * Says why a lost connection could not be made again. `isRefused` means that the server refuses it, so that a person
   * must act.
   */
  noteReason(connection: object, why: string, isRefused: boolean): void {
    if (!this.lost.has(connection)) return
    this.hasReason = true
    const wasTold = this.isTold
    this.begin(`Lost the connection to ${this.server}: ${why}`)
    if (!isRefused || this.isRefusalTold) return
    this.isRefusalTold = true
    if (wasTold || !this.isTold) this.tell(`${this.server} refuses the connection: ${why}`)
  }

  noteBack(connection: object): void {
    if (!this.lost.delete(connection) || this.lost.size > 0 || this.since === undefined) return
    this.begin(`Lost the connection to ${this.server}`)
    this.end(this.since)
  }

  private begin(line?: string, key?: string): void {
    this.since ??= this.time.now()
    if (line === undefined || this.isTold) return
    // If a part of the backend is away, outages begin and end with every call, so not every outage is logged.
    if (this.time.now() - this.toldAt >= pause) this.tell(line, key)
  }

  private tell(line: string, key?: string): void {
    this.isTold = true
    this.toldAt = this.time.now()
    this.log.warn(line, { key })
  }

  private end(since: number, key?: string): void {
    this.since = undefined
    this.hasReason = false
    this.isRefusalTold = false
    if (!this.isTold) return
    this.isTold = false
    const seconds = ((this.time.now() - since) / 1_000).toFixed(1)
    const counts = Object.entries(this.failures).flatMap(([what, count]) =>
      count === 0 ? [] : [`${count} ${what}${count === 1 ? "" : "s"}`]
    )
    for (const what of ["acquire", "renewal", "release"] as const) this.failures[what] = 0
    this.log.info(`${this.server} is back after ${seconds} s, in which ${listed(counts)} failed`, { key })
  }
}

const listed = (parts: ReadonlyArray<string>): string =>
  parts.length < 2 ? parts[0] ?? "nothing" : `${parts.slice(0, -1).join(", ")} and ${parts.at(-1)}`

/** The message of a cause, on one line. */
export const wordsOf = (cause: unknown): string =>
  (cause instanceof Error ? cause.message : String(cause)).replace(/\s*\n\s*/g, " ")

/** Milliseconds. After an outage was logged, another is not logged for this time. */
const pause = 10_000

import type { LockBackendError } from "../../LockError.ts"
import type { Time } from "../scheduling/time.ts"
import type { Log } from "./log.ts"

type What = "acquire" | "renewal" | "release"

/**
 * Logs one line when the server goes away and one when it is back, with how much failed meanwhile: a line for each
 * failure would be a flood, and say no more.
 *
 * Two kinds of news lead to these lines: calls that are not answered, which the core notices, and lost connections, which
 * a store notes where it knows of them. While a connection is lost, its return ends the outage: other servers of the store
 * may answer all the while.
 */
export class Outage {
  private since: number | undefined
  private toldAt = -Infinity
  private isTold = false
  private isRefusalTold = false
  /** The connections that are lost, by whatever their store knows them by. */
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

  /** A call was not answered, and is tried again. */
  noteUnanswered({ cause, operation }: LockBackendError, key: string): void {
    // The store is about to say why there is no connection, which says more.
    if (this.lost.size > 0 && !this.hasReason) return this.begin()
    this.begin(`${this.server} does not answer (${operation}): ${wordsOf(cause)}`, key)
  }

  /** Calls have failed because they were not answered. */
  noteFailed(what: What, error: LockBackendError, key: string, count: number): void {
    this.failures[what] += count
    this.noteUnanswered(error, key)
  }

  /** A call was answered. */
  noteAnswered(key: string): void {
    if (this.since !== undefined && this.lost.size === 0) this.end(this.since, key)
  }

  /** A call was refused. Returns whether that is for want of a connection, and so no news. */
  noteRefused(what: What): boolean {
    if (this.lost.size === 0) return false
    this.failures[what]++
    return true
  }

  noteLost(connection: object): void {
    this.lost.add(connection)
    this.begin()
  }

  /** Why a lost connection is not made again. `isRefused`: the server refuses it, so that somebody has to mend something. */
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
    // A backend of which a part is away goes and comes with every call.
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

/** The words of a cause, on one line. */
export const wordsOf = (cause: unknown): string =>
  (cause instanceof Error ? cause.message : String(cause)).replace(/\s*\n\s*/g, " ")

/** Milliseconds between two outages of which both are told. */
const pause = 10_000

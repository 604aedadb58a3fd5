/** Why there is no connection, and what is logged about that. */

import * as Effect from "effect/Effect"
import { isFinal, isRefusedCredentials, notConnectedNow, sanitized } from "../failure.ts"
import type { CallFailure } from "../port.ts"

/** What clients say last, and what says less than anything said before. */
const vague = new RegExp([
  "^(All sentinels are|failed to connect to sent|connected to sent|Failed to refresh slots|Connection is closed)",
  "^(sentinel \\S+: Connection is closed[.; ]*)+$",
  "Stream isn't writeable"
].join("|"))

/** Why a client has no connection, as far as it has been told. */
export class Reasons {
  /** What was met last, since there was a connection. */
  last: Error | undefined
  /** Whether the same attempt would meet that again: who we are is refused, or where we want to be. */
  final = false
  private readonly onTold: (reasons: Reasons) => void
  private failure: CallFailure | undefined

  constructor(onTold: (reasons: Reasons) => void) {
    this.onTold = onTold
  }

  readonly tell = (error: unknown): void => {
    const told = sanitized(error)
    // What names several sentinels, or a name that a user chose, has one of them as its cause.
    const met = sanitized((error as Error).cause ?? error)
    if (!vague.test(told.message)) this.set(told, isRefusedCredentials(met))
    else if (this.last === undefined) this.set(told, false)
  }

  /** The same of a step of the greeting that was refused. */
  readonly tellRefusal = (error: unknown): void => {
    const told = sanitized(error)
    this.set(told, isFinal(told))
  }

  /** What a call fails with that is not sent for want of a connection. */
  readonly whyNot = (): CallFailure => (this.failure ??= notConnectedNow(this.last, this.final))

  /** There is a connection. */
  clear(): void {
    this.last = undefined
    this.final = false
    this.failure = undefined
  }

  private set(told: Error, final: boolean): void {
    this.last = told
    this.final = final
    this.failure = undefined
    this.onTold(this)
  }
}

/**
 * The log of all connections of a layer: one line when the first is lost, as soon as it is known why or it is back
 * meanwhile; one when the server refuses who we are, if that was not the reason; and one when all are back.
 */
export class Outage {
  private readonly log: (effect: Effect.Effect<void>) => void
  private readonly away = new Set<Reasons>()
  private told: "no" | "lost" | "refused" = "no"

  constructor(log: (effect: Effect.Effect<void>) => void) {
    this.log = log
  }

  noteLost(of: Reasons): void {
    this.away.add(of)
  }

  noteReason(of: Reasons): void {
    if (!this.away.has(of)) return
    if (this.told === "no") this.log(Effect.logWarning(`The connection to Redis was lost: ${of.last?.message}`))
    else if (this.told === "lost" && of.final) {
      this.log(Effect.logWarning(`Redis refuses the connection: ${of.last?.message}`))
    }
    if (of.final) this.told = "refused"
    else if (this.told === "no") this.told = "lost"
  }

  noteBack(of: Reasons): void {
    if (!this.away.delete(of) || this.away.size > 0) return
    if (this.told === "no") this.log(Effect.logWarning("The connection to Redis was lost"))
    this.told = "no"
    this.log(Effect.logInfo("The connection to Redis is back"))
  }
}

/** Why there is no connection. */

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

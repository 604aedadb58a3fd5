/** Why a client has no connection. */

import { isFinal, isRefusedCredentials, notConnectedNow, sanitized } from "../failure.ts"
import type { CallFailure } from "../port.ts"

/** Errors that clients report last, and that say less than any earlier error. */
const vague = new RegExp([
  "^(All sentinels are|failed to connect to sent|connected to sent|Failed to refresh slots|Connection is closed)",
  "^(sentinel \\S+: Connection is closed[.; ]*)+$",
  "Stream isn't writeable"
].join("|"))

/** Collects the errors of a client, to tell why it has no connection. */
export class Reasons {
  /** The latest error since the last connection. */
  last: Error | undefined
  /** Whether the next attempt would fail in the same way, because the server refuses our credentials or the database. */
  final = false
  private readonly onTold: (reasons: Reasons) => void
  private failure: CallFailure | undefined

  constructor(onTold: (reasons: Reasons) => void) {
    this.onTold = onTold
  }

  readonly tell = (error: unknown): void => {
    const told = sanitized(error)
    // An error that names several sentinels, or a name that the user chose, has the error of one server as its cause.
    const met = sanitized((error as Error).cause ?? error)
    if (!vague.test(told.message)) this.set(told, isRefusedCredentials(met))
    else if (this.last === undefined) this.set(told, false)
  }

  /** Records that the server refused a step of the handshake. */
  readonly tellRefusal = (error: unknown): void => {
    const told = sanitized(error)
    this.set(told, isFinal(told))
  }

  /** The failure of a call that was not sent because there is no connection. */
  readonly whyNot = (): CallFailure => (this.failure ??= notConnectedNow(this.last, this.final))

  /** Forgets the errors, because the client is connected. */
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

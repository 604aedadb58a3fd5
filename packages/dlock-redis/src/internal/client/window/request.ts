/** One call of a script, and the queue in which calls wait. */

import type { StoreTelemetry } from "effect-dlock/StoreTelemetry"
import type * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { Script } from "../../protocol/index.ts"
import type { CallFailure, Reply, Tally } from "../port.ts"

/** One call of a script, from the caller's request to the answer. */
export class Request {
  readonly script: Script<unknown, unknown>
  readonly args: unknown
  readonly tally: Tally | undefined
  /** How many milliseconds the call may take, counted from `limitedAt`. */
  readonly limit: number
  /** When the call was sent, or when it began to wait for a missing connection. `Infinity` before either. */
  limitedAt = Infinity
  /** Monotonic time of the last sending, in nanoseconds. */
  sentAt = 0n
  /** Its index among the calls in flight, or -1 while it is not in flight. */
  slot = -1
  private readonly telemetry: StoreTelemetry
  private caller: ((reply: Effect.Effect<Reply<never>, CallFailure>) => void) | undefined

  constructor(
    script: Script<never, unknown>,
    args: unknown,
    tally: Tally | undefined,
    limit: number,
    telemetry: StoreTelemetry,
    caller: (reply: Effect.Effect<Reply<never>, CallFailure>) => void
  ) {
    this.script = script as Script<unknown, unknown>
    this.args = args
    this.tally = tally
    this.limit = limit
    this.telemetry = telemetry
    this.caller = caller
  }

  get endsAt(): number {
    return this.limitedAt + this.limit
  }

  /** Whether no caller waits for it any more. */
  get isAbandoned(): boolean {
    return this.caller === undefined
  }

  abandon(): void {
    this.caller = undefined
  }

  /** Answers the caller, unless the caller is gone or already has an answer. */
  end(reply: Effect.Effect<Reply<never>, CallFailure>): void {
    const { caller } = this
    this.caller = undefined
    if (caller !== undefined) this.telemetry.callBack(() => caller(reply))
  }

  fail(failure: CallFailure): void {
    this.end(Exit.fail(failure))
  }
}

/** Waiting requests of one kind, in order of arrival. */
export class Lane {
  private requests: Array<Request> = []
  private first = 0

  push(request: Request): void {
    this.requests.push(request)
  }

  get isEmpty(): boolean {
    return this.first === this.requests.length
  }

  shift(): Request | undefined {
    while (this.first < this.requests.length) {
      const next = this.requests[this.first++]!
      if (this.first === this.requests.length || this.first === longestPast) this.forgetPast()
      if (!next.isAbandoned) return next
    }
    return undefined
  }

  /** The requests for which a caller still waits. */
  all(): ReadonlyArray<Request> {
    this.requests = this.requests.filter((request, index) => index >= this.first && !request.isAbandoned)
    this.first = 0
    return this.requests
  }

  /** Removes and returns the requests for which the predicate is true. */
  remove(isAskedFor: (request: Request) => boolean): ReadonlyArray<Request> {
    const removed = this.all().filter(isAskedFor)
    this.requests = this.requests.filter((request) => !isAskedFor(request))
    return removed
  }

  private forgetPast(): void {
    this.requests.splice(0, this.first)
    this.first = 0
  }
}

const longestPast = 1_000

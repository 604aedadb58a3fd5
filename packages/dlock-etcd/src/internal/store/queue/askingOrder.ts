/** The order in which the claims of this process request places. */

import type { StoreTelemetry } from "effect-dlock/StoreTelemetry"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { type CallFailure, closedFailure, isUnsent } from "../../client/failure.ts"
import type { TrackedClaim } from "../trackedClaim.ts"

interface Turn {
  readonly tracked: TrackedClaim
  resume: ((next: Effect.Effect<void, CallFailure>) => void) | undefined
  isGiven: boolean
}

/** The claims of this process that request places in one queue. */
interface Asking {
  /** The claims that wait to send their requests. */
  readonly turns: Array<Turn>
  /** The claims whose requests have no answer yet. */
  readonly underWay: Set<TrackedClaim>
}

/**
 * Limits and orders the requests for places in each queue.
 *
 * Up to 16 requests for a mutex are sent without waiting for an answer, if they are of the same kind. The server executes them
 * in any order, and `WaitingPlaces` puts them in the right order when their answers arrive. All other requests are sent one
 * after the other. So claims are granted in the order in which this process requested them.
 *
 * A request for places in several queues has its turn in all of them, and goes alone in each.
 *
 * If a request had no answer, the requests that wait behind it fail with it, because they have waited long enough.
 */
export class AskingOrder {
  private readonly byKey = new Map<string, Asking>()
  private readonly telemetry: StoreTelemetry
  private readonly onAnswered: (lock: string) => void
  private count = 0

  /** `onAnswered` is called when a request for a place in the queue of a key has ended, with or without an answer. */
  constructor(telemetry: StoreTelemetry, onAnswered: (lock: string) => void) {
    this.telemetry = telemetry
    this.onAnswered = onAnswered
  }

  /** Whether any claim of this process asks for a place on this key, or waits to ask. */
  isAsking(key: string): boolean {
    return this.byKey.has(key)
  }

  /** Whether an earlier request for the same key has no answer yet. */
  isAwaited({ claim: { key }, number }: TrackedClaim): boolean {
    const line = this.byKey.get(key)
    if (line === undefined || number === undefined) return false
    for (const other of line.underWay) if (other.number! < number) return true
    return false
  }

  /** Runs `ask` when the earlier requests for the same key allow it. */
  readonly inTurn = <A>(tracked: TrackedClaim, ask: Effect.Effect<A, CallFailure>): Effect.Effect<A, CallFailure> =>
    // Uninterruptible: a claim that has the turn must pass it on, however its request ends.
    Effect.uninterruptibleMask((restore) => {
      const { key } = tracked.claim
      const mine = Effect.onExit(restore(ask), (exit) => Effect.sync(() => this.ends(tracked, exit)))
      tracked.number ??= this.count++
      const line = this.byKey.get(key) ?? { turns: [], underWay: new Set() }
      this.byKey.set(key, line)
      if (line.turns.length === 0 && mayAsk(line, tracked)) {
        line.underWay.add(tracked)
        return mine
      }
      const turn: Turn = { tracked, resume: undefined, isGiven: false }
      const waited = Effect.callback<void, CallFailure>((resume) => {
        turn.resume = resume
        line.turns.push(turn)
        return Effect.sync(() => {
          turn.resume = undefined
        })
      })
      return Effect.matchCauseEffect(restore(waited), {
        onSuccess: () => mine,
        onFailure: (cause) => {
          if (turn.isGiven) this.ends(tracked, Exit.void)
          return Effect.failCause(cause)
        }
      })
    })

  /** The same for a request for places in several queues. All such requests take their turns in the order of the keys. */
  readonly inTurnOfAll = <A>(
    all: ReadonlyArray<TrackedClaim>,
    ask: Effect.Effect<A, CallFailure>
  ): Effect.Effect<A, CallFailure> => {
    for (const tracked of all) tracked.isOneOfSeveral = true
    return all.toSorted((a, b) => a.claim.key < b.claim.key ? 1 : -1)
      .reduce((inside, tracked) => this.inTurn(tracked, inside), ask)
  }

  private ends(tracked: TrackedClaim, exit: Exit.Exit<unknown, CallFailure>): void {
    const { key } = tracked.claim
    const line = this.byKey.get(key)!
    line.underWay.delete(tracked)
    const failure = Exit.isFailure(exit) ? Cause.findErrorOption(exit.cause) : undefined
    if (failure?._tag === "Some" && isNoAnswer(failure.value)) {
      const all = line.turns.splice(0)
      for (const { resume } of all) {
        this.telemetry.callBack(() => resume?.(Effect.fail({ ...failure.value, notDone: true })), key)
      }
    }
    this.onAnswered(key)
    for (let turn = line.turns[0]; turn !== undefined && mayAsk(line, turn.tracked); turn = line.turns[0]) {
      line.turns.shift()
      const { resume } = turn
      if (resume === undefined) continue
      turn.isGiven = true
      line.underWay.add(turn.tracked)
      this.telemetry.callBack(() => resume(Effect.void), key)
    }
    const isEmpty = line.turns.length === 0 && line.underWay.size === 0
    // A caller that continued at once may have started a new record for this key.
    if (isEmpty && this.byKey.get(key) === line) this.byKey.delete(key)
  }
}

const mayAsk = ({ underWay }: Asking, tracked: TrackedClaim): boolean => {
  if (underWay.size === 0) return true
  if (underWay.size >= mostAbreast || tracked.claim.kind !== "mutex") return false
  for (const { kind } of underWay) return kind === tracked.kind
  return true
}

/** Whether a request had no answer. A refusal of one request does not concern the others. */
const isNoAnswer = (failure: CallFailure): boolean =>
  !failure.notDone || failure === closedFailure || isUnsent(failure.cause)

/** How many requests for one mutex may be pending. More than the server can work on would only wait there. */
const mostAbreast = 16

/** In which order the claims of this process ask for places. */

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

/** The claims that ask for places in one queue. */
interface Asking {
  readonly turns: Array<Turn>
  readonly underWay: Set<TrackedClaim>
}

/**
 * Requests for places in queues, of which only a few for one key are under way at a time. Requests for a mutex that ask for the
 * same go abreast: the server takes them in any order, and they are put in the right order when they have answers, see
 * `WaitingPlaces`. All others go one after the other: so claims stand in a queue in the order in which this process asked.
 *
 * Where a request had no answer, those that wait behind it have waited long enough, and fail with it.
 */
export class AskingOrder {
  private readonly byKey = new Map<string, Asking>()
  private readonly telemetry: StoreTelemetry
  private readonly onAnswered: (lock: string) => void
  private count = 0

  /** `onAnswered` is called when a claim that asked for a key has its answer, or waits for none any more. */
  constructor(telemetry: StoreTelemetry, onAnswered: (lock: string) => void) {
    this.telemetry = telemetry
    this.onAnswered = onAnswered
  }

  /** Is a request under way of a claim that was asked for before this one? */
  isAwaited({ claim: { key }, number }: TrackedClaim): boolean {
    const line = this.byKey.get(key)
    if (line === undefined || number === undefined) return false
    for (const other of line.underWay) if (other.number! < number) return true
    return false
  }

  readonly inTurn = <A>(tracked: TrackedClaim, ask: Effect.Effect<A, CallFailure>): Effect.Effect<A, CallFailure> =>
    // A claim that has the turn gives it on, however it ends.
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
    // A caller that went on at once may have begun another one.
    if (isEmpty && this.byKey.get(key) === line) this.byKey.delete(key)
  }
}

const mayAsk = ({ underWay }: Asking, tracked: TrackedClaim): boolean => {
  if (underWay.size === 0) return true
  if (underWay.size >= mostAbreast || tracked.claim.capacity > 1) return false
  for (const { kind } of underWay) return kind === tracked.kind
  return true
}

/** Was there no answer? A refusal of one request says nothing of the others. */
const isNoAnswer = (failure: CallFailure): boolean =>
  !failure.notDone || failure === closedFailure || isUnsent(failure.cause)

/** More than it takes to keep a server at work would only wait there. */
const mostAbreast = 16

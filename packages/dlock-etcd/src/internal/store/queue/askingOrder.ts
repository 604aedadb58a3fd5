import { callBack } from "effect-dlock/LockStore"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { type CallFailure, closedFailure, isUnsent } from "../../client/failure.ts"
import type { Entry } from "../trackedClaim.ts"

interface Turn {
  readonly entry: Entry
  resume: ((next: Effect.Effect<void, CallFailure>) => void) | undefined
  isGiven: boolean
}

/** Those who ask for places in one queue. */
interface Asking {
  readonly turns: Array<Turn>
  readonly underWay: Set<Entry>
}

/**
 * Requests for places in queues, of which only a few for one lock are under way at a time. Whoever asks for a mutex asks abreast
 * with others who ask for the same: the server takes them in any order, and they are put in theirs when they have answers, see
 * `Crowd`. All else is asked for one after the other: so the order in which a process asks is the order in which it stands
 * there.
 *
 * Who waits behind one that brought no answer has waited long enough, and is told the same.
 */
export class Line {
  private readonly lines = new Map<string, Asking>()
  private readonly onHeardOf: (lock: string) => void
  private count = 0

  /** `onHeardOf`: one of those who asked for a lock has its answer, or waits for none any more. */
  constructor(onHeardOf: (lock: string) => void) {
    this.onHeardOf = onHeardOf
  }

  /** Is one under way that was asked for before this one? */
  isAwaited({ claim: { key }, number }: Entry): boolean {
    const line = this.lines.get(key)
    if (line === undefined || number === undefined) return false
    for (const other of line.underWay) if (other.number! < number) return true
    return false
  }

  readonly inTurn = <A>(entry: Entry, ask: Effect.Effect<A, CallFailure>): Effect.Effect<A, CallFailure> =>
    // Whoever has the turn gives it on, however they end.
    Effect.uninterruptibleMask((restore) => {
      const { key } = entry.claim
      const mine = Effect.onExit(restore(ask), (exit) => Effect.sync(() => this.ends(entry, exit)))
      entry.number ??= this.count++
      const line = this.lines.get(key) ?? { turns: [], underWay: new Set() }
      this.lines.set(key, line)
      if (line.turns.length === 0 && mayAsk(line, entry)) {
        line.underWay.add(entry)
        return mine
      }
      const turn: Turn = { entry, resume: undefined, isGiven: false }
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
          if (turn.isGiven) this.ends(entry, Exit.void)
          return Effect.failCause(cause)
        }
      })
    })

  private ends(entry: Entry, exit: Exit.Exit<unknown, CallFailure>): void {
    const { key } = entry.claim
    const line = this.lines.get(key)!
    line.underWay.delete(entry)
    const failure = Exit.isFailure(exit) ? Cause.findErrorOption(exit.cause) : undefined
    if (failure?._tag === "Some" && isNoAnswer(failure.value)) {
      const all = line.turns.splice(0)
      for (const { resume } of all) callBack(() => resume?.(Effect.fail({ ...failure.value, notDone: true })), key)
    }
    this.onHeardOf(key)
    for (let turn = line.turns[0]; turn !== undefined && mayAsk(line, turn.entry); turn = line.turns[0]) {
      line.turns.shift()
      const { resume } = turn
      if (resume === undefined) continue
      turn.isGiven = true
      line.underWay.add(turn.entry)
      callBack(() => resume(Effect.void), key)
    }
    const isEmpty = line.turns.length === 0 && line.underWay.size === 0
    // Whoever went on at once may have begun another.
    if (isEmpty && this.lines.get(key) === line) this.lines.delete(key)
  }
}

const mayAsk = ({ underWay }: Asking, entry: Entry): boolean => {
  if (underWay.size === 0) return true
  if (underWay.size >= mostAbreast || entry.claim.capacity > 1) return false
  for (const { kind } of underWay) return kind === entry.kind
  return true
}

/** What a server refuses one says nothing of the others. */
const isNoAnswer = (failure: CallFailure): boolean =>
  !failure.notDone || failure === closedFailure || isUnsent(failure.cause)

/** What is sent beyond what it takes to keep a server at work only waits there. */
const mostAbreast = 16

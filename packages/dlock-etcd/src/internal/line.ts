import { callBack } from "effect-dlock/LockStore"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { type CallFailure, isClosed, isUnsent } from "./failure.ts"

interface Turn {
  resume: ((next: Effect.Effect<void, CallFailure>) => void) | undefined
  isGiven: boolean
}

/** Those who wait for the one whose turn it is, and when the server last answered one of them. */
interface Waiting {
  readonly turns: Array<Turn>
  answeredAt: number
}

/**
 * Requests for places in queues, those of one lock one after the other: the order in which a process asks is the order in
 * which it stands there, although a server takes what comes at once in any.
 *
 * Who waits behind one that brought no answer has waited long enough, and is told the same.
 */
export class Line {
  private readonly lines = new Map<string, Waiting>()
  private readonly now: () => number

  constructor(now: () => number) {
    this.now = now
  }

  /** `onCrowdedOut`: whoever asked has gone before their turn, and it was others who took the time. */
  readonly inTurn = <A>(
    lock: string,
    ask: Effect.Effect<A, CallFailure>,
    onCrowdedOut: () => void
  ): Effect.Effect<A, CallFailure> =>
    // Whoever has the turn gives it on, however they end.
    Effect.uninterruptibleMask((restore) => {
      const mine = Effect.onExit(restore(ask), (exit) => Effect.sync(() => this.next(lock, exit)))
      const line = this.lines.get(lock)
      if (line === undefined) {
        this.lines.set(lock, { turns: [], answeredAt: this.now() })
        return mine
      }
      const turn: Turn = { resume: undefined, isGiven: false }
      const waited = Effect.callback<void, CallFailure>((resume) => {
        turn.resume = resume
        line.turns.push(turn)
        return Effect.sync(() => {
          turn.resume = undefined
          if (this.now() - line.answeredAt < briefly) onCrowdedOut()
        })
      })
      return Effect.matchCauseEffect(restore(waited), {
        onSuccess: () => mine,
        onFailure: (cause) => {
          if (turn.isGiven) this.next(lock, Exit.void)
          return Effect.failCause(cause)
        }
      })
    })

  private next(lock: string, exit: Exit.Exit<unknown, CallFailure>): void {
    const line = this.lines.get(lock)!
    const failure = Exit.isFailure(exit) ? Cause.findErrorOption(exit.cause) : undefined
    if (failure?._tag === "Some" && isNoAnswer(failure.value)) {
      const all = line.turns.splice(0)
      for (const { resume } of all) callBack(() => resume?.(Effect.fail({ ...failure.value, notDone: true })), lock)
    } else if (Exit.isSuccess(exit)) line.answeredAt = this.now()
    for (let turn = line.turns.shift(); turn !== undefined; turn = line.turns.shift()) {
      const { resume } = turn
      if (resume === undefined) continue
      turn.isGiven = true
      return callBack(() => resume(Effect.void), lock)
    }
    this.lines.delete(lock)
  }
}

/** What a server refuses one says nothing of the others. */
const isNoAnswer = (failure: CallFailure): boolean =>
  !failure.notDone || failure === isClosed || isUnsent(failure.cause)

/** Milliseconds for which nothing is heard of a server that is near and well. */
const briefly = 250

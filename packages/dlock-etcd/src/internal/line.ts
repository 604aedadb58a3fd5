import { callBack } from "effect-dlock/LockStore"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { type CallFailure, isClosed } from "./failure.ts"

interface Turn {
  resume: ((next: Effect.Effect<any, CallFailure>) => void) | undefined
  readonly ask: Effect.Effect<any, CallFailure>
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

  /** Whether so many wait that who is in a hurry does better without. */
  isLong(lock: string): boolean {
    return (this.lines.get(lock)?.turns.length ?? 0) > long
  }

  /** `onCrowdedOut`: whoever asked has gone before their turn, and it was others who took the time. */
  readonly inTurn = <A>(
    lock: string,
    ask: Effect.Effect<A, CallFailure>,
    onCrowdedOut: () => void
  ): Effect.Effect<A, CallFailure> =>
    Effect.suspend(() => {
      const mine = Effect.onExit(ask, (exit) => Effect.sync(() => this.next(lock, exit)))
      const line = this.lines.get(lock)
      if (line === undefined) {
        this.lines.set(lock, { turns: [], answeredAt: this.now() })
        return mine
      }
      return Effect.callback<A, CallFailure>((resume) => {
        const turn: Turn = { resume, ask: mine }
        line.turns.push(turn)
        return Effect.sync(() => {
          turn.resume = undefined
          if (this.now() - line.answeredAt < briefly) onCrowdedOut()
        })
      })
    })

  private next(lock: string, exit: Exit.Exit<unknown, CallFailure>): void {
    const line = this.lines.get(lock)!
    const failure = Exit.isFailure(exit) ? Cause.findErrorOption(exit.cause) : undefined
    if (failure?._tag === "Some" && (!failure.value.notDone || failure.value === isClosed)) {
      const all = line.turns.splice(0)
      for (const { resume } of all) callBack(() => resume?.(Effect.fail({ ...failure.value, notDone: true })), lock)
    } else if (Exit.isSuccess(exit)) line.answeredAt = this.now()
    for (let turn = line.turns.shift(); turn !== undefined; turn = line.turns.shift()) {
      const { ask, resume } = turn
      if (resume !== undefined) return callBack(() => resume(ask), lock)
    }
    this.lines.delete(lock)
  }
}

const long = 4

/** Milliseconds for which nothing is heard of a server that is near and well. */
const briefly = 250

import { callBack } from "effect-dlock/LockStore"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { type CallFailure, isClosed } from "./failure.ts"

interface Turn {
  resume: ((next: Effect.Effect<any, CallFailure>) => void) | undefined
  readonly ask: Effect.Effect<any, CallFailure>
}

/**
 * Requests for places in queues, those of one lock one after the other: the order in which a process asks is the order in
 * which it stands there, although a server takes what comes at once in any.
 *
 * Who waits behind one that brought no answer has waited long enough, and is told the same.
 */
export class Line {
  /** By lock, those who wait for the one whose turn it is. */
  private readonly waiting = new Map<string, Array<Turn>>()

  readonly inTurn = <A>(lock: string, ask: Effect.Effect<A, CallFailure>): Effect.Effect<A, CallFailure> =>
    Effect.suspend(() => {
      const mine = Effect.onExit(ask, (exit) => Effect.sync(() => this.next(lock, exit)))
      const waiting = this.waiting.get(lock)
      if (waiting === undefined) {
        this.waiting.set(lock, [])
        return mine
      }
      return Effect.callback<A, CallFailure>((resume) => {
        const turn: Turn = { resume, ask: mine }
        waiting.push(turn)
        return Effect.sync(() => void (turn.resume = undefined))
      })
    })

  private next(lock: string, exit: Exit.Exit<unknown, CallFailure>): void {
    const waiting = this.waiting.get(lock)!
    const failure = Exit.isFailure(exit) ? Cause.findErrorOption(exit.cause) : undefined
    if (failure?._tag === "Some" && (!failure.value.notDone || failure.value === isClosed)) {
      const all = waiting.splice(0)
      for (const { resume } of all) callBack(() => resume?.(Effect.fail({ ...failure.value, notDone: true })), lock)
    }
    for (let turn = waiting.shift(); turn !== undefined; turn = waiting.shift()) {
      const { ask, resume } = turn
      if (resume !== undefined) return callBack(() => resume(ask), lock)
    }
    this.waiting.delete(lock)
  }
}

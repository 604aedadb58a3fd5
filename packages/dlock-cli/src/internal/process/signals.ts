import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import { Failure } from "../failure.ts"
import { codeOf } from "./child.ts"

/** The signals that a command under a lock gets, when `dlock` gets them. */
const passedOn = ["SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2"] as const

/** Who gets the signals of this process. */
export interface Signals {
  /** Passes them on while an effect runs. */
  readonly passTo: (
    receive: (signal: NodeJS.Signals) => void
  ) => <A, E, R>(during: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  /** Whether this process got a signal that asks it to end. */
  readonly isToldToEnd: () => boolean
}

/**
 * Runs an effect that takes the signals of this process. While nobody receives them, a signal interrupts the effect, which
 * then leaves no claim behind, and fails with the code of a shell.
 */
export const withSignals = <A, E, R>(
  use: (signals: Signals) => Effect.Effect<A, E, R>
): Effect.Effect<A, E | Failure, R> =>
  Effect.suspend(() => {
    const left = Deferred.makeUnsafe<never, Failure>()
    const leave = (signal: NodeJS.Signals) =>
      Deferred.doneUnsafe(left, Effect.fail(new Failure({ message: "", exitCode: codeOf(signal) })))
    const receivers: Array<(signal: NodeJS.Signals) => void> = [leave]
    let isToldToEnd = false
    const onSignal = (signal: NodeJS.Signals) => {
      isToldToEnd ||= !signal.startsWith("SIGUSR")
      receivers.at(-1)!(signal)
    }
    // Those of the runtime end the program, which must not happen before the command has ended.
    const others = passedOn.map((signal) => [signal, process.listeners(signal)] as const)
    for (const signal of passedOn) process.removeAllListeners(signal).on(signal, onSignal)
    const restore = Effect.sync(() => {
      for (const [signal, listeners] of others) {
        process.removeListener(signal, onSignal)
        for (const listener of listeners) process.on(signal, listener as NodeJS.SignalsListener)
      }
    })
    const passTo: Signals["passTo"] = (receive) => (during) =>
      Effect.acquireUseRelease(
        Effect.sync(() => void receivers.push(receive)),
        () => during,
        () => Effect.sync(() => void receivers.splice(receivers.indexOf(receive), 1))
      )
    return Effect.ensuring(
      Effect.raceFirst(use({ passTo, isToldToEnd: () => isToldToEnd }), Deferred.await(left)),
      restore
    )
  })

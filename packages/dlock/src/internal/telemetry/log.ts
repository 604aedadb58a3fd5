import * as Effect from "effect/Effect"

/** Every line of this library says which component wrote it and about which key. */
export const logged = <A, E, R>(effect: Effect.Effect<A, E, R>, key: string): Effect.Effect<A, E, R> =>
  Effect.annotateLogs(effect, { component: "dlock", key })

/** A part of ours that must not fail has failed. What it was about goes on as well as it can, and somebody hears of it. */
export const broken = (what: string, defect: unknown, key = ""): Effect.Effect<void> =>
  logged(Effect.logError(`${what} of dlock is broken`, defect), key)

/** What throws where it is called dies as an effect instead: there it is met like any other failure. */
export const called = <A, E>(call: () => Effect.Effect<A, E>): Effect.Effect<A, E> => {
  try {
    return call()
  } catch (defect) {
    return Effect.die(defect)
  }
}

/**
 * Calls back into code that is not ours, such as an observer that a program put on a fiber. What it throws must not keep
 * others from being called.
 */
export const callBack = (callback: () => void, key = ""): void => {
  try {
    callback()
  } catch (error) {
    Effect.runFork(logged(Effect.logError("An observer of a lock threw", error), key))
  }
}

import { now } from "./events.ts"

const period = 10
/** What a timer may be late by on a machine that has other work. */
const usual = 20
/** Milliseconds after which it is told that nothing was to be told. */
const beat = 250

/** Tells of each stretch of time in which nothing of this process ran, and now and then of none: by then all is told. */
export const watchLag = (tell: (from: number, to: number) => void): () => void => {
  let last = now()
  let toldAt = last
  const timer = setInterval(() => {
    const moment = now()
    const stood = moment - last > period + usual
    if (stood || moment - toldAt > beat) tell(stood ? last : moment, toldAt = moment)
    last = moment
  }, period)
  timer.unref()
  return () => clearInterval(timer)
}

import { now } from "./events.ts"

const period = 10
/** What a timer may be late by on a machine that has other work. */
const usual = 20

/** Tells of each stretch of time in which nothing of this process ran. */
export const watchLag = (tell: (from: number, to: number) => void): () => void => {
  let last = now()
  const timer = setInterval(() => {
    const moment = now()
    if (moment - last > period + usual) tell(last, moment)
    last = moment
  }, period)
  timer.unref()
  return () => clearInterval(timer)
}

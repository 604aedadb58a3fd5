import { now } from "./events.ts"

const period = 10
/** By how many milliseconds a timer may be late on a busy machine. */
const usual = 20
/** After how many milliseconds without a lag that is reported too. */
const beat = 250

/**
 * Reports each time span in which this process did not run. Now and then it reports an empty one: all earlier spans are
 * reported by then.
 */
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

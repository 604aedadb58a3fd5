/** Lateness of this process's event loop since the recording began. */
export interface Lag {
  /** The longest time in milliseconds by which a timer came late so far, one that is late right now included. */
  readonly max: () => number
  readonly stop: () => void
}

const period = 5

/** Records event-loop lag, so that a deadline assertion can allow for what the machine, not the library, took. */
export const recordLag = (): Lag => {
  let last = performance.now()
  let longest = 0
  const observe = (): number => {
    longest = Math.max(longest, performance.now() - last - period)
    return longest
  }
  const timer = setInterval(() => {
    observe()
    last = performance.now()
  }, period)
  timer.unref()
  let stopped = false
  return {
    max: () => stopped ? longest : observe(),
    stop: () => {
      if (stopped) return
      observe()
      stopped = true
      clearInterval(timer)
    }
  }
}

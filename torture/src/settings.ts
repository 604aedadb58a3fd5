import type { Assignment } from "./assignment.ts"
import type { With } from "./dimensions.ts"
import type { Backend } from "./fields/index.ts"

const keys = (count: number) => Array.from({ length: count }, (_, index) => `hot-${index}`)

/** Where a dimension has its own faults, those that explain much come seldom. */
const calmer: Readonly<Record<string, number>> = {
  "cut": 4,
  "delete the key": 0.3,
  "kill the clients": 1,
  "kill the subscribers": 1,
  "flush the scripts": 0.5,
  "flush everything": 0.03
}

/** How a campaign against a subject on a backend goes. */
export const settingsOf = (backend: Backend, subject: string, ttl: number, dimensions: With) => {
  const onEtcd = backend === "etcd" || backend === "etcd3"
  // etcd counts in whole seconds: a holder that asks for one gets two, less the guard gap.
  const granted = onEtcd ? 1_900 : ttl
  const assignment: Omit<Assignment, "subject" | "address" | "resource" | "who" | "seed" | "calm"> = {
    ttl,
    hot: keys(8),
    fibers: 2,
    cold: 3,
    long: 0.3,
    rest: 20
  }
  const usual = {
    workers: 6,
    granted,
    guard: 100,
    assignment,
    nemesis: {
      lanes: dimensions.has("replicas") ? 3 : 6,
      pause: 40,
      serverPause: 3_000,
      only: undefined as ReadonlyArray<string> | undefined,
      weights: dimensions.size > 0 ? calmer : {}
    },
    stretch: 1,
    /** Seconds after which nothing new is to be expected. */
    longest: Infinity,
    /** What is begun has this long to end when the faults are over, milliseconds. */
    patience: 3 * granted + 5_000,
    /** What the end of a campaign takes, about. */
    drain: 4_000 + granted,
    /** Sections a second without which a run is void. */
    floor: onEtcd ? 5 : dimensions.has("replicas") ? 15 : 30
  }
  switch (subject) {
    // A renewal finds the key missing only where another came and went in between.
    case "re-create":
      return {
        ...usual,
        workers: 3,
        assignment: { ...assignment, fibers: 1, long: 0.4, rest: 300 },
        nemesis: { ...usual.nemesis, only: ["delete the key"] },
        floor: 5
      }
    // What counts is that a holder hears nothing from the beginning.
    case "no-deadline":
    case "reply-deadline":
    case "twice-the-ttl":
      return {
        ...usual,
        workers: 4,
        assignment: { ...assignment, long: 0.6 },
        nemesis: { ...usual.nemesis, lanes: 3, only: ["hold", "hold the requests"] },
        stretch: 1.5
      }
    // Who was not woken, or does not come back, is found when all others have gone.
    case "lost-wake-up":
    case "gives-up":
      return { ...usual, longest: 25 }
    case "default-client":
      return { ...usual, stretch: 4 }
    default:
      return usual
  }
}

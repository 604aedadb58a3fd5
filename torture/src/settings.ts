import { type Assignment, type Crowd, type Keep, placeOf } from "./assignment.ts"
import type { Backend } from "./backends.ts"
import type { Dimension, With } from "./dimensions.ts"
import type { Rule } from "./events.ts"
import { jobKeys } from "./jobs.ts"
import { leaderKeys } from "./leaders.ts"
import { sharedKeys } from "./lockShape.ts"
import { isBehindProxy, longDoomed, workers } from "./roles.ts"
import { hasShared } from "./subjects/index.ts"

const keys = (count: number) => Array.from({ length: count }, (_, index) => `hot-${index}`)

/** Keys of which a section wants several. On a cluster some of them have one slot, and some do not. */
const setKeys = ["set-{a}-0", "set-{a}-1", "set-{b}-0", "set-{b}-1"]

/** Dimensions whose faults need not stand out among the usual ones. */
const quiet: ReadonlySet<Dimension> = new Set<Dimension>(["shared", "several", "jobs", "revocations", "leaders"])

/** Seconds for a server from which on a run has crowds and bursts of the full size. */
const longRun = 300

/** Waiters of a crowd on etcd. */
const crowdOnEtcd = 1_000

/** Those of a process that dies while somebody holds what it waits for: enough to tell whether each costs those behind it time. */
const doomedOnEtcd = 60

/** Milliseconds that most of a crowd ask for. */
const longCrowd = 8_000

/** The same for those that nothing ends. Where the dead stand behind one of these, their queue lasts as long. */
export const longFar = 30_000

/** Milliseconds after which one who died while it waited on etcd is passed over: see docs/guarantees.md, number 9. */
const deadAfterOnEtcd = 5_000

/** What the quiet worker has for long, so that others die behind it: about twice what it takes to know of that. */
export const behind: Keep = { key: "behind", ttl: 4_000, millis: 11_000 }

const idleWith: ReadonlyArray<Dimension> = ["crowds", "notifications"]
const failedWith: ReadonlyArray<Dimension> = [
  "crowds",
  "bursts",
  "busy-thread",
  "proxies",
  "learners",
  "refusals",
  "tokens"
]

/** Rules that are checked only where a dimension asks for it: elsewhere too many faults explain what they find. */
const rulesWithout = (dimensions: With): ReadonlyArray<Rule> => [
  ...(idleWith.some((one) => dimensions.has(one)) ? [] : ["idle"] as const),
  ...(failedWith.some((one) => dimensions.has(one)) ? [] : ["failed", "gone"] as const)
]

/**
 * Milliseconds within which those behind a proxy are let in: it may tell a watch nothing or late, so that only the next look
 * finds it, which comes within two seconds; and a hand-over through it takes up to one.
 */
const noticeBehindProxy = 3_000

/** Where a dimension has its own faults, those that explain much come seldom. */
const calmerOnEtcd: Readonly<Record<string, number>> = {
  "cut": 4,
  "delete the key": 6,
  "revoke the lease": 0.5,
  "compact the history": 0.5,
  "freeze the server": 1,
  "restart the server": 1,
  "freeze the leader": 0.5,
  "freeze a member": 0.5,
  "kill the leader": 1
}
const calmer: Readonly<Record<string, number>> = {
  "cut": 4,
  "delete the key": 0.2,
  "kill the clients": 0.2,
  "kill the subscribers": 0.2,
  "flush the scripts": 0.1,
  "flush everything": 0.03
}

/** How a campaign against a subject on a backend goes. */
export const settingsOf = (backend: Backend, subject: string, ttl: number, dimensions: With, seconds: number) => {
  const onEtcd = backend === "etcd" || backend === "etcd3"
  // etcd counts in whole seconds: a holder that asks for one gets two, less the guard gap.
  const granted = onEtcd ? 1_900 : ttl
  const hasOwnFaults = Array.from(dimensions).some((one) => !quiet.has(one))
  const hot = dimensions.has("shared") && hasShared(subject) ? [...keys(8 - sharedKeys.length), ...sharedKeys] : keys(8)
  const sets = dimensions.has("several") && hasShared(subject) ? setKeys : []
  const leaders = dimensions.has("leaders") && hasShared(subject) ? leaderKeys : []
  const isRevoked = dimensions.has("revocations") && hasShared(subject)
  const guard = dimensions.has("closing") ? 1_000 : 100
  const assignment: Omit<Assignment, "subject" | "address" | "resource" | "who" | "seed" | "calm"> = {
    ttl,
    hot,
    fibers: 2,
    sets,
    leaders,
    revocable: isRevoked ? [...hot, ...sets, ...leaders] : [],
    lingering: isRevoked ? 0.25 : 0,
    jobs: dimensions.has("jobs") && hasShared(subject) ? jobKeys : [],
    cold: 3,
    long: 0.3,
    writers: 0.1,
    rest: 20,
    strict: dimensions.has("time-limits") ? 100 : undefined,
    guard,
    ending: dimensions.has("closing") ? 0.6 * guard : 0,
    joins: dimensions.has("crowds") ? onEtcd ? ["crowd", behind.key] : ["crowd"] : [],
    ...(dimensions.has("crowds") && onEtcd && { keeps: behind })
  }
  const crowd: Crowd = {
    key: "crowd",
    waiters: onEtcd ? crowdOnEtcd : seconds < longRun ? 1_000 : 10_000,
    ttls: [1_000, longCrowd, longCrowd]
  }
  const doomed: Crowd | undefined = !onEtcd || !dimensions.has("crowds")
    ? undefined
    : { key: behind.key, waiters: doomedOnEtcd, ttls: [longDoomed] }
  /** Nothing ends these processes, so nothing of them stays behind. */
  const far: Crowd = { key: "far", waiters: 30, ttls: [longFar] }
  const usual = {
    workers,
    granted,
    checker: {
      guard,
      ending: assignment.ending,
      without: rulesWithout(dimensions),
      // etcd looks for leases that are over twice a second. The limits of its store's calls do not wait for their sockets to be
      // read: one busy stretch of seconds fails no call, since it is asked again, but one after the other does (336 ms of which
      // the thread had no processor for 226 failed, as did what came a second after a burst). So etcd has no `busy-thread`.
      ...(onEtcd && { grain: 1_000, deadAfter: deadAfterOnEtcd, busyFails: true }),
      ...(dimensions.has("proxies") && {
        remote: {
          places: Array.from({ length: workers }, (_, index) => index).filter(isBehindProxy).map(placeOf),
          notice: noticeBehindProxy
        }
      })
    },
    crowds: [
      ...(dimensions.has("crowds") ? [{ role: "crowd" as const, crowd }] : []),
      ...(doomed === undefined ? [] : [{ role: "doomed" as const, crowd: doomed }]),
      ...Array.from({ length: dimensions.has("notifications") ? 2 : 0 }, () => ({ role: "far" as const, crowd: far }))
    ],
    /**
     * Milliseconds for which something of those who died may stand at the servers. The keys of a queue on Redis are kept half
     * as long again as the longest claim in it, from when that was last lengthened; where the dead are all that is left in it,
     * nobody comes who would clear them away. And its clock may be set back by three seconds when all is over.
     */
    leftFor: Math.max(
      3 * granted + 5_000,
      dimensions.has("crowds") ? (onEtcd ? longFar : 1.5 * (longFar + guard) + 3_000) + 3_000 : 0
    ),
    assignment,
    nemesis: {
      faultLoops: hasOwnFaults ? 3 : 6,
      pause: 40,
      serverPause: hasOwnFaults && onEtcd
        ? 5_000
        : dimensions.has("handshakes")
        ? 1_500
        : dimensions.has("crowds") || dimensions.has("notifications")
        ? 15_000
        : 3_000,
      only: undefined as ReadonlyArray<string> | undefined,
      weights: !hasOwnFaults ? {} : onEtcd ? calmerOnEtcd : calmer
    },
    stretch: 1,
    /**
     * Twice what a locker asks for at a time, at least. Whoever asks behind a burst comes after it, and each of its grants
     * waits for a replica: 20,000 took 42 s of two busy cores, and `patience` is a tenth of that.
     */
    burst: onEtcd || seconds < longRun ? 4_000 : 20_000,
    /** Seconds after which nothing new is to be expected. */
    longest: Infinity,
    /** What is begun has this long to end when the faults are over, milliseconds. */
    patience: (doomed === undefined ? 3 * granted : longDoomed) + 5_000 + 20 * assignment.ending,
    /** What the end of a campaign takes, about. */
    drain: 4_000 + granted + (leaders.length === 0 ? 0 : 1_000),
    /** Sections a second without which a run is void. */
    floor: onEtcd ? 5 : hasOwnFaults ? 15 : 30
  }
  switch (subject) {
    // A renewal finds the key missing only where another came and went in between.
    case "renewal-creates":
      return {
        ...usual,
        workers: 3,
        assignment: { ...assignment, fibers: 1, long: 0.4, rest: 300 },
        nemesis: { ...usual.nemesis, only: ["delete the key"] },
        floor: 5
      }
    // It shows only while a writer waits for one that goes on as a reader.
    case "downgrade-gives-up-the-claim":
      return { ...usual, assignment: { ...assignment, hot: ["readers"], fibers: 4, writers: 0.5 } }
    // It shows where the holder is connected.
    case "revocation-unheard":
      return {
        ...usual,
        nemesis: {
          ...usual.nemesis,
          faultLoops: 2,
          pause: 1_000,
          serverPause: 10_000,
          only: ["cut", "SIGSTOP", "delete the key"]
        }
      }
    // It shows where somebody else stands when a leader is interrupted.
    case "leader-released-early":
      return {
        ...usual,
        assignment: { ...assignment, hot: keys(2), fibers: 1, cold: 1 },
        nemesis: { ...usual.nemesis, faultLoops: 2, only: ["SIGTERM", "cut"] },
        floor: 5
      }
    // What counts is that a holder hears nothing from the beginning.
    case "no-deadline":
    case "deadline-from-reply":
    case "twice-the-ttl":
      return {
        ...usual,
        workers: 4,
        assignment: { ...assignment, long: 0.6 },
        nemesis: { ...usual.nemesis, faultLoops: 3, only: ["hold", "hold the requests"] },
        stretch: 1.5
      }
    // Who was not woken, or does not come back, is found when all others have gone.
    case "notification-dropped":
    case "never-reconnects":
      return { ...usual, longest: 25 }
    case "default-client":
      return { ...usual, stretch: 4 }
    default:
      return usual
  }
}

import type { BackendName } from "./backendName.ts"
import { Random } from "./random.ts"

/** What only some worlds have: a kind of event, or a rule. */
export type Dimension = /** The store waits for replicas to confirm its grants; they do, or late, or not. */
  | "replicas"
  /** Many processes wait for one lock, and a process with many of the waiters dies. The lock must not stay idle. */
  | "crowds"
  /**
   * Many wait for one lock, and notifications of their grants are lost, late, or cross with their requests. On etcd
   * many waiters also give up at the same moment and ask again, while the events that they receive are old.
   */
  | "notifications"
  /** Processes pause while replies lie in their sockets. Server and network are healthy. */
  | "stalls"
  /** Lockers close while sections run that take a while to end. */
  | "closing"
  /** Callers get an answer within their time limits, whatever the server does. */
  | "time-limits"
  /** No tombstone of a withdrawn claim is left unless an answer was lost. */
  | "tombstones"
  /** For a while a server refuses the credentials of a process: its requests, or its new connections. */
  | "handshakes"
  /** A proxy before the server numbers watches by itself, and begins them in any order. */
  | "proxies"
  /** Auth tokens expire. A stream that was opened with an expired token gets no more watches. */
  | "tokens"
  /** Claims with a long ttl wait behind others. Their processes die, or are silent for seconds. */
  | "dead-waiters"
  /** An operator deletes claims from queues in which processes hand over to claims of their own. */
  | "successors"
  /** Processes send many requests at once, so that requests go in batches. */
  | "bursts"
  /** For a while one member of a cluster, or all of them, refuse requests. */
  | "refusals"
  /**
   * A process counts as far from the head of a queue when claims of only two or three other processes come before its
   * own.
   */
  | "far-waiters"
  /**
   * An operator deletes claims of semaphores and read-write locks, or one of a writer's two keys, while answers are late and
   * others wait.
   */
  | "shared-deletions"
  /** Programs want several locks at once, in any combination and any order. */
  | "several"
  /** Programs run jobs once. */
  | "jobs"
  /** Sections have a `maxHold`, and programs that take a while to end, or longer than they may. */
  | "caps"
  /** Programs have observers on their fibers that throw. The library must survive an exception out of any callback. */
  | "observers"
  /** Programs take some of their steps in a section that re-enters their lock. */
  | "re-entries"
  /** Holders ask whether others wait behind them, and give way then. */
  | "contention"
  /** Operators ask holders to leave, or take their locks. */
  | "revocations"
  /** Programs lead, and others observe who does. */
  | "leaders"
  /** If there is a proxy, it sends some events to the wrong watch too. */
  | "stray-events"

/** The dimensions of every run: what the library promises on a backend. */
export const usual: Readonly<Record<BackendName, ReadonlySet<Dimension>>> = {
  redis: new Set([
    "replicas",
    "crowds",
    "notifications",
    "stalls",
    "closing",
    "time-limits",
    "tombstones",
    "handshakes",
    "observers",
    "several",
    "jobs",
    "re-entries",
    "contention",
    "caps",
    "revocations",
    "leaders"
  ]),
  etcd: new Set([
    "closing",
    "observers",
    "proxies",
    "tokens",
    "refusals",
    "dead-waiters",
    "bursts",
    "successors",
    "notifications",
    "far-waiters",
    "shared-deletions",
    "several",
    "jobs",
    "re-entries",
    "contention",
    "caps",
    "revocations",
    "leaders",
    "stray-events"
  ])
}

interface Kind {
  readonly backends: ReadonlyArray<BackendName>
  /** In which share of the worlds it is. */
  readonly share: number
  /** It has a scenario: a world has at most one such dimension. */
  readonly alone?: true
  /** By backend, it has the worlds that this dimension has on the other one. */
  readonly insteadOf?: Readonly<Partial<Record<BackendName, Dimension>>>
}

/**
 * The order decides which worlds have which dimension. Add a new one at the end, so that all others keep their worlds.
 */
const kinds: Readonly<Record<Dimension, Kind>> = {
  replicas: { backends: ["redis"], share: 0.3 },
  crowds: { backends: ["redis"], share: 0.1, alone: true },
  notifications: { backends: ["redis", "etcd"], share: 0.1, alone: true },
  stalls: { backends: ["redis"], share: 0.1, alone: true },
  closing: { backends: ["redis", "etcd"], share: 0.1, alone: true },
  "time-limits": { backends: ["redis", "etcd"], share: 1 },
  tombstones: { backends: ["redis"], share: 1 },
  handshakes: { backends: ["redis"], share: 0.1, alone: true },
  observers: { backends: ["redis", "etcd"], share: 0.2 },
  proxies: { backends: ["etcd"], share: 0.3 },
  tokens: { backends: ["etcd"], share: 0.3 },
  refusals: { backends: ["etcd"], share: 0.2, alone: true },
  "dead-waiters": { backends: ["etcd"], share: 0.1, alone: true },
  bursts: { backends: ["etcd"], share: 0.1, alone: true },
  successors: { backends: ["etcd"], share: 0.1, alone: true },
  "far-waiters": { backends: ["etcd"], share: 0.4 },
  "shared-deletions": { backends: ["etcd"], share: 0, alone: true, insteadOf: { etcd: "stalls" } },
  several: {
    backends: ["redis", "etcd"],
    share: 0,
    alone: true,
    insteadOf: { redis: "refusals", etcd: "handshakes" }
  },
  jobs: { backends: ["redis", "etcd"], share: 0.08 },
  // It sends no message and takes no time, so that all else in a world stays as it was.
  "re-entries": { backends: ["redis", "etcd"], share: 0.3 },
  contention: {
    backends: ["redis", "etcd"],
    share: 0,
    alone: true,
    insteadOf: { redis: "dead-waiters", etcd: "crowds" }
  },
  caps: { backends: ["redis", "etcd"], share: 0, alone: true, insteadOf: { redis: "bursts", etcd: "crowds" } },
  revocations: {
    backends: ["redis", "etcd"],
    share: 0,
    alone: true,
    insteadOf: { redis: "successors", etcd: "handshakes" }
  },
  leaders: { backends: ["redis", "etcd"], share: 0, alone: true, insteadOf: { redis: "successors", etcd: "crowds" } },
  "stray-events": { backends: ["etcd"], share: 0.5 }
}

export const dimensions = Object.keys(kinds) as ReadonlyArray<Dimension>

/**
 * The dimensions of a world, out of the usual and the extra ones. Whether it has one does not depend on which others
 * are allowed.
 */
export const drawn = (seed: number, backend: BackendName, extra: ReadonlySet<Dimension>): ReadonlySet<Dimension> => {
  const slot = drawnAlone(Random.of(seed, 20).next())
  const inSlot = dimensions.filter((one) =>
    kinds[one].alone === true && (kinds[one].insteadOf?.[backend] ?? one) === slot
  )
  // Two that have the worlds of a third one share them.
  const only = inSlot.length > 1 ? Random.of(seed, 24).pick(inSlot.filter((one) => one !== slot)) : inSlot[0]
  return new Set(dimensions.filter((one, index) => {
    const { alone, share } = kinds[one]
    const has = alone === true ? only === one : Random.of(seed, 21, index).chance(share)
    return has && isIn(backend, one, extra)
  }))
}

const drawnAlone = (dice: number): Dimension | undefined => {
  let left = dice
  return dimensions.find((one) => {
    const { alone, share } = kinds[one]
    if (alone !== true) return false
    left -= share
    return left < 0
  })
}

/** Whether some worlds of a backend have it. */
export const isIn = (backend: BackendName, one: Dimension, extra: ReadonlySet<Dimension>): boolean =>
  kinds[one].backends.includes(backend) && (usual[backend].has(one) || extra.has(one))

/** Whether a watch may get events of other watches, and its own too late. */
export const mixesEventsUp = (dimensions: ReadonlySet<Dimension>): boolean =>
  dimensions.has("proxies") && dimensions.has("stray-events")

export const none: ReadonlySet<Dimension> = new Set()

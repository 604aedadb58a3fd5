import type { BackendName } from "./backendName.ts"
import { Random } from "./random.ts"

/** What may be in a world besides what is in all of them: something that happens there, or a rule that holds there. */
export type Dimension = /** The store waits for replicas to confirm its grants; they do, or late, or not. */
  | "replicas"
  /** Many wait for one lock, and a process dies with a whole queue: it may not stand idle for that. */
  | "crowds"
  /**
   * Many wait for one lock, and what tells them of their grants is lost or late, or meets what they ask. On etcd many give up
   * at the same moment besides and ask again, while what they hear of others is of the past.
   */
  | "notifications"
  /** Processes stand still while replies lie in their sockets, on a server and a network that are whole. */
  | "stalls"
  /** Lockers close under sections that take their time to end. */
  | "closing"
  /** Callers are answered in their time, whatever the server does. */
  | "time-limits"
  /** No mark of a cancelled claim is left where no answer was lost. */
  | "tombstones"
  /** A server refuses who a process is, for a while: what it asks, or its new connections. */
  | "handshakes"
  /** A proxy before the server names watches itself, and tells some of what is another's. */
  | "proxies"
  /** Tokens run out: on a stream that was opened with one no more watches are to be had. */
  | "tokens"
  /** Claims that may stand for long wait behind others; their processes die, or fall silent for seconds. */
  | "dead-waiters"
  /** Somebody deletes claims of queues in which processes hand over to their own. */
  | "successors"
  /** Processes ask for much at once, so that what they ask goes together. */
  | "bursts"
  /** Members of a cluster refuse what they are asked, or all of them do, for a while. */
  | "refusals"
  /** A process soon counts as far from the head of a queue: where claims of two or three other processes are before its own. */
  | "far-waiters"
  /** Programs have put observers on their fibers that throw: what runs on within a call back must harm nobody else. */
  | "observers"

/** Those that every run has: what the library lives up to on a backend. */
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
    "observers"
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
    "far-waiters"
  ])
}

interface Kind {
  readonly backends: ReadonlyArray<BackendName>
  /** In what part of the worlds it is. */
  readonly share: number
  /** It changes what a world is about: no other of these is there. */
  readonly alone?: true
}

/** Their order tells which worlds each is in. A new one is the last, so that those of the others stay theirs. */
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
  "far-waiters": { backends: ["etcd"], share: 0.4 }
}

export const dimensions = Object.keys(kinds) as ReadonlyArray<Dimension>

/** Which of the usual and of those besides a world has. None of it depends on which others there might have been. */
export const drawn = (seed: number, backend: BackendName, extra: ReadonlySet<Dimension>): ReadonlySet<Dimension> => {
  let dice = Random.of(seed, 20).next()
  return new Set(dimensions.filter((one, index) => {
    const { alone, share } = kinds[one]
    const has = alone === true ? dice >= 0 && dice < share : Random.of(seed, 21, index).chance(share)
    if (alone === true) dice -= share
    return has && isIn(backend, one, extra)
  }))
}

/** Whether some of the worlds of a backend have it. */
export const isIn = (backend: BackendName, one: Dimension, extra: ReadonlySet<Dimension>): boolean =>
  kinds[one].backends.includes(backend) && (usual[backend].has(one) || extra.has(one))

export const none: ReadonlySet<Dimension> = new Set()

import { type Backend, backends } from "./backends.ts"

const redis: ReadonlyArray<Backend> = ["redis"]
const etcd: ReadonlyArray<Backend> = ["etcd", "etcd3"]
const both = [...redis, ...etcd]
const all = Object.keys(backends) as ReadonlyArray<Backend>

/** What a run can have more of than the faults of its servers and connections, and on which servers there is such a thing. */
export const dimensions = {
  replicas: {
    on: redis,
    about: "grants that a replica must have, replicas that freeze, and requests that arrive when their client has gone"
  },
  crowds: {
    on: both,
    about: "processes of many waiters that die, freeze and lose their connections; keys that stand idle, slow scripts"
  },
  bursts: {
    on: both,
    about:
      "thousands of acquires at once in a process whose other locks go on; calls that fail although no fault hit them"
  },
  notifications: {
    on: redis,
    about: "messages to waiters far from the head that are lost or late; keys that stand idle"
  },
  handshakes: {
    on: redis,
    about: "users whose password, database or commands are refused for a while, and connections made anew meanwhile"
  },
  closing: {
    on: both,
    about: "layers that close while sections of detached fibers run, which take a moment to end"
  },
  "time-limits": {
    on: both,
    about: "callers' time limits, kept within 100 ms whatever faults hit the servers"
  },
  tombstones: {
    on: redis,
    about: "tombstones of cancelled claims, only where an answer may have been lost"
  },
  shared: {
    on: all,
    about: "semaphores, of which one is being rolled between two capacities, and read-write locks among the hot keys"
  },
  several: {
    on: all,
    about: "sections that want several of four keys at once, in any combination and any order"
  },
  jobs: {
    on: all,
    about: "jobs that all workers try to run, once for each slot; some runs fail"
  },
  revocations: {
    on: all,
    about:
      "an operator who looks at locks, asks holders to leave, and rarely breaks a lock; holders that obey or do not"
  },
  leaders: {
    on: all,
    about: "leaders of two names in all workers, which end, resign, hang and take a moment to end; SIGTERM"
  },
  "busy-thread": {
    on: redis,
    about:
      "a thread that is busy for seconds while replies lie in its socket; calls that fail although no fault hit them"
  },
  proxies: {
    on: etcd,
    about: "half of the workers behind etcd's own gRPC proxy, which is killed and comes back"
  },
  learners: {
    on: etcd,
    about: "a learner among the hosts, which answers next to nothing"
  },
  refusals: {
    on: etcd,
    about: "a member that answers \"too many requests\" or \"corrupt\" for a while, which nobody is to notice"
  },
  tokens: {
    on: etcd,
    about: "users with passwords, whose tokens live for seconds and are over with each change of users"
  },
  space: {
    on: etcd,
    about: "servers that run out of space, until somebody makes some"
  },
  permissions: {
    on: etcd,
    about: "a user whose role may not touch the locks for a while"
  }
} as const satisfies Record<string, { readonly on: ReadonlyArray<Backend>; readonly about: string }>

export type Dimension = keyof typeof dimensions

/** Those of a run that does not name any. */
export const usual = Object.keys(dimensions) as ReadonlyArray<Dimension>

/** What a part of the run asks: whether it has this dimension. */
export type With = ReadonlySet<Dimension>

/** Those of the given that these servers have. */
export const dimensionsOn = (backend: Backend, given: ReadonlyArray<Dimension>): With =>
  new Set(given.filter((name) => dimensions[name].on.includes(backend)))

import type { Backend } from "./fields/index.ts"

/** What a run can have more of than the faults of its servers and connections. */
export const dimensions = {
  replicas:
    "grants that a replica must have, replicas that freeze, and requests that arrive when their client has gone",
  crowds:
    "processes of a thousand waiters that die, freeze and lose their connections; keys that stand idle, slow scripts",
  bursts:
    "thousands of acquires at once in a process whose other locks go on; calls that fail although nothing befell them",
  pushes: "messages to waiters far from the head that are lost or late; keys that stand idle",
  greetings: "users whose password, database or commands are refused for a while, and connections made anew meanwhile",
  closing: "layers that close while sections of detached fibers run, which take a moment to end",
  limits: "callers' time limits, kept within 100 ms whatever befell the servers",
  marks: "marks of cancelled claims, only where an answer may have been lost",
  busy:
    "a thread that is busy for seconds while replies lie in its socket; calls that fail although nothing befell them"
} as const

export type Dimension = keyof typeof dimensions

/** Those of a run that does not name any. */
export const usual = Object.keys(dimensions) as ReadonlyArray<Dimension>

/** Whether these servers are met with dimensions, so far: those of the others come with what mends the others. */
export const hasDimensions = (backend: Backend): boolean => backend === "redis"

/** What a part of the run asks: whether it has this dimension. */
export type With = ReadonlySet<Dimension>

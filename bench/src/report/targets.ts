import type { Backend, Contender } from "../contenders/index.ts"
import { median } from "../measure/stats.ts"
import { digits } from "../workloads/workload.ts"
import type { Result } from "./results.ts"

/** A number to reach, of ours. */
interface Target {
  readonly backend: Backend
  readonly workload: string
  readonly text: string
  /** The id of a column, or of another contender's column that ours is divided by. */
  readonly figure: string
  readonly over?: string
  readonly atLeast?: number
  readonly atMost?: number
  readonly places?: number
}

const targets: ReadonlyArray<Target> = [
  {
    backend: "redis",
    workload: "one-task",
    text: "one task, own key: sections, of the floor",
    figure: "ratio",
    atLeast: 0.95
  },
  {
    backend: "redis",
    workload: "many-tasks",
    text: "64 tasks, own keys: sections, of the floor",
    figure: "ratio",
    atLeast: 0.85
  },
  {
    backend: "redis",
    workload: "hot-processes-5ms",
    text: "4 × 4, hot key, 5 ms: sections, of the floor",
    figure: "ratio",
    atLeast: 0.97
  },
  {
    backend: "redis",
    workload: "hot-processes-5ms",
    text: "4 × 4, hot key, 5 ms: p99 wait, of the fair share",
    figure: "fair",
    atMost: 1.3
  },
  {
    backend: "redis",
    workload: "hot-processes-5ms",
    text: "4 × 4, hot key, 5 ms: most / least served process",
    figure: "spread",
    atMost: 1.1
  },
  {
    backend: "redis",
    workload: "hot-processes-5ms",
    text: "4 × 4, hot key, 5 ms: requests a section",
    figure: "requests",
    atMost: 2.1
  },
  {
    backend: "redis",
    workload: "waiters",
    text: "1,000 idle waiters: requests a second, of a process",
    figure: "idle1000",
    atMost: 5,
    places: 1
  },
  {
    backend: "redis",
    workload: "waiters",
    text: "500 waiters: seconds from the release until all have been in",
    figure: "drain500",
    atMost: 0.5
  },
  { backend: "redis", workload: "held", text: "10,000 held locks: CPU, % of a core", figure: "cpu", atMost: 5 },
  { backend: "redis", workload: "held", text: "heap of a lease of `Locker.scoped`, KiB", figure: "lease", atMost: 2 },
  {
    backend: "redis",
    workload: "held",
    text: "heap of a `withLock` section over its program, KiB",
    figure: "section",
    atMost: 4
  },
  {
    backend: "redis",
    workload: "take-over",
    text: "take-over after a SIGKILL: ms past the server's expiry",
    figure: "past",
    atMost: 50,
    places: 0
  },
  {
    backend: "etcd",
    workload: "one-task",
    text: "one task, own key: sections, of the floor",
    figure: "ratio",
    atLeast: 0.95
  },
  {
    backend: "etcd",
    workload: "hot-processes-5ms",
    text: "4 × 4, hot key, 5 ms: sections, of etcd3's Lock",
    figure: "perSecond",
    over: "etcd3 Lock",
    atLeast: 2
  },
  {
    backend: "etcd",
    workload: "hot-processes-5ms",
    text: "4 × 4, hot key, 5 ms: p99 wait, of the fair share",
    figure: "fair",
    atMost: 1.5
  }
]

/** As table rows: what is to be reached, where, what was measured, and whether that is it. */
export const targetRows = (
  results: ReadonlyArray<Result>,
  contenders: ReadonlyArray<Contender>
): ReadonlyArray<ReadonlyArray<string>> =>
  targets.flatMap((target) => {
    const result = results.find(({ backend, workload }) =>
      backend === target.backend && workload.name === target.workload
    )
    const ours = contenders.find(({ backend, role }) => backend === target.backend && role === "ours")?.name
    if (result === undefined || ours === undefined) return []
    const value = median(result.runs.map((outcomes) => {
      const of = (name: string) => outcomes.find(({ contender }) => contender === name)?.figures[target.figure] ?? NaN
      return target.over === undefined ? of(ours) : of(ours) / of(target.over)
    }))
    const { atLeast = -Infinity, atMost = Infinity } = target
    const reached = Number.isNaN(value) ? "not measured" : value >= atLeast && value <= atMost ? "yes" : "no"
    return [[
      target.backend,
      target.text,
      target.atLeast === undefined ? `≤ ${target.atMost}` : `≥ ${target.atLeast}`,
      Number.isNaN(value) ? "–" : digits(target.places ?? 2)(value),
      reached
    ]]
  })

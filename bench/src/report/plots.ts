import type { Backend, Contender } from "../contenders/index.ts"
import { median } from "../measure/stats.ts"
import { digits } from "../workloads/workload.ts"
import { type Result, rowsOf } from "./results.ts"
import { bars, ranges } from "./svg.ts"

export interface Plot {
  readonly file: string
  readonly alt: string
  readonly svg: string
}

const names = { redis: "Redis", etcd: "etcd" } as const

/** The plots of a backend, of what was run. */
export const plotsOf = (
  backend: Backend,
  results: ReadonlyArray<Result>,
  contenders: ReadonlyArray<Contender>
): ReadonlyArray<Plot> => {
  const find = (name: string) => results.find((result) => result.backend === backend && result.workload.name === name)
  const plots: Array<Plot> = []

  const own = ["one-task", "many-tasks"].flatMap((name) => find(name) ?? [])
  if (own.length > 0) {
    const title = `${names[backend]}: sections a second on free locks, floor = 1`
    plots.push({
      file: `bench-${backend}-free.svg`,
      alt: title,
      svg: bars(
        title,
        "sections / s",
        own.map((result) => ({
          title: result.workload.title,
          bars: rowsOf(result, contenders).map(({ contender, figures }) => ({
            name: contender.name,
            ours: contender.role === "ours",
            value: figures.ratio ?? NaN,
            label: digits(0)(figures.perSecond ?? NaN)
          }))
        }))
      )
    })
  }

  const hot = find("hot-processes-5ms")
  if (hot !== undefined) {
    const title = `${names[backend]}: waits for a hot key, 4 processes × 4 tasks, bodies of 5 ms`
    const rows = rowsOf(hot, contenders)
    plots.push({
      file: `bench-${backend}-hot.svg`,
      alt: title,
      svg: ranges(
        title,
        rows.map(({ contender, figures }) => ({
          name: contender.name,
          ours: contender.role === "ours",
          p50: figures.p50 ?? NaN,
          p99: figures.p99 ?? NaN,
          max: figures.max ?? NaN,
          label: digits(0)(figures.perSecond ?? NaN)
        })),
        16 * median(rows.map(({ figures }) => figures.body ?? NaN))
      )
    })
  }
  return plots
}

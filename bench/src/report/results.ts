import type { Backend, Contender } from "../contenders/index.ts"
import { median } from "../measure/stats.ts"
import type { Outcome, Workload } from "../workloads/workload.ts"

/** All runs of one workload on one backend. */
export interface Result {
  readonly backend: Backend
  readonly workload: Workload
  /** Run by run. */
  readonly runs: Array<ReadonlyArray<Outcome>>
}

/** One contender's line in a table: medians over the runs. */
export interface Row {
  readonly contender: Contender
  readonly figures: Readonly<Record<string, number>>
  readonly violations: number
  readonly failures: ReadonlyArray<string>
  readonly remarks: ReadonlyArray<string>
}

export const rowsOf = ({ runs }: Result, contenders: ReadonlyArray<Contender>): ReadonlyArray<Row> =>
  contenders.flatMap((contender) => {
    const own = runs.flatMap((outcomes) => outcomes.filter((outcome) => outcome.contender === contender.name))
    if (own.length === 0) return []
    const ids = new Set(own.flatMap(({ figures }) => Object.keys(figures)))
    return [{
      contender,
      figures: Object.fromEntries([...ids].map((id) => [id, median(own.map(({ figures }) => figures[id] ?? NaN))])),
      violations: own.reduce((sum, { violations }) => sum + violations, 0),
      failures: own.flatMap(({ failures }) => failures),
      remarks: [...new Set(own.flatMap(({ remark }) => remark ?? []))]
    }]
  })

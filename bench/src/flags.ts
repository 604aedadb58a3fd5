import { parseArgs } from "node:util"
import { type Backend, contenders } from "./contenders/index.ts"
import { workloads } from "./workloads/index.ts"

export interface Flags {
  readonly quick: boolean
  readonly runs: number
  readonly backends: ReadonlyArray<Backend>
  /** Names; all where there are none. */
  readonly workloads: ReadonlyArray<string>
  readonly contenders: ReadonlyArray<string>
  /** Whether it is looked where the time of a section goes. */
  readonly profile: boolean
  /** Where the report goes. */
  readonly out: string
  /** Whether this is the run that the documents show. */
  readonly whole: boolean
}

export const usage = `npm run bench -- [flags]

  --quick             one short run of each, under two minutes
  --runs N            how many runs (5, or 1 with --quick); figures are medians
  --only BACKEND      redis or etcd
  --workload NAME     one of ${workloads.map(({ name }) => name).join(", ")}; may be repeated
  --contender NAME    one of ${
  contenders.map(({ name }) => `"${name}"`).join(", ")
}; may be repeated; the floor always runs
  --profile           looks where the time of a section goes, as a whole run does
  --out FOLDER        where the report goes: docs for a whole run, .cache/bench for any other`

/** What the command line asks for, or what is wrong with it. */
export const parse = (args: ReadonlyArray<string>): Flags | string => {
  let values
  try {
    values = parseArgs({
      args: [...args],
      options: {
        quick: { type: "boolean", default: false },
        runs: { type: "string" },
        only: { type: "string" },
        workload: { type: "string", multiple: true, default: [] },
        contender: { type: "string", multiple: true, default: [] },
        profile: { type: "boolean", default: false },
        out: { type: "string" }
      }
    }).values
  } catch (error) {
    return (error as Error).message
  }
  const unknown = (what: string, name: string) => `There is no ${what} ${JSON.stringify(name)}.`
  const runs = values.runs === undefined ? (values.quick ? 1 : 5) : Number(values.runs)
  if (!Number.isInteger(runs) || runs < 1) return "--runs takes a whole number from 1."
  if (values.only !== undefined && values.only !== "redis" && values.only !== "etcd") {
    return unknown("backend", values.only)
  }
  for (const name of values.workload) {
    if (workloads.every((workload) => workload.name !== name)) return unknown("workload", name)
  }
  for (const name of values.contender) {
    if (contenders.every((contender) => contender.name !== name)) return unknown("contender", name)
  }
  const all = values.only === undefined && values.workload.length === 0 && values.contender.length === 0
  const whole = all && !values.quick && runs >= 3
  return {
    quick: values.quick,
    runs,
    backends: values.only === undefined ? ["redis", "etcd"] : [values.only],
    workloads: values.workload,
    contenders: values.contender,
    profile: values.profile || whole,
    out: values.out ?? (whole ? "docs" : ".cache/bench"),
    whole
  }
}

// One thread's share of the seeds: every `step`-th from `from`. It reports its sums now and then.
import { parentPort, workerData } from "node:worker_threads"
import type { BackendName } from "./backendName.ts"
import type { Rule } from "./checker.ts"
import { type Dimension, drawn } from "./dimensions.ts"
import * as Tally from "./tally.ts"
import { run } from "./world.ts"

export interface Share {
  readonly backend: BackendName
  readonly extra: ReadonlySet<Dimension>
  readonly rules: ReadonlySet<Rule> | undefined
  readonly within: Dimension | undefined
  readonly from: number
  readonly to: number
  readonly step: number
}

/** One in so many seeds is run twice. */
const replayedOneIn = 200
const toldEvery = 500

// Thousands of errors are made here, and nobody reads their stacks: a seed with a violation is run again elsewhere.
Error.stackTraceLimit = 0

const { backend, extra, from, rules, step, to, within } = workerData as Share
let tally = Tally.empty()
let told = performance.now()
for (let seed = from; seed < to; seed += step) {
  if (within !== undefined && !drawn(seed, backend, extra).has(within)) continue
  const result = run({ backend, seed, extra, rules })
  Tally.add(tally, result)
  if (seed % replayedOneIn === 0) {
    if (run({ backend, seed, extra, rules, recorded: true }).hash !== result.hash) {
      throw new Error(`seed ${seed} is not the same twice`)
    }
    tally.replayed++
  }
  if (performance.now() - told < toldEvery) continue
  parentPort!.postMessage(tally)
  tally = Tally.empty()
  told = performance.now()
}
parentPort!.postMessage(tally)

// Runs the workloads, all contenders in the same run, and writes what came out.
import { type Server, startEtcd, startRedis } from "dlock-testing"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { type Backend, type Contender, contenders } from "./contenders/index.ts"
import { type Flags, parse, usage } from "./flags.ts"
import { counter } from "./measure/requests.ts"
import { ProcessPool } from "./pool.ts"
import { readHistory, withRun } from "./report/history.ts"
import { isBusy, load, machine, processor, revision } from "./report/machine.ts"
import { page, remarksOf, resultTable, targetTable } from "./report/page.ts"
import { plotsOf } from "./report/plots.ts"
import type { Result } from "./report/results.ts"
import { targetRows } from "./report/targets.ts"
import { profilesOf, whereTable } from "./report/where.ts"
import { workloads } from "./workloads/index.ts"

const root = Path.resolve(import.meta.dirname, "../..")
const args = process.argv.slice(2)
if (args.includes("--help")) {
  console.log(usage)
  process.exit(0)
}
const flags = parse(args)
if (typeof flags === "string") {
  console.error(`${flags}\n\n${usage}`)
  process.exit(2)
}

const loadBefore = load()
if (isBusy(loadBefore)) {
  console.log(`The machine has other work (load ${loadBefore.toFixed(1)}): figures will be worse than they have to be.`)
}
const startedAt = performance.now()
const say = (text: string): void => {
  const seconds = Math.round((performance.now() - startedAt) / 1_000)
  console.log(`${String(Math.floor(seconds / 60)).padStart(3)}:${String(seconds % 60).padStart(2, "0")}  ${text}`)
}

const chosen = ({ backends, contenders: names }: Flags): ReadonlyArray<Contender> =>
  contenders.filter(({ backend, name, role }) =>
    backends.includes(backend) && (names.length === 0 || role === "floor" || names.includes(name))
  )

const rotated = <A>(values: ReadonlyArray<A>, by: number): ReadonlyArray<A> => {
  const start = by % values.length
  return [...values.slice(start), ...values.slice(0, start)]
}

const servers = { redis: () => startRedis(), etcd: () => startEtcd() } satisfies Record<Backend, () => Promise<Server>>

const results: Array<Result> = flags.backends.flatMap((backend) =>
  workloads
    .filter((workload) => workload.backends.includes(backend))
    .filter(({ name }) => flags.workloads.length === 0 || flags.workloads.includes(name))
    .map((workload) => ({ backend, workload, runs: [] }))
)
const all = chosen(flags)
const broken: Array<string> = []

/** One run of all workloads on one backend, with a new server. */
const runOn = async (backend: Backend, run: number): Promise<void> => {
  const mine = rotated(all.filter((contender) => contender.backend === backend), run)
  const server = await servers[backend]()
  const requests = counter(backend, server.url)
  const pool = new ProcessPool()
  const where = `run ${run + 1} of ${flags.runs}, ${backend}`
  try {
    for (const { runs, workload } of results.filter((result) => result.backend === backend)) {
      const outcomes = await workload.run({
        backend,
        url: server.url,
        port: server.port,
        contenders: mine,
        pool,
        requests,
        quick: flags.quick,
        say: (text) => say(`${where}: ${text}`)
      })
      runs.push(outcomes)
      for (const { contender, failures, violations } of outcomes) {
        if (mine.find(({ name }) => name === contender)?.role !== "ours") continue
        if (violations > 0) {
          broken.push(`${contender}, ${workload.title}: more holders at once than the lock allows, ${violations} times`)
        }
        if (failures.length > 0) broken.push(`${contender}, ${workload.title}: ${failures[0]}`)
      }
    }
  } finally {
    await pool.stop()
    requests.stop()
    await server.stop()
  }
}

for (let run = 0; run < flags.runs; run++) {
  for (const backend of flags.backends) {
    await runOn(backend, run)
  }
}

const where = flags.profile ? await profilesOf(contenders, say) : []

for (const result of results) {
  console.log(`\n${result.workload.title}, ${result.backend}\n`)
  console.log(resultTable(result, all))
  for (const remark of remarksOf(result, all)) console.log(`  ${remark}`)
}
console.log(`\nTargets\n\n${targetTable(results, all)}`)

if (where.length > 0) console.log(`\nWhere the time goes\n\n${whereTable(where)}`)

const out = Path.resolve(root, flags.out)
const historyFile = Path.join(root, "docs/bench-history.json")
const code = revision()
const date = new Date().toISOString().slice(0, 10)
const history = flags.whole
  ? withRun(readHistory(historyFile), {
    date,
    revision: code,
    processor: processor(),
    runs: flags.runs,
    figures: Object.fromEntries(
      targetRows(results, all).map(([backend, text, , figure]) => [`${backend}: ${text}`, figure!])
    )
  })
  : readHistory(historyFile)
if (flags.whole) Fs.writeFileSync(historyFile, `${JSON.stringify(history, undefined, 2)}\n`)
const plots = { redis: plotsOf("redis", results, all), etcd: plotsOf("etcd", results, all) }
const facts = {
  machine: machine(flags.backends),
  revision: code,
  date,
  command: ["npm run bench", ...(args.length > 0 ? ["--", ...args] : [])].join(" "),
  load: [loadBefore, load()] as const,
  busy: isBusy(loadBefore),
  runs: flags.runs,
  quick: flags.quick,
  minutes: Math.ceil((performance.now() - startedAt) / 60_000),
  where,
  history
}
Fs.mkdirSync(out, { recursive: true })
Fs.writeFileSync(Path.join(out, "bench.md"), page(facts, results, all, plots))
for (const { file, svg } of [...plots.redis, ...plots.etcd]) Fs.writeFileSync(Path.join(out, file), svg)
say(`written: ${Path.relative(root, Path.join(out, "bench.md"))} and its plots`)

if (broken.length > 0) {
  console.error(["Broken:", ...broken].join("\n  "))
  process.exitCode = 1
}

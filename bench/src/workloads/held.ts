import { setTimeout as sleep } from "node:timers/promises"
import type { Contender } from "../contenders/index.ts"
import { type ContenderProcess, startContender } from "../pool.ts"
import { digits, type Outcome, type Setting, type Workload } from "./workload.ts"

const all = 10_000

const keysOf = (name: string, count: number): ReadonlyArray<string> =>
  Array.from({ length: count }, (_, index) => `${name}-${index}`)

/** KiB of heap for each of them, from one state of a process to another. */
const grown = async (worker: ContenderProcess, count: number, job: () => Promise<unknown>): Promise<number> => {
  const before = await worker.call({ do: "usage" })
  await job()
  const after = await worker.call({ do: "usage" })
  return (after.heap - before.heap) / count / 1_024
}

/** Leaves its locks held, and tells what they weigh. */
const weigh = async (worker: ContenderProcess, count: number): Promise<Record<string, number>> => {
  const name = `held-${worker.contender.name.replaceAll(" ", "-")}`
  // What a library makes once it makes now.
  await worker.call({ do: "hold", keys: keysOf(`${name}-first`, 1_000), form: "section" })
  await worker.call({ do: "release" })
  const figures: Record<string, number> = {}
  if (worker.contender.role === "ours") {
    figures.lease = await grown(
      worker,
      count,
      () => worker.call({ do: "hold", keys: keysOf(`${name}-lease`, count), form: "lease" })
    )
    await worker.call({ do: "release" })
  }
  const bare = await grown(
    worker,
    count,
    () => worker.call({ do: "hold", keys: keysOf(`${name}-bare`, count), form: "bare" })
  )
  await worker.call({ do: "release" })
  const section = await grown(
    worker,
    count,
    () => worker.call({ do: "hold", keys: keysOf(name, count), form: "section" })
  )
  return { ...figures, section: section - bare }
}

/** Over whole periods of its renewals: each lock is renewed as often as any other. */
const renewing = async (worker: ContenderProcess, ttl: number): Promise<number> => {
  const period = worker.contender.renewsAfter?.(ttl)
  if (period === undefined) return NaN
  const before = await worker.call({ do: "usage" })
  const from = performance.now()
  await sleep(period * Math.max(1, Math.floor(ttl / period)))
  const during = performance.now() - from
  const after = await worker.call({ do: "usage" })
  return (after.cpu - before.cpu) / during * 100
}

const run = async ({ contenders, quick, say, url }: Setting): Promise<ReadonlyArray<Outcome>> => {
  const ttl = quick ? 4_000 : 30_000
  const countOf = ({ role }: Contender) => !quick ? all : role === "ours" ? 5_000 : 500
  const workers: Array<ContenderProcess> = []
  const outcome = (contender: Contender, figures: Record<string, number>, remark?: string): Outcome => ({
    contender: contender.name,
    figures,
    violations: 0,
    failures: [],
    ...(remark !== undefined && { remark })
  })
  try {
    const weighed: Array<{ readonly worker: ContenderProcess; readonly figures: Record<string, number> }> = []
    const outcomes: Array<Outcome> = []
    for (const contender of contenders) {
      say(`10,000 held locks: ${contender.name} takes them`)
      const worker = await startContender(contender, url, { ttl, gc: true })
      workers.push(worker)
      try {
        weighed.push({ worker, figures: await weigh(worker, countOf(contender)) })
      } catch (error) {
        outcomes.push({ ...outcome(contender, {}), failures: [String(error)] })
      }
    }
    say(`10,000 held locks: ${ttl / 1_000} s under renewal, all side by side`)
    // Hardly busy, so that they do not disturb each other.
    const renewed = await Promise.all(weighed.map(async ({ figures, worker }) => {
      const cpu = await renewing(worker, ttl) * (all / countOf(worker.contender)) * (ttl / 30_000)
      return outcome(worker.contender, { ...figures, cpu }, Number.isNaN(cpu) ? "renews nothing" : undefined)
    }))
    return [...renewed, ...outcomes]
  } finally {
    await Promise.all(workers.map((worker) => worker.kill()))
  }
}

export const held: Workload = {
  name: "held",
  title: "10,000 held locks under renewal",
  about: "One process holds the locks, each in a section whose body waits. The ttl is 30 s (12 s in a quick run). This "
    + "measures the processor time of the renewals over complete periods, and the heap of one section without "
    + "its body.",
  backends: ["redis"],
  columns: [
    { id: "cpu", title: "CPU, % of a core", show: digits(2) },
    { id: "section", title: "heap a section, KiB", show: digits(2) },
    { id: "lease", title: "heap a scoped lease, KiB", show: digits(2) }
  ],
  run
}

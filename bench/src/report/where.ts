// Where the time of a section goes, of the floor and of ours.
import { startRedis } from "dlock-testing"
import type { Contender } from "../contenders/index.ts"
import type { Profile } from "../measure/profile.ts"
import { sum } from "../measure/stats.ts"
import { ProcessPool } from "../pool.ts"
import { digits } from "../workloads/workload.ts"
import { table } from "./table.ts"

/** What one section costs, by whose code the thread was in. */
export interface Where {
  readonly title: string
  /** Microseconds of a section. */
  readonly parts: Profile
}

const shapes = [{ title: "one task", tasks: 1 }, { title: "64 tasks", tasks: 64 }]
const warmUpMs = 2_500
const measuredMs = 4_000

/** Profiles the floor and ours on a Redis of their own. It costs a process a tenth of its speed, about. */
export const profilesOf = async (
  contenders: ReadonlyArray<Contender>,
  say: (text: string) => void
): Promise<ReadonlyArray<Where>> => {
  const compared = contenders.filter(({ backend, role }) =>
    backend === "redis" && (role === "floor" || role === "ours")
  )
  const server = await startRedis()
  const pool = new ProcessPool()
  const all: Array<Where> = []
  try {
    for (const { tasks, title } of shapes) {
      for (const contender of compared) {
        say(`${title}: where the time of ${contender.name} goes`)
        const [worker] = await pool.get(contender, server.url, 1)
        const keys = Array.from({ length: tasks }, (_, task) => `where-${contender.role}-${tasks}-${task}`)
        await worker!.call({ do: "slice", keys, bodyMs: 0, ms: warmUpMs })
        const slice = await worker!.call({ do: "slice", keys, bodyMs: 0, ms: measuredMs, isProfiled: true })
        const sections = sum(slice.tasks.map(({ times }) => times.length / 3))
        const parts = Object.entries(slice.profile!).map(([part, millis]) => [part, millis * 1_000 / sections])
        all.push({
          title: `${title}, ${contender.role === "ours" ? "ours" : "floor"}`,
          parts: Object.fromEntries(parts)
        })
      }
    }
  } finally {
    await pool.stop()
    await server.stop()
  }
  return all
}

const order = [
  "waiting",
  "our core",
  "our store",
  "Effect",
  "the client",
  "Node.js",
  "garbage collection",
  "the benchmark"
]

export const whereTable = (all: ReadonlyArray<Where>): string =>
  table([
    ["µs of a section", ...all.map(({ title }) => title)],
    ...order.map((part) => [part, ...all.map(({ parts }) => digits(1)(parts[part] ?? 0))]),
    ["busy in all", ...all.map(({ parts }) => digits(1)(sum(Object.values(parts)) - (parts.waiting ?? 0)))]
  ])

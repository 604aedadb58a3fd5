import { setTimeout as sleep } from "node:timers/promises"
import type { Contender } from "../contenders/index.ts"
import { overlaps } from "../measure/sections.ts"
import type { ContenderProcess } from "../pool.ts"
import { digits, type Outcome, type Setting, short, type Workload } from "./workload.ts"

/** One process holds the key and so many tasks of another wait for it, and then each goes in and out once. */
const wait = async (contender: Contender, count: number, setting: Setting): Promise<Outcome> => {
  const { pool, quick, requests, say, url } = setting
  const key = `waiters-${count}-${contender.name.replaceAll(" ", "-")}`
  say(`${count} waiters: ${contender.name}`)
  const [holder, crowd] = await pool.get(contender, url, 2) as [ContenderProcess, ContenderProcess]
  await holder.call({ do: "hold", keys: [key], form: "section" })
  await crowd.call({ do: "queue", key, count })
  // Until all have asked, and have connected where each brings a connection.
  await sleep(quick ? 800 : 2_000)
  const before = await requests.read(contender.sends)
  const from = performance.now()
  await sleep(quick ? 500 : 5_000)
  const rate = (await requests.read(contender.sends) - before) / (performance.now() - from) * 1_000
  const limit = quick ? 1_200 : 30_000
  // A crowd that keeps the server busy may hold up the release too.
  const release = holder.call({ do: "release" })
  const drained = crowd.call({ do: "drain" }, limit).catch(() => undefined)
  const { at } = await release
  const through = await drained
  if (through === undefined) {
    await pool.replace(contender)
    return {
      contender: contender.name,
      figures: { [`idle${count}`]: rate },
      violations: 0,
      failures: [],
      remark: `${count} waiters were not through after ${limit / 1_000} s`
    }
  }
  const sections = Array.from({ length: through.times.length / 2 }, (_, index) => ({
    askedAt: at,
    enteredAt: through.times[index * 2]!,
    leftAt: through.times[index * 2 + 1]!
  }))
  return {
    contender: contender.name,
    figures: {
      [`idle${count}`]: rate,
      [`drain${count}`]: (Math.max(...sections.map(({ enteredAt }) => enteredAt)) - at) / 1_000
    },
    violations: overlaps([{ askedAt: 0, enteredAt: 0, leftAt: at }, ...sections]).found,
    failures: through.failures
  }
}

export const waiters: Workload = {
  name: "waiters",
  title: "500 and 1,000 idle waiters, and their draining",
  about:
    "One process holds the key, and all tasks of another process wait for it. This measures how many requests they "
    + "send while they wait, and how long it takes from the release until each task has had the lock.",
  backends: ["redis"],
  columns: [
    { id: "idle500", title: "500 idle: requests / s", show: digits(0) },
    { id: "drain500", title: "drained in, s", show: short },
    { id: "idle1000", title: "1,000 idle: requests / s", show: digits(0) },
    { id: "drain1000", title: "drained in, s", show: short }
  ],
  run: async (setting) => {
    const outcomes: Array<Outcome> = []
    for (const contender of setting.contenders) {
      const counts = !setting.quick || contender.role === "ours" ? [500, 1_000] : [500]
      const parts: Array<Outcome> = []
      for (const count of counts) {
        try {
          parts.push(await wait(contender, count, setting))
        } catch (error) {
          await setting.pool.replace(contender)
          parts.push({ contender: contender.name, figures: {}, violations: 0, failures: [String(error)] })
        }
      }
      const remarks = parts.flatMap(({ remark }) => remark ?? [])
      outcomes.push({
        contender: contender.name,
        figures: Object.assign({}, ...parts.map(({ figures }) => figures)) as Outcome["figures"],
        violations: parts.reduce((sum, { violations }) => sum + violations, 0),
        failures: parts.flatMap(({ failures }) => failures),
        ...(remarks.length > 0 && { remark: remarks.join("; ") })
      })
    }
    return outcomes
  }
}

import { setTimeout as sleep } from "node:timers/promises"
import type { Environment } from "./environments/environment.ts"
import { now } from "./events.ts"
import type { Recorder } from "./recorder.ts"

const period = 250

/** Tells of when the servers stood still for want of a processor: nobody else would. */
export const watchServers = ({ waited }: Environment, { tell }: Recorder): () => void => {
  if (waited === undefined) return () => {}
  let [before, lookedAt] = [waited(), now()]
  const timer = setInterval(() => {
    const [sum, to] = [waited(), now()]
    // One that was started anew has not waited yet. Several may have waited at once, which has cost nobody more time than there was.
    if (sum - before > least) tell({ t: "lag", worker: "servers", from: Math.max(lookedAt, to - (sum - before)), to })
    before = sum
    lookedAt = to
  }, 100)
  return () => clearInterval(timer)
}

/** Milliseconds, out of a hundred. */
const least = 10

/** Reports slow scripts, tombstones, and locks where none belongs. Returns the function that stops it. */
export const inspect = (
  { elsewhere, tombstones, slowScripts }: Environment,
  { tell }: Recorder
): () => Promise<void> => {
  let over = false
  const seen = new Set<string>()
  const watch = async () => {
    let from = now()
    while (!over) {
      await sleep(period)
      // A server that is away ran nothing, and keeps what it has.
      const slow = await slowScripts?.().catch(() => []) ?? []
      const at = now()
      for (const { took, what } of slow) tell({ t: "script", what, took, from, at })
      from = at
      for (const { age, key, name } of await tombstones?.().catch(() => []) ?? []) {
        if (!seen.has(name)) tell({ t: "tombstone", key, at: now() - age })
        seen.add(name)
      }
      for (const what of await elsewhere?.().catch(() => []) ?? []) {
        if (!seen.has(what)) tell({ t: "elsewhere", what })
        seen.add(what)
      }
    }
  }
  const watching = watch()
  return async () => {
    over = true
    await watching
  }
}

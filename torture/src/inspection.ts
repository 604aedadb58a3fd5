import { setTimeout as sleep } from "node:timers/promises"
import { now } from "./events.ts"
import type { Field } from "./fields/field.ts"
import type { Recorder } from "./recorder.ts"

const period = 250

/** Tells of when the servers stood still for want of a processor: nobody else would. */
export const watchServers = ({ waited }: Field, { tell }: Recorder): () => void => {
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

/** Tells of each script that was slow, of marks, and of locks where none belongs. Returns the way to stop that. */
export const inspect = ({ elsewhere, marks, slowScripts }: Field, { tell }: Recorder): () => Promise<void> => {
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
      for (const { age, key, name } of await marks?.().catch(() => []) ?? []) {
        if (!seen.has(name)) tell({ t: "mark", key, at: now() - age })
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

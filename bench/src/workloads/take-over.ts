import { Etcd3 } from "etcd3"
import { Redis } from "ioredis"
import { setTimeout as sleep } from "node:timers/promises"
import type { Contender } from "../contenders/index.ts"
import { now } from "../jobs.ts"
import { startContender } from "../pool.ts"
import { digits, type Outcome, type Setting, type Workload } from "./workload.ts"

const ttl = 2_000

/** When the server lets a dead holder's lock go, by the clock of `now`. */
interface Expiry {
  /** Asked right after the holder was killed. */
  readonly of: (key: string) => Promise<number>
  readonly stop: () => Promise<void>
}

/** Each library has its own prefix, and none appends anything to the key. */
const ofRedis = (url: string): Expiry => {
  const redis = new Redis(url)
  return {
    of: async (key) => {
      const [name] = await redis.keys(`*${key}`)
      if (name === undefined) throw new Error(`no lock ${key} is in the server`)
      // What was read a moment before it was heard of looks late: the earliest of several is the least wrong.
      let earliest = Infinity
      for (let n = 0; n < 10; n++) {
        const left = await redis.pttl(name)
        if (left > 0) earliest = Math.min(earliest, now() + left)
      }
      return earliest
    },
    stop: async () => redis.disconnect()
  }
}

/** etcd tells whole seconds only, so its word is the deletion itself. */
const ofEtcd = async (url: string): Promise<Expiry> => {
  const etcd = new Etcd3({ hosts: url })
  const deletions: Array<{ readonly key: string; readonly at: number }> = []
  const waiting = new Set<() => void>()
  const watcher = await etcd.watch().prefix("").create()
  watcher.on("delete", ({ key }) => {
    deletions.push({ key: key.toString(), at: now() })
    waiting.forEach((check) => check())
  })
  return {
    of: (part) => {
      const from = deletions.length
      return new Promise((resolve) => {
        const check = () => {
          const found = deletions.slice(from).find(({ key }) => key.includes(part))
          if (found === undefined) return
          waiting.delete(check)
          resolve(found.at)
        }
        waiting.add(check)
      })
    },
    stop: async () => {
      await watcher.cancel()
      etcd.close()
    }
  }
}

const takeOver = async (contender: Contender, expiry: Expiry, { url }: Setting): Promise<Outcome> => {
  const key = `take-over-${contender.name.replaceAll(" ", "-")}-end`
  const outcome = { contender: contender.name, figures: {}, violations: 0, failures: [] as Array<string> }
  const [holder, waiter] = await Promise.all([
    startContender(contender, url, { ttl }),
    startContender(contender, url, { ttl })
  ])
  try {
    await holder.call({ do: "hold", keys: [key], form: "section" })
    await waiter.call({ do: "queue", key, count: 1 })
    await sleep(700)
    const killing = holder.kill()
    const killedAt = now()
    const expires = expiry.of(key)
    await killing
    const { failures, times } = await waiter.call({ do: "drain" }, 30_000)
    const past = times[0]! - await expires
    return { ...outcome, figures: { past, dead: times[0]! - killedAt }, failures: [...failures] }
  } catch (error) {
    return { ...outcome, failures: [String(error)] }
  } finally {
    await Promise.all([holder.kill(), waiter.kill()])
  }
}

export const takeOverAfterKill: Workload = {
  name: "take-over",
  title: "Take-over after a SIGKILL",
  about: "A holder with a ttl of 2 s is killed while another process waits. This measures how long after the server's "
    + "expiry, and how long after the death, the other process has the lock. effect-dlock keeps a lock for the "
    + "guard gap longer than the ttl.",
  backends: ["redis", "etcd"],
  columns: [
    { id: "past", title: "past the expiry, ms", show: digits(0) },
    { id: "dead", title: "past the death, ms", show: digits(0) }
  ],
  run: async (setting) => {
    setting.say("Take-over after a SIGKILL: all side by side")
    const expiry = setting.backend === "redis" ? ofRedis(setting.url) : await ofEtcd(setting.url)
    try {
      return await Promise.all(setting.contenders.map((contender) => takeOver(contender, expiry, setting)))
    } finally {
      await expiry.stop()
    }
  }
}

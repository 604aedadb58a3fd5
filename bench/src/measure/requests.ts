import { Redis } from "ioredis"
import type { Backend } from "../contenders/index.ts"
import { sum } from "./stats.ts"

/** Counts at the server what clients have sent it. */
export interface Counter {
  /** How many requests so far; of commands that scripts run too, only the named ones are taken for a client's own. */
  readonly read: (sends: ReadonlyArray<string>) => Promise<number>
  readonly stop: () => void
}

/** Never run by a script. */
const clientsOnly = /^(evalsha|eval|script\|.*|ping|hello|info|client\|.*|subscribe|unsubscribe)$/

const ofRedis = (url: string): Counter => {
  const redis = new Redis(url)
  let own = 0
  return {
    read: async (sends) => {
      const stats = await redis.info("commandstats")
      const all = [...stats.matchAll(/^cmdstat_([^:]+):calls=(\d+)/gm)]
      const counted = all.filter(([, name]) => clientsOnly.test(name!) || sends.includes(name!))
      return sum(counted.map(([, , calls]) => Number(calls))) - own++
    },
    stop: () => redis.disconnect()
  }
}

const ofEtcd = (url: string): Counter => ({
  read: async () => {
    const metrics = await (await fetch(`${url}/metrics`)).text()
    const received = [...metrics.matchAll(/^grpc_server_msg_received_total\{.*\} (\S+)$/gm)]
    return sum(received.map(([, count]) => Number(count)))
  },
  stop: () => {}
})

export const counter = (backend: Backend, url: string): Counter => backend === "redis" ? ofRedis(url) : ofEtcd(url)

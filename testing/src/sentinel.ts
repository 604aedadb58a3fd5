import * as Fs from "node:fs"
import * as Path from "node:path"
import { find } from "./programs.ts"
import { type Proxy, startProxy } from "./proxy.ts"
import { command, flavour, type Group, group, node, online, orStop, until } from "./redis.ts"
import { freePorts, retry, type Server, start } from "./server.ts"

/** One primary, one replica, and three sentinels that agree on them (name: dlock). */
export interface SentinelGroup extends Group {
  readonly sentinels: Group
  /** The way by which the sentinels and the replica reach the primary, and nobody else. */
  readonly primaryLink: Proxy
  /** Leads to the primary itself those to whom a sentinel has named that way. */
  readonly natMap: Readonly<Record<string, { readonly host: string; readonly port: number }>>
  /** Cuts the primary off from sentinels and replica; who knows its own address still reaches it. */
  readonly isolate: () => void
  /** Waits until the sentinels name the other server and it is a primary. */
  readonly promoted: () => Promise<Server>
}

/** Fails over within about two seconds. With `password`, servers and sentinels each ask for theirs. */
export const startSentinel = (
  options: { readonly password?: string; readonly sentinelPassword?: string } = {}
): Promise<SentinelGroup> =>
  retry(async () => {
    const program = find(flavour())
    const [primary, replica, ...watchers] = await freePorts(5) as [number, number, ...Array<number>]
    const link = await startProxy(primary)
    const secret = options.password === undefined
      ? []
      : ["--requirepass", options.password, "--masterauth", options.password]
    const started = await group([
      node(primary, secret, program),
      node(replica, [...secret, "--replicaof", "127.0.0.1", `${link.port}`], program)
    ])
    const data = { servers: started.servers, stop: () => Promise.all([started.stop(), link.stop()]).then(() => {}) }
    // A sentinel reads its primary's replicas as it starts, and then only every ten seconds.
    await orStop(data, online(primary, 1, options.password))
    const sentinel = (port: number) =>
      start({
        name: "sentinel",
        program,
        port,
        url: `redis://127.0.0.1:${port}`,
        args: (dir) => {
          const file = Path.join(dir, "sentinel.conf")
          const lines = [
            `port ${port}`,
            "bind 127.0.0.1",
            `sentinel monitor dlock 127.0.0.1 ${link.port} 2`,
            "sentinel down-after-milliseconds dlock 500",
            "sentinel failover-timeout dlock 3000",
            ...(options.password === undefined ? [] : [`sentinel auth-pass dlock ${options.password}`]),
            ...(options.sentinelPassword === undefined ? [] : [
              `requirepass ${options.sentinelPassword}`,
              `sentinel sentinel-pass ${options.sentinelPassword}`
            ])
          ]
          Fs.writeFileSync(file, `${lines.join("\n")}\n`)
          return [file, "--sentinel"]
        },
        ready: async () => /^(\+PONG|-NOAUTH)/.test(await command(port, "PING"))
      })
    const sentinels = await orStop(data, group(watchers.map(sentinel)))
    const all = { servers: data.servers, stop: () => sentinels.stop().then(data.stop) }
    const ask = (port: number, line: string) => command(port, line, options.sentinelPassword)
    await orStop(
      all,
      Promise.all(watchers.map((port) =>
        until("the sentinels", async () => {
          const info = await ask(port, "INFO sentinel")
          return info.includes("status=ok") && info.includes("slaves=1,sentinels=3")
        })
      ))
    )
    return {
      ...all,
      sentinels,
      primaryLink: link,
      natMap: { [`127.0.0.1:${link.port}`]: { host: "127.0.0.1", port: primary } },
      isolate: () => {
        link.refuse()
        link.reset()
      },
      promoted: async () => {
        await until("a promotion", async () => {
          const named = await Promise.all(
            watchers.map((port) => ask(port, "SENTINEL GET-MASTER-ADDR-BY-NAME dlock").catch(() => ""))
          )
          return named.filter((reply) => reply.includes(`${replica}`)).length >= 2 &&
            (await command(replica, "INFO replication", options.password)).includes("role:master")
        })
        return data.servers[1]!
      }
    }
  })

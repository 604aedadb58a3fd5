import { find } from "./programs.ts"
import { command, flavour, type Group, group, node, orStop, until } from "./redis.ts"
import { freePorts, retry } from "./server.ts"

export interface ClusterOptions {
  readonly primaries?: number
  /** Of each primary. */
  readonly replicas?: number
  readonly nodeTimeoutMs?: number
}

/** A cluster with all slots covered. Its servers: the primaries, then the replicas, of the first primary first. */
export const startCluster = (options: ClusterOptions = {}): Promise<Group> => {
  const primaries = options.primaries ?? 3
  const count = primaries * (1 + (options.replicas ?? 0))
  return retry(async () => {
    const program = find(flavour())
    const ports = await freePorts(count * 2)
    const nodes = await group(
      ports.slice(0, count).map((port, index) =>
        node(
          port,
          [
            `--cluster-enabled yes --cluster-port ${ports[count + index]}`,
            `--cluster-node-timeout ${options.nodeTimeoutMs ?? 2_000} --cluster-replica-validity-factor 0`
          ].join(" ").split(" "),
          program
        )
      )
    )
    const tell = async (port: number, line: string): Promise<string> => {
      const reply = await command(port, line)
      if (reply.startsWith("-")) throw new Error(`${line}: ${reply}`)
      return reply
    }
    const everywhere = (what: string, check: (port: number) => Promise<boolean>) =>
      Promise.all(nodes.servers.map(({ port }) => until(what, () => check(port))))
    const join = async (): Promise<void> => {
      const [first, ...others] = nodes.servers
      for (const [index, { port }] of nodes.servers.slice(0, primaries).entries()) {
        const [from, to] = [index, index + 1].map((part) => Math.ceil(16384 * part / primaries)) as [number, number]
        await tell(port, `CLUSTER ADDSLOTSRANGE ${from} ${to - 1}`)
        await tell(port, `CLUSTER SET-CONFIG-EPOCH ${index + 1}`)
      }
      for (const { port } of others) await tell(port, `CLUSTER MEET 127.0.0.1 ${first!.port} ${ports[count]}`)
      await everywhere(
        "the cluster",
        async (port) => new RegExp(`cluster_known_nodes:${count}\\b`).test(await command(port, "CLUSTER INFO"))
      )
      for (const [index, { port }] of nodes.servers.slice(primaries).entries()) {
        const primary = nodes.servers[Math.floor(index / (options.replicas ?? 1))]!
        const id = /[0-9a-f]{40}/.exec(await tell(primary.port, "CLUSTER MYID"))![0]
        // A node has to have heard of its primary first.
        await until("the replica", async () => (await command(port, `CLUSTER REPLICATE ${id}`)).startsWith("+OK"))
      }
      await everywhere("the cluster", async (port) => {
        const info = await command(port, "CLUSTER INFO")
        const replication = await command(port, "INFO replication")
        return info.includes("cluster_state:ok") && info.includes(`cluster_size:${primaries}`) &&
          (replication.includes("master_link_status:up") ||
            replication.split("state=online").length - 1 === (options.replicas ?? 0))
      })
    }
    await orStop(nodes, join())
    return nodes
  })
}

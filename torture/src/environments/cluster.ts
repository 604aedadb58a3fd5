import { command, type Server, startCluster } from "dlock-testing"
import { setTimeout as sleep } from "node:timers/promises"
import { type Environment, eventually, type ServerFault } from "./environment.ts"
import { keyFaultsOn, left } from "./redis.ts"

/** Three primaries, each with a replica. */
export const startEnvironment = async (): Promise<Environment> => {
  const ttl = 800
  const group = await startCluster({ replicas: 1, nodeTimeoutMs: 1_000 })
  const { servers } = group
  const info = ({ port }: Server) => command(port, "INFO replication")
  const isPrimary = async (one: Server): Promise<boolean> => (await info(one).catch(() => "")).includes("role:master")
  const primaries = async (): Promise<ReadonlyArray<Server>> => {
    const roles = await Promise.all(servers.map(isPrimary))
    return servers.filter((_, index) => roles[index])
  }
  /** The primary of a key's slot, and its replica, as a node that answers sees them. */
  const ofKey = async (key: string): Promise<{ readonly primary: Server; readonly replica: Server | undefined }> => {
    for (const { port } of servers) {
      const slot = Number((await command(port, `CLUSTER KEYSLOT dlock:${key}`).catch(() => "")).slice(1))
      const nodes = (await command(port, "CLUSTER NODES").catch(() => "")).split("\n").map((line) => line.split(" "))
      const owner = nodes.find((fields) =>
        fields.slice(8).some((range) => {
          const [from, to] = range.split("-").map(Number) as [number, number?]
          return slot >= from && slot <= (to ?? from)
        })
      )
      const at = (fields: ReadonlyArray<string> | undefined) =>
        servers.find((one) => fields?.[1]?.startsWith(`127.0.0.1:${one.port}@`))
      const primary = at(owner)
      if (primary !== undefined) return { primary, replica: at(nodes.find((fields) => fields[3] === owner![0])) }
    }
    throw new Error(`no node knows the slot of ${key}`)
  }
  const inStep = async () => {
    const states = await Promise.all(servers.map(async (one) => {
      const replication = await info(one)
      return (await command(one.port, "CLUSTER INFO")).includes("cluster_state:ok") &&
        (replication.includes("master_link_status:up") || replication.includes("state=online"))
    }))
    return states.every((ok) => ok)
  }
  const failover = (
    breakPrimary: (primary: Server, replica: Server) => Promise<() => Promise<void> | void>
  ): ServerFault["inject"] =>
  async (key) => {
    const { primary, replica } = await ofKey(key)
    if (replica === undefined) return
    const heal = await breakPrimary(primary, replica)
    await eventually(() => isPrimary(replica), 6_000)
    await heal()
    await eventually(inStep, 10_000)
  }

  return {
    ttl,
    ports: servers.map(({ port }) => port),
    through: (ports) => ({
      kind: "cluster",
      nodes: ports.slice(0, 3),
      natMap: Object.fromEntries(servers.map(({ port }, index) => [
        `127.0.0.1:${port}`,
        { host: "127.0.0.1", port: ports[index]! }
      ]))
    }),
    serverFaults: {
      "freeze a primary for a moment": {
        weight: 3,
        forgets: false,
        inject: async (key, random) => {
          const { primary } = await ofKey(key)
          primary.signal("SIGSTOP")
          await sleep(random.between(150, 500))
          primary.signal("SIGCONT")
        }
      },
      "freeze a primary until it is replaced": {
        weight: 2,
        forgets: true,
        inject: failover(async (primary) => {
          primary.signal("SIGSTOP")
          return () => primary.signal("SIGCONT")
        })
      },
      "kill a primary": {
        weight: 2,
        forgets: true,
        inject: failover(async (primary) => {
          primary.signal("SIGKILL")
          return () => primary.restart()
        })
      },
      "order a failover": {
        weight: 2,
        forgets: true,
        inject: failover(async (_, replica) => {
          await command(replica.port, "CLUSTER FAILOVER")
          return () => {}
        })
      },
      "take over": {
        weight: 1,
        forgets: true,
        inject: failover(async (_, replica) => {
          await command(replica.port, "CLUSTER FAILOVER TAKEOVER")
          return () => {}
        })
      }
    },
    inStep,
    keyFaults: keyFaultsOn(async () => (await primaries()).map(({ port }) => port)),
    whole: async () => {
      for (const { signal } of servers) signal("SIGCONT")
      await eventually(inStep, 20_000)
    },
    orphans: async () => (await Promise.all((await primaries()).map(({ port }) => left(port)))).flat(),
    skipped: [],
    stop: group.stop
  }
}

import { command, type Server, startSentinel } from "dlock-testing"
import { setTimeout as sleep } from "node:timers/promises"
import { type Environment, eventually, type ServerFault } from "./environment.ts"
import { keyFaultsOn, left } from "./redis.ts"

/** A primary, its replica, and three sentinels that fail over between the two. */
export const startEnvironment = async (): Promise<Environment> => {
  const ttl = 800
  const group = await startSentinel()
  const [first, second] = group.servers as [Server, Server]
  const sentinels = group.sentinels.servers.map(({ port }) => port)
  const link = group.primaryLink.port
  // As a replica it goes by the name under which it was the primary.
  const announce = async () => {
    await command(first.port, "CONFIG SET replica-announce-ip 127.0.0.1")
    await command(first.port, `CONFIG SET replica-announce-port ${link}`)
  }
  await announce()
  // A machine that has other work makes servers late. That is no reason to replace one.
  for (const port of sentinels) await command(port, "SENTINEL SET dlock down-after-milliseconds 1500")

  const named = async (): Promise<number> => {
    const reply = await command(sentinels[0]!, "SENTINEL GET-MASTER-ADDR-BY-NAME dlock")
    return Number(/\r\n(\d+)\r\n$/.exec(reply)?.[1])
  }
  const primary = async (): Promise<Server> => await named() === second.port ? second : first
  const other = (one: Server) => one === first ? second : first
  const isPrimary = async ({ port }: Server): Promise<boolean> =>
    (await command(port, "INFO replication")).includes("role:master")
  const inStep = async () => {
    const one = await primary()
    return (await command(one.port, "INFO replication")).includes("state=online") && await isPrimary(one) &&
      !await isPrimary(other(one)) &&
      (await command(other(one).port, "INFO replication")).includes("master_link_status:up")
  }
  const whole = async () => {
    for (const { signal } of [first, second]) signal("SIGCONT")
    await group.primaryLink.accept()
    await eventually(inStep, 20_000)
  }
  const promoted = (from: Server) =>
    eventually(async () => await isPrimary(other(from)) && await primary() !== from, 10_000)
  const failover =
    (breakPrimary: (from: Server) => Promise<() => Promise<void>>): ServerFault["inject"] => async () => {
      const from = await primary()
      const heal = await breakPrimary(from)
      await promoted(from)
      await heal()
      await eventually(inStep, 30_000)
    }
  const cut = () => {
    group.primaryLink.refuse()
    group.primaryLink.reset()
  }
  const revive = async (one: Server) => {
    await one.restart()
    if (one === first) await announce()
    await group.primaryLink.accept()
  }

  return {
    ttl,
    ports: [first.port, second.port],
    through: ([one, two]) => ({
      kind: "sentinel",
      sentinels,
      natMap: {
        [`127.0.0.1:${link}`]: { host: "127.0.0.1", port: one! },
        [`127.0.0.1:${first.port}`]: { host: "127.0.0.1", port: one! },
        [`127.0.0.1:${second.port}`]: { host: "127.0.0.1", port: two! }
      }
    }),
    serverFaults: {
      "freeze the primary for a moment": {
        weight: 3,
        forgets: false,
        inject: async (_, random) => {
          const one = await primary()
          one.signal("SIGSTOP")
          await sleep(random.between(150, 400))
          one.signal("SIGCONT")
        }
      },
      "isolate the primary": {
        weight: 2,
        forgets: true,
        inject: failover(async (from) => {
          // Only the first has a link of its own; the second is frozen for as long instead.
          if (from === first) cut()
          else from.signal("SIGSTOP")
          return async () => {
            from.signal("SIGCONT")
            await group.primaryLink.accept()
          }
        })
      },
      "freeze the primary until it is replaced": {
        weight: 2,
        forgets: true,
        inject: failover(async (from) => {
          from.signal("SIGSTOP")
          return async () => from.signal("SIGCONT")
        })
      },
      "kill the primary": {
        weight: 2,
        forgets: true,
        inject: failover(async (from) => {
          from.signal("SIGKILL")
          // Its proxy would go on accepting.
          if (from === first) cut()
          return () => revive(from)
        })
      },
      "order a failover": {
        weight: 2,
        forgets: true,
        inject: failover(async () => {
          await command(sentinels[0]!, "SENTINEL FAILOVER dlock")
          return async () => {}
        })
      }
    },
    keyFaults: keyFaultsOn(async () => [(await primary()).port]),
    whole,
    inStep,
    orphans: async () => left((await primary()).port),
    skipped: [],
    stop: group.stop
  }
}

import { command, type Server, startRedis, startReplicated } from "dlock-testing"
import { Redis } from "ioredis"
import { setTimeout as sleep } from "node:timers/promises"
import { makeClock } from "../clock.ts"
import type { With } from "../dimensions.ts"
import { aLittle, eventually, type Field, type ServerFault, type Strike } from "./field.ts"

/** Keys of locks and queues at one server. A counter and the mark of a cancelled claim expire by themselves. */
export const left = async (port: number): Promise<ReadonlyArray<string>> => {
  const redis = new Redis(port, "127.0.0.1", { maxRetriesPerRequest: 1 }).on("error", () => {})
  try {
    const found: Array<string> = []
    for (const key of await redis.keys("*")) {
      const passing = /\0(f$|x)/.test(key) && await redis.pttl(key) >= 0
      if (!passing) found.push(key.replaceAll("\0", "␀"))
    }
    return found
  } finally {
    redis.disconnect()
  }
}

/** What is done at once to the servers that `ports` names at that moment. */
export const strikesOn = (ports: () => Promise<ReadonlyArray<number>>): Readonly<Record<string, Strike>> => {
  const tell = async (line: string) => {
    await Promise.all((await ports()).map((port) => command(port, line).catch(() => {})))
  }
  const strike = (
    weight: number,
    line: (key: string) => string,
    forgets: (key: string) => "all" | ReadonlyArray<string> = () => []
  ): Strike => ({
    weight,
    act: async (key, about) => {
      about(forgets(key))
      await tell(line(key))
    }
  })
  return {
    "delete the key": strike(8, (key) => `DEL dlock:${key}`, (key) => [key]),
    "kill the clients": strike(4, () => "CLIENT KILL TYPE normal"),
    "kill the subscribers": strike(4, () => "CLIENT KILL TYPE pubsub"),
    "flush the scripts": strike(2, () => "SCRIPT FLUSH"),
    "flush everything": strike(1, () => "FLUSHALL", () => "all")
  }
}

const alone = (server: Server) => ({ servers: [server, undefined] as const, stop: server.stop })

/** One Redis with nothing on disk: a restart forgets every lock. It may have a replica that grants wait for. */
export const startField = async (dimensions: With): Promise<Field> => {
  const ttl = 600
  const clock = makeClock()
  const env = clock?.env ?? {}
  const { servers: [server, replica], stop } = dimensions.has("replicas")
    ? await startReplicated({ env }) as { readonly servers: readonly [Server, Server]; readonly stop: Field["stop"] }
    : alone(await startRedis({ env }))
  let frozen = false
  const answers = async () => (await command(server.port, "PING")).startsWith("+PONG")
  const steps: Readonly<Record<string, ServerFault>> = clock === undefined ? {} : {
    "step the clock": {
      weight: 1,
      forgets: true,
      // Where the counter is lost too, tokens are small until the clock has caught up.
      tail: 6_000,
      act: async (_, random) => {
        clock.step(random.between(-3_000, 3_000))
        await sleep(500)
      }
    }
  }
  return {
    ttl,
    ports: [server.port],
    through: ([port]) => ({ kind: "redis", port: port!, ...(replica !== undefined && { waitReplicas: 1 }) }),
    faults: {
      "freeze the server": {
        weight: 4,
        forgets: false,
        act: async (_, random) => {
          server.signal("SIGSTOP")
          await sleep(aLittle(ttl, random))
          server.signal("SIGCONT")
        }
      },
      "restart the server": {
        weight: 2,
        forgets: true,
        act: (_, random) => server.restart(random.between(0, 800))
      },
      ...steps
    },
    ...(clock !== undefined && {
      last: {
        kind: "set the clock right",
        fault: { weight: 0, forgets: true, tail: 6_000, act: async () => clock.step(0) }
      }
    }),
    strikes: strikesOn(async () => [server.port]),
    // The script's last two arguments: no mark, and not for clients of other libraries.
    givesBack: (request) => request.includes("\r\n$1\r\n0\r\n$1\r\n0\r\n"),
    ...(replica !== undefined && {
      freezeReplicas: () => {
        if (frozen) return undefined
        frozen = true
        replica.signal("SIGSTOP")
        return () => {
          frozen = false
          replica.signal("SIGCONT")
        }
      }
    }),
    whole: async () => {
      server.signal("SIGCONT")
      await eventually(answers, 5_000)
    },
    orphans: () => left(server.port),
    skipped: clock === undefined ? ["step the clock (no C compiler)"] : [],
    stop: async () => {
      await stop()
      clock?.remove()
    }
  }
}

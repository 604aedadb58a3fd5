import { command, startRedis } from "dlock-testing"
import { Redis } from "ioredis"
import { setTimeout as sleep } from "node:timers/promises"
import { makeClock } from "../clock.ts"
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

/** One Redis with nothing on disk: a restart forgets every lock. */
export const startField = async (): Promise<Field> => {
  const ttl = 600
  const clock = makeClock()
  const server = await startRedis({ env: clock?.env ?? {} })
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
    through: ([port]) => ({ kind: "redis", port: port! }),
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
    whole: async () => {
      server.signal("SIGCONT")
      await eventually(answers, 5_000)
    },
    orphans: () => left(server.port),
    skipped: clock === undefined ? ["step the clock (no C compiler)"] : [],
    stop: async () => {
      await server.stop()
      clock?.remove()
    }
  }
}

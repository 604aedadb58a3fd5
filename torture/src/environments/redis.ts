import { command, makeClock, type Server, startRedis, startReplicated } from "dlock-testing"
import { Redis } from "ioredis"
import * as Fs from "node:fs"
import { setTimeout as sleep } from "node:timers/promises"
import type { With } from "../dimensions.ts"
import { sharedKeys } from "../lockShape.ts"
import { aLittle, type Environment, eventually, type KeyFault, type ServerFault } from "./environment.ts"

/**
 * Keys of locks and queues at one server. A counter, the record of a job and the tombstone of a withdrawn claim
 * expire by themselves.
 */
export const left = async (port: number, db = 0): Promise<ReadonlyArray<string>> => {
  const redis = new Redis(port, "127.0.0.1", { maxRetriesPerRequest: 1, db }).on("error", () => {})
  try {
    const found: Array<string> = []
    for (const key of await redis.keys("*")) {
      const passing = /\0(f$|r$|x)/.test(key) && await redis.pttl(key) >= 0
      if (!passing) found.push(key.replaceAll("\0", "␀"))
    }
    return found
  } finally {
    redis.disconnect()
  }
}

/** What is done at once to the servers that `ports` names at that moment. */
export const keyFaultsOn = (
  ports: () => Promise<ReadonlyArray<number>>,
  db = 0
): Readonly<Record<string, KeyFault>> => {
  const tell = async (line: string) => {
    await Promise.all((await ports()).map((port) => command(port, `SELECT ${db}\r\n${line}`).catch(() => {})))
  }
  const commandFault = (
    weight: number,
    line: (key: string) => string,
    forgets: (key: string) => "all" | ReadonlyArray<string> = () => []
  ): KeyFault => ({
    weight,
    inject: async (key, about) => {
      about(forgets(key))
      await tell(line(key))
    }
  })
  /** Deletes one of the companions that a lock of several holders has. Only the sums can be counted anew. */
  const eviction = (weight: number, companion: "h" | "m" | "v"): KeyFault => ({
    weight,
    with: "shared",
    ...(companion === "m" && { harmless: true }),
    inject: async (key, about) => {
      if (!sharedKeys.includes(key)) return
      about(companion === "m" ? [] : [key])
      await tell(`DEL "{dlock:${key}}:\\x00${companion}"`)
    }
  })
  return {
    "evict the sums": eviction(6, "m"),
    "evict the permits": eviction(2, "v"),
    "evict the holders": eviction(2, "h"),
    "delete the key": commandFault(8, (key) => `DEL dlock:${key}`, (key) => [key]),
    "kill the clients": commandFault(4, () => "CLIENT KILL TYPE normal"),
    "kill the subscribers": commandFault(4, () => "CLIENT KILL TYPE pubsub"),
    "flush the scripts": commandFault(2, () => "SCRIPT FLUSH"),
    "flush everything": commandFault(1, () => "FLUSHALL", () => "all")
  }
}

/** Milliseconds for which these were ready to run without a processor, so far. */
const waitedOf = (servers: ReadonlyArray<Server>): number =>
  servers.reduce((sum, server) => {
    try {
      const { pid } = server
      return sum + Number(Fs.readFileSync(`/proc/${pid}/task/${pid}/schedstat`, "utf8").split(" ")[1]) / 1e6
    } catch {
      // It is away.
      return sum
    }
  }, 0)

/**
 * What the server itself writes down is time on the wall. It waited for a processor meanwhile, at the most in the midst of
 * these very scripts: that is the kind which is written down. What is more than all of it was spent by the scripts.
 */
const slowScriptsOf = (server: Server, limit: number): NonNullable<Environment["slowScripts"]> => {
  let before = waitedOf([server])
  return async () => {
    const redis = new Redis(server.port, "127.0.0.1", { maxRetriesPerRequest: 0, replyMapping: "legacy" })
      .on("error", () => {})
    try {
      await redis.config("SET", "slowlog-log-slower-than", limit * 1_000)
      const entries = await redis.slowlog("GET", 128) as ReadonlyArray<[number, number, number, ReadonlyArray<string>]>
      await redis.slowlog("RESET")
      const sum = waitedOf([server])
      const waited = Math.max(0, sum - before)
      before = sum
      const slow = entries
        .map(([, , micros, args]) => ({ what: args.slice(0, 2).join(" "), took: micros / 1_000 }))
        .filter(({ what }) => /^eval/i.test(what))
      const share = waited / slow.length
      return slow.reduce((sum, { took }) => sum + took, -waited) > limit * slow.length
        ? slow.map(({ took, what }) => ({ what, took: Math.max(limit, took - share) }))
        : []
    } finally {
      redis.disconnect()
    }
  }
}

/** Milliseconds for which a tombstone is kept. */
const tombstoneTtl = 16 * 60 * 1_000

const tombstonesAt = (port: number, db: number): NonNullable<Environment["tombstones"]> => async () => {
  const redis = new Redis(port, "127.0.0.1", { maxRetriesPerRequest: 0, db }).on("error", () => {})
  try {
    const names = await redis.keys("*\0x*")
    const left = await Promise.all(names.map((name) => redis.pttl(name)))
    return names.map((name, index) => {
      const [, key = name] = /^\{dlock:(.*)\}:\0x/.exec(name) ?? []
      return { name, key, age: tombstoneTtl - left[index]! }
    })
  } finally {
    redis.disconnect()
  }
}

const users = ["one", "two"] as const

const admission = (user: string) => `ACL SETUSER ${user} reset on >torture ~* &* +@all`

/** One of two users is refused for a while, and has to greet the server anew meanwhile. */
const refusals = (server: Server): Environment["serverFaults"] => {
  const refusal = (how: string): ServerFault => ({
    weight: 5,
    forgets: false,
    inject: async (_, random) => {
      const user = random.pick(users)
      try {
        await command(server.port, `ACL SETUSER ${user} ${how}`)
        await command(server.port, `CLIENT KILL USER ${user}`)
        await sleep(random.between(200, 1_500))
      } finally {
        // The server may be away at this moment.
        await eventually(() => command(server.port, admission(user)).then(() => true), 10_000)
      }
    }
  })
  return {
    "refuse the database": refusal("-select"),
    "refuse the password": refusal("resetpass >another"),
    "refuse the commands": refusal("-@all +@connection")
  }
}

const alone = (server: Server) => ({ servers: [server, undefined] as const, stop: server.stop })

/** One Redis with nothing on disk: a restart forgets every lock. It may have a replica that grants wait for. */
export const startEnvironment = async (dimensions: With): Promise<Environment> => {
  const ttl = 600
  // With a stepped clock the age of a tombstone is unknown.
  const clock = dimensions.has("tombstones") ? undefined : makeClock()
  const env = clock?.env ?? {}
  const { servers: [server, replica], stop } = dimensions.has("replicas")
    ? await startReplicated({ env }) as {
      readonly servers: readonly [Server, Server]
      readonly stop: Environment["stop"]
    }
    : alone(await startRedis({ env }))
  let frozen = false
  /** Where users may be refused, locks have a database of their own, and half of the workers are each user. */
  const db = dimensions.has("handshakes") ? 5 : 0
  const admit = async () => {
    if (db > 0) { for (const user of users) await command(server.port, admission(user)) }
  }
  await admit()
  const answers = async () => (await command(server.port, "PING")).startsWith("+PONG")
  const steps: Readonly<Record<string, ServerFault>> = clock === undefined ? {} : {
    "step the clock": {
      weight: 1,
      forgets: true,
      // Where the counter is lost too, tokens are small until the clock has caught up.
      tail: 6_000,
      inject: async (_, random) => {
        clock.step(random.between(-3_000, 3_000))
        await sleep(500)
      }
    }
  }
  return {
    ttl,
    ports: [server.port],
    through: ([port], index) => ({
      kind: "redis",
      port: port!,
      ...(replica !== undefined && { waitReplicas: 1 }),
      ...(db > 0 && { account: { user: users[index % users.length]!, password: "torture", db } })
    }),
    serverFaults: {
      "freeze the server": {
        weight: 4,
        forgets: false,
        inject: async (_, random) => {
          server.signal("SIGSTOP")
          await sleep(aLittle(ttl, random))
          server.signal("SIGCONT")
        }
      },
      "restart the server": {
        weight: 2,
        forgets: true,
        inject: async (_, random) => {
          await server.restart(random.between(0, 800))
          await admit()
        }
      },
      ...(db > 0 && refusals(server)),
      ...steps
    },
    ...(clock !== undefined && {
      last: {
        kind: "set the clock right",
        fault: { weight: 0, forgets: true, tail: 6_000, inject: async () => clock.step(0) }
      }
    }),
    keyFaults: keyFaultsOn(async () => [server.port], db),
    // The script's last two arguments: no tombstone, and not for clients of other libraries.
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
    ...(process.platform === "linux" &&
      { waited: () => waitedOf(replica === undefined ? [server] : [server, replica]) }),
    ...(dimensions.has("crowds") && process.platform === "linux" && { slowScripts: slowScriptsOf(server, 5) }),
    ...(dimensions.has("tombstones") && { tombstones: tombstonesAt(server.port, db) }),
    whole: async () => {
      server.signal("SIGCONT")
      await eventually(answers, 5_000)
    },
    orphans: () => left(server.port, db),
    ...(db > 0 && { elsewhere: () => left(server.port) }),
    skipped: clock === undefined ? ["step the clock (no C compiler)"] : [],
    stop: async () => {
      await stop()
      clock?.remove()
    }
  }
}

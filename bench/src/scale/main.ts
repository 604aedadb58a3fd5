/**
 * What crowds cost a Redis and its clients: `node bench/src/scale/main.ts [NAME...]`. Each row is a process and a server of
 * its own.
 */
import { startRedis, startWorker } from "dlock-testing"
import { Effect, Exit, Layer, Logger, ManagedRuntime, Scope } from "effect"
import { Locker, withLock } from "effect-dlock"
import { RedisLocker } from "effect-dlock-redis"
import { Redis } from "ioredis"
import { execFileSync } from "node:child_process"
import { setTimeout as sleep } from "node:timers/promises"
import { table } from "../report/table.ts"
import { digits } from "../workloads/workload.ts"

interface Row {
  readonly what: string
  readonly seconds: number
  /** Seconds of processor time. */
  readonly server: number
  readonly client: number
  /** MiB in use afterwards, and the most that the process ever had. */
  readonly heap: number
  readonly peak: number
  /** Milliseconds. */
  readonly worst: number
  readonly remark: string
}

const names = ["waiters", "keys", "waited", "held", "dead", "memory"] as const
type Name = typeof names[number]

const cpu = (): number => {
  const { system, user } = process.cpuUsage()
  return (system + user) / 1e6
}
const memory = () => {
  globalThis.gc?.()
  return { heap: process.memoryUsage().heapUsed / 2 ** 20, peak: process.resourceUsage().maxRSS / 2 ** 10 }
}

/** What came of some acquires, in few words. */
const tally = (exits: ReadonlyArray<Exit.Exit<unknown, unknown>>): string => {
  const failed = exits.filter(Exit.isFailure).length
  return failed === 0 ? "" : `${failed} failed`
}

const onRedis = async (run: (stage: Stage) => Promise<void>): Promise<void> => {
  const server = await startRedis()
  const admin = new Redis(server.url)
  const runtime = ManagedRuntime.make(Layer.merge(RedisLocker.layer({ url: server.url }), Logger.layer([])))
  const serverCpu = async () => {
    const info = await admin.info("cpu")
    return Number(/^used_cpu_sys:(.*)/m.exec(info)![1]) + Number(/^used_cpu_user:(.*)/m.exec(info)![1])
  }
  const measure: Stage["measure"] = async (what, body) => {
    await admin.config("SET", "slowlog-log-slower-than", "1000", "slowlog-max-len", "1000")
    await admin.slowlog("RESET")
    const [from, serverBefore, before] = [performance.now(), await serverCpu(), cpu()]
    const remark = await body() ?? ""
    const [took, client] = [performance.now() - from, cpu() - before]
    const slow = (await admin.slowlog("GET", 1000)) as ReadonlyArray<
      readonly [number, number, number, ReadonlyArray<string>]
    >
    // What this program itself asks is none of it.
    const scripts = slow.filter(([, , , [name]]) => /^eval/i.test(name!)).map(([, , micros]) => micros / 1_000)
    const row: Row = {
      what,
      seconds: took / 1_000,
      server: await serverCpu() - serverBefore,
      client,
      ...memory(),
      worst: Math.max(0, ...scripts),
      remark
    }
    console.log(JSON.stringify(row))
  }
  const crowd = async (what: "hold" | "wait", count: number) => {
    const worker = startWorker(`${import.meta.dirname}/crowd.ts`, { args: [server.url, what, String(count)] })
    await worker.waitFor((message) => "done" in message, 60_000)
    return worker
  }
  await runtime.runPromise(withLock("warm", Effect.void))
  try {
    await run({ admin, crowd, measure, runtime })
  } finally {
    await runtime.dispose()
    admin.disconnect()
    await server.stop()
  }
}

interface Stage {
  readonly admin: Redis
  readonly runtime: ManagedRuntime.ManagedRuntime<Locker, unknown>
  readonly measure: (what: string, body: () => Promise<string | void>) => Promise<void>
  readonly crowd: (what: "hold" | "wait", count: number) => Promise<{ readonly kill: () => Promise<void> }>
}

const ttl = { ttl: "30 seconds" } as const
const indexes = (count: number) => Array.from({ length: count }, (_, index) => index)

const gated = () => {
  const { promise, resolve } = Promise.withResolvers<void>()
  return { open: resolve, whenOpen: Effect.promise(() => promise) }
}

const scenarios: Readonly<Record<Name, () => Promise<void>>> = {
  waiters: () =>
    onRedis(async ({ admin, measure, runtime }) => {
      const count = 10_000
      const gate = gated()
      const holder = runtime.runPromise(withLock("hot", gate.whenOpen, ttl))
      await sleep(100)
      let done: Promise<ReadonlyArray<Exit.Exit<void, unknown>>> | undefined
      await measure("10,000 waiters of one key: all queue", async () => {
        done = runtime.runPromise(
          Effect.forEach(indexes(count), () => Effect.exit(withLock("hot", Effect.void, ttl)), {
            concurrency: "unbounded"
          })
        )
        while (await admin.zcard("{dlock:hot}:\0q") < count) await sleep(20)
      })
      await measure("… wait for 10 s", () => sleep(10_000))
      await measure("… are all let in", async () => {
        gate.open()
        await holder
        return tally(await done!)
      })
    }),
  keys: () =>
    onRedis(async ({ admin, measure, runtime }) => {
      const count = 100_000
      await measure("100,000 keys at once", async () =>
        tally(
          await runtime.runPromise(
            Effect.forEach(indexes(count), (index) => Effect.exit(withLock(`k${index}`, Effect.void, ttl)), {
              concurrency: "unbounded"
            })
          )
        ))
      const tombstones = await admin.eval(
        "local c,n='0',0 repeat local x=redis.call('SCAN',c,'MATCH','*\\0x*','COUNT',10000) c=x[1] n=n+#x[2] until c=='0' return n",
        0
      )
      if (tombstones !== 0) console.error(`${String(tombstones)} tombstones left`)
    }),
  waited: () =>
    onRedis(async ({ admin, crowd, measure, runtime }) => {
      const count = 10_000
      const holder = await crowd("hold", count)
      const waiting = runtime.runFork(
        Effect.forEach(indexes(count), (index) => Effect.ignore(withLock(`k${index}`, Effect.void, ttl)), {
          concurrency: "unbounded",
          discard: true
        })
      )
      await sleep(8_000)
      const calls = async () => Number(/cmdstat_evalsha:calls=(\d+)/.exec(await admin.info("commandstats"))?.[1] ?? 0)
      await measure("10,000 keys waited for, 20 s", async () => {
        const before = await calls()
        await sleep(20_000)
        return `${digits(0)((await calls() - before) / 20)} requests a second, the holder's renewals among them`
      })
      waiting.interruptUnsafe()
      await holder.kill()
    }),
  held: async () => {
    for (const count of [10_000, 100_000]) {
      await onRedis(async ({ measure, runtime }) => {
        const scope = Scope.makeUnsafe()
        const held = (index: number) =>
          Effect.exit(Effect.provideService(Locker.scoped(`h${index}`, ttl), Scope.Scope, scope))
        const many = digits(0)(count)
        await measure(
          `${many} acquired, 500 at a time`,
          async () => tally(await runtime.runPromise(Effect.forEach(indexes(count), held, { concurrency: 500 })))
        )
        await measure(`… held for 21 s`, () => sleep(21_000))
        await measure(
          `… released one by one, as a scope does`,
          async () => await runtime.runPromise(Scope.close(scope, Exit.void))
        )
      })
    }
  },
  dead: () =>
    onRedis(async ({ admin, crowd, measure, runtime }) => {
      const count = 10_000
      const sections = (key: string) => async () => {
        for (let index = 0; index < 50; index++) await runtime.runPromise(withLock(key, Effect.void, ttl))
      }
      await sections("hot")()
      await measure("50 sections of a key", sections("hot"))
      const gate = gated()
      const holder = runtime.runPromise(withLock("hot", gate.whenOpen, ttl))
      await sleep(200)
      const dead = await crowd("wait", count)
      while (await admin.zcard("{dlock:hot}:\0q") < count) await sleep(50)
      await dead.kill()
      await sleep(300)
      gate.open()
      await holder
      await measure("… behind 10,000 dead waiters", sections("hot"))
      await measure("… of another key meanwhile", sections("other"))
    }),
  memory: async () => {
    const runtime = ManagedRuntime.make(Layer.merge(Locker.layerMemory, Logger.layer([])))
    const count = 40_000
    const measure = async (what: string, body: () => Promise<void>) => {
      const [from, before] = [performance.now(), cpu()]
      await body()
      const seconds = (performance.now() - from) / 1_000
      console.log(
        JSON.stringify(
          { what, seconds, server: 0, client: cpu() - before, ...memory(), worst: 0, remark: "" } satisfies Row
        )
      )
    }
    const gate = gated()
    const holder = runtime.runPromise(withLock("k", gate.whenOpen))
    let all: Promise<void> | undefined
    await measure("40,000 waiters of one key in memory: all queue", async () => {
      all = runtime.runPromise(
        Effect.forEach(indexes(count), () => withLock("k", Effect.void), { concurrency: "unbounded", discard: true })
      )
      await sleep(10)
    })
    await measure("… are all let in", async () => {
      gate.open()
      await holder
      await all
    })
    await runtime.dispose()
  }
}

const chosen = process.argv.slice(2)
if (chosen[0] === "--only") await scenarios[chosen[1] as Name]()
else {
  const rows: Array<Row> = []
  for (const name of chosen.length > 0 ? chosen : names) {
    console.error(`${name} …`)
    const output = execFileSync(process.execPath, ["--expose-gc", import.meta.filename, "--only", name], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "inherit"]
    })
    rows.push(
      ...output.trim().split("\n").filter((line) => line.startsWith("{")).map((line) => JSON.parse(line) as Row)
    )
  }
  console.log(table([
    ["", "s", "server CPU, s", "client CPU, s", "heap, MiB", "most memory", "worst script, ms", ""],
    ...rows.map(({ client, heap, peak, remark, seconds, server, what, worst }) => [
      what,
      digits(2)(seconds),
      digits(2)(server),
      digits(2)(client),
      digits(0)(heap),
      digits(0)(peak),
      worst === 0 ? "under 1" : digits(1)(worst),
      remark
    ])
  ], [0, 7]))
}
process.exit(0)

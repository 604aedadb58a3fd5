import { assert, describe, it } from "@effect/vitest"
import { Context, Duration, Effect, Layer, References, Stream } from "effect"
import { RedisLockStore } from "effect-dlock-redis"
import { LockAdmin } from "effect-dlock/LockAdmin"
import { type Claim, LockStore } from "effect-dlock/LockStore"
import { randomBytes } from "node:crypto"
import * as V8 from "node:v8"
import * as Vm from "node:vm"
import { keysOf } from "../src/internal/protocol/keys.ts"
import { lag as recorded, plainClient, server } from "./support.ts"

/** How many locks are held throughout. Set `DLOCK_LIST=100000` for a hundred thousand. */
const count = Number(process.env.DLOCK_LIST ?? 20_000)

const prefix = "dlock:"
const newId = () => randomBytes(17).toString("base64url").slice(0, 22)

/** What is reachable, in megabytes. */
const memory = (): number => {
  V8.setFlagsFromString("--expose-gc")
  Vm.runInNewContext("gc")()
  return process.memoryUsage().heapUsed / 1_000_000
}

describe("the list of many locks on Redis", () => {
  it.live(
    `has each of ${count} locks that are held throughout, in short steps and flat memory`,
    () =>
      Effect.gen(function*() {
        const { url } = yield* server
        const redis = yield* plainClient(url)
        const context = yield* Layer.build(Layer.fresh(RedisLockStore.layer({ url }))).pipe(
          Effect.provideService(References.MinimumLogLevel, "Error")
        )
        const [store, admin] = [Context.get(context, LockStore), Context.get(context, LockAdmin)]
        const claimOn = (name: string, claim: Partial<Claim> = {}): Claim => ({
          id: newId(),
          key: prefix + name,
          prefix,
          kind: "mutex",
          permits: 1,
          capacity: 1,
          ttl: Duration.minutes(10),
          guardGap: Duration.minutes(1),
          holder: "me",
          ...claim
        })
        // As the scripts write them: one lock in three has a last token beside it, one in a hundred is a semaphore.
        yield* Effect.promise(async () => {
          for (let at = 0; at < count; at += 1_000) {
            const pipeline = redis.pipeline()
            for (let index = at; index < Math.min(count, at + 1_000); index++) {
              const keys = keysOf(`${prefix}held:${index}`)!
              if (index % 100 === 0) continue
              pipeline.set(keys.lock, `${newId()}:${index}:dlock:inbox:x|holder ${index}`, "PX", 600_000)
              if (index % 3 === 0) pipeline.set(keys.counter, String(index), "PX", 600_000)
            }
            await pipeline.exec()
          }
        })
        const shape = { kind: "semaphore", capacity: 3, permits: 1 } as const
        yield* Effect.forEach(
          Array.from({ length: Math.ceil(count / 100) }, (_, index) => claimOn(`held:${100 * index}`, shape)),
          (claim) => store.request(claim, "try"),
          { concurrency: 100, discard: true }
        )
        yield* Effect.promise(async () => {
          await redis.config("SET", "slowlog-log-slower-than", "2000")
          await redis.config("SET", "slowlog-max-len", "1000")
          await redis.slowlog("RESET")
          await redis.config("RESETSTAT")
        })
        // Others come and go meanwhile, so that the table of keys grows and shrinks.
        let sections = 0
        const churning = yield* Effect.forkScoped(Effect.forEach(
          Array.from({ length: 10 }, (_, index) => index),
          (worker) =>
            Effect.forever(Effect.gen(function*() {
              const claim = claimOn(`other:${worker}:${sections++ % 1_000}`)
              yield* store.request(claim, "try")
              yield* store.withdraw(claim)
            })),
          { concurrency: "unbounded" }
        ))
        const lag = yield* recorded
        const found = new Uint8Array(count)
        let told = 0
        const before = memory()
        let most = 0
        const startedAt = performance.now()
        yield* Stream.runForEach(admin.list({ key: prefix, prefix }), ({ holders, key }) =>
          Effect.sync(() => {
            if (++told % Math.ceil(count / 5) === 0) most = Math.max(most, memory() - before)
            const index = /^dlock:held:(\d+)$/.exec(key)?.[1]
            if (index === undefined) return
            found[Number(index)]!++
            assert.strictEqual(holders.length, 1)
          }))
        const took = performance.now() - startedAt
        churning.interruptUnsafe()
        assert.strictEqual(found.findIndex((times) => times === 0), -1, "a lock was left out")
        const slow = yield* Effect.promise(async () =>
          (await redis.slowlog("GET", 1_000) as ReadonlyArray<readonly [number, number, number, ReadonlyArray<string>]>)
            .map(([, , micros, [command = ""]]) => ({ micros, command }))
        )
        const stats = yield* Effect.promise(() => redis.info("commandstats"))
        const perScan = Number(/cmdstat_scan:.*usec_per_call=([\d.]+)/.exec(stats)?.[1])
        const longest = Math.max(0, ...slow.map(({ micros }) => micros)) / 1_000
        const twice = found.reduce((sum, times) => sum + (times > 1 ? 1 : 0), 0)
        console.log(
          `list: ${count} locks in ${
            took.toFixed(0)
          } ms beside ${sections} sections, ${twice} of them more than once; a SCAN ` +
            `takes ${perScan} µs, ${slow.length} commands above 2 ms, the longest ${longest} ms; memory + ${
              most.toFixed(1)
            } MB; ` +
            `lag ${lag.max().toFixed(1)} ms`
        )
        assert.isBelow(perScan, 1_000)
        // The server's clock also counts while the machine runs somebody else, which a few of the commands meet. A command that did
        // too much would take so long nearly each time.
        assert.isBelow(slow.filter(({ micros }) => micros > 5_000).length, Math.max(5, count / 32 / 50))
        assert.isBelow(most, 20)
      }).pipe(Effect.scoped),
    120_000
  )
})

/** What the storage costs its server, by the number of shards: requests, and on Redis the time of its one thread. */
import { assert, describe, it } from "@effect/vitest"
import { startEtcd, startRedis } from "dlock-testing"
import { started } from "dlock-testing/live"
import { Context, Effect, Layer, References } from "effect"
import type { LockAdmin, LockStore } from "effect-dlock"
import { LockRunnerStorage } from "effect-dlock-cluster"
import { EtcdLockStore } from "effect-dlock-etcd"
import { RedisLockStore } from "effect-dlock-redis"
import { RunnerStorage, ShardingConfig } from "effect/cluster"
import { Redis } from "ioredis"
import { address, runner, shards } from "./support.ts"

const here = address(1)
const counts = [30, 300, 1_000]

interface Work {
  readonly requests: number
  readonly micros: number
}

const redisWork = (admin: Redis): Effect.Effect<Work> =>
  Effect.promise(async () => {
    const stats = await admin.info("commandstats")
    // A script's commands count too, but not among the requests that a client sends.
    const sent = [...stats.matchAll(/cmdstat_(\w+):calls=(\d+),usec=(\d+)/g)]
      .filter(([, name]) => ["evalsha", "eval", "scan"].includes(name!))
    return {
      requests: sent.reduce((sum, [, , calls]) => sum + Number(calls), 0),
      micros: sent.reduce((sum, [, , , micros]) => sum + Number(micros), 0)
    }
  })

const etcdWork = (url: string): Effect.Effect<Work> =>
  Effect.promise(async () => {
    const metrics = await (await fetch(`${url}/metrics`)).text()
    const started = [...metrics.matchAll(/^grpc_server_msg_received_total\{.*grpc_method="(\w+)".*\} (\d+)/gm)]
    return { requests: started.reduce((sum, [, , count]) => sum + Number(count), 0), micros: 0 }
  })

const measure = Effect.fnUntraced(function*(
  store: Layer.Layer<LockStore | LockAdmin, unknown>,
  work: Effect.Effect<Work>
) {
  const storage = yield* Layer.build(
    Layer.fresh(LockRunnerStorage.layer().pipe(Layer.provide([store, ShardingConfig.layer()])))
  ).pipe(
    Effect.provideService(References.MinimumLogLevel, "Error"),
    Effect.map(Context.get(RunnerStorage.RunnerStorage))
  )
  const costOf = <A, E>(effect: Effect.Effect<A, E>) =>
    Effect.gen(function*() {
      // The server knows each script by then.
      yield* effect
      const before = yield* work
      for (let times = 0; times < 10; times++) yield* effect
      const after = yield* work
      return { requests: (after.requests - before.requests) / 10, micros: (after.micros - before.micros) / 10 }
    })
  const rows: Array<{ readonly shards: number; readonly refresh: Work; readonly confirm: Work; readonly list: Work }> =
    []
  yield* storage.register(runner(1), true)
  for (const count of counts) {
    const all = shards(...Array.from({ length: count }, (_, index) => index + 1))
    assert.strictEqual((yield* storage.acquire(here, all)).length, count)
    // By then etcd watches each of them, once.
    yield* Effect.sleep("1 second")
    const row = {
      shards: count,
      refresh: yield* costOf(storage.refresh(here, all)),
      confirm: yield* costOf(storage.refresh(here, all.slice(0, 1))),
      list: yield* costOf(storage.getRunners)
    }
    rows.push(row)
  }
  console.log(rows.map((row) => JSON.stringify(row)).join("\n"))
  return rows
})

describe("what a runner costs", () => {
  it.live("Redis", () =>
    Effect.gen(function*() {
      const { url } = yield* started(() => startRedis())
      const admin = yield* Effect.acquireRelease(
        Effect.sync(() => new Redis(url)),
        (admin) => Effect.sync(() => admin.disconnect())
      )
      for (
        const { confirm, list, refresh, shards } of yield* measure(RedisLockStore.layer({ url }), redisWork(admin))
      ) {
        assert.isAtMost(refresh.requests, Math.ceil(shards / 32) + 1)
        assert.isAtMost(confirm.requests, 1)
        assert.isAtMost(list.requests, 2)
      }
    }))

  it.live("etcd", () =>
    Effect.gen(function*() {
      const { url } = yield* started(() => startEtcd())
      for (
        const { confirm, list, refresh, shards } of yield* measure(EtcdLockStore.layer({ hosts: url }), etcdWork(url))
      ) {
        assert.isAtMost(refresh.requests, Math.ceil(shards / 32) + 2)
        assert.isAtMost(confirm.requests, 2)
        assert.isAtMost(list.requests, 4)
      }
    }))
})

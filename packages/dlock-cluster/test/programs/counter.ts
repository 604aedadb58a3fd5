/** What the runners of the live tests and their client share: an entity, and the configuration of its cluster. */
import { Effect, Layer, Option, Schedule, Schema } from "effect"
import { LockRunnerStorage, ShardLocks } from "effect-dlock-cluster"
import { EtcdLockStore } from "effect-dlock-etcd"
import { RedisLockStore } from "effect-dlock-redis"
import { Entity, RunnerAddress, ShardingConfig } from "effect/cluster"
import { Rpc } from "effect/rpc"
import { Redis } from "ioredis"

export const ttl = 3_000
export const guardGap = 500

export const config = (port: number | undefined): Partial<ShardingConfig.ShardingConfig["Service"]> => ({
  runnerAddress: port === undefined ? Option.none() : Option.some(RunnerAddress.make("127.0.0.1", port)),
  shardsPerGroup: 12,
  shardLockExpiration: ttl,
  shardLockRefreshInterval: ttl / 3,
  refreshAssignmentsInterval: 300,
  entityMessagePollInterval: 300,
  entityMaxIdleTime: "1 hour",
  entityTerminationTimeout: "2 seconds",
  runnerHealthCheckInterval: "1 hour"
})

export const storage = (url: string, port?: number) =>
  LockRunnerStorage.layer({ guardGap }).pipe(
    Layer.provide(url.startsWith("redis:") ? RedisLockStore.layer({ url }) : EtcdLockStore.layer({ hosts: url })),
    Layer.provide(ShardingConfig.layer(config(port)))
  )

/** An entity that tells where it is, and that works from the first demand until it is interrupted. */
export const Counter = Entity.make("Counter", [Rpc.make("Touch", { success: Schema.String }), Rpc.make("Work")])

/** One step of an entity, as its resource has it in its list: the order is the resource's. */
export interface Step {
  readonly pid: number
  /** Counts the times that this process had the entity. */
  readonly life: number
  /** The token of the shard when the process got the entity. */
  readonly token: string
  /** Milliseconds since 1970 by the clock of the machine, when the step began. */
  readonly at: number
}

/** The lists of an entity's steps: with no protection, after a look at the clock, and refused by the resource if late. */
export const lists = ["plain", "checked", "fenced"] as const

/** Takes a step unless a larger token was seen. It tells so in a list of its own. */
const fenced = `
local seen = redis.call('GET', KEYS[2])
if seen and tonumber(ARGV[2]) < tonumber(seen) then return redis.call('RPUSH', KEYS[3], ARGV[1]) end
redis.call('SET', KEYS[2], ARGV[2])
return redis.call('RPUSH', KEYS[1], ARGV[1])`

const pause = 20
let lives = 0

/** The entity's handlers. Its steps go to a Redis that holds no locks. */
export const counter = (resource: string) =>
  Counter.toLayer(
    Effect.gen(function*() {
      const { entityId, shardId } = yield* Entity.CurrentAddress
      const shards = yield* ShardLocks
      const life = ++lives
      const client = yield* Effect.acquireRelease(
        Effect.sync(() => new Redis(resource).on("error", () => {})),
        (client) => Effect.sync(() => client.disconnect())
      )
      const token = yield* Effect.orDie(shards.fencingToken(shardId))
      const step = () => JSON.stringify({ pid: process.pid, life, token: `${token}`, at: Date.now() } satisfies Step)
      const append = Effect.suspend(() => Effect.promise(() => client.rpush(`plain:${entityId}`, step())))
      const appendChecked = Effect.flatMap(
        shards.fencingToken(shardId),
        () => Effect.promise(() => client.rpush(`checked:${entityId}`, step()))
      )
      // As late as can be: with the token from when it began, and without a look at the clock.
      const appendFenced = Effect.suspend(() =>
        Effect.promise(() =>
          client.eval(
            fenced,
            3,
            `fenced:${entityId}`,
            `token:${entityId}`,
            `refused:${entityId}`,
            step(),
            `${token}`
          )
        )
      )
      // A request under way, which Sharding would let go on for 2 seconds if it had the time.
      const work = Effect.all([append, Effect.ignore(appendChecked), appendFenced], {
        concurrency: "unbounded"
      }).pipe(Effect.repeat(Schedule.spaced(pause)), Effect.asVoid)
      let isWorking = false
      return Counter.of({
        Touch: () => Effect.succeed(`${process.pid}`),
        Work: () =>
          Effect.suspend(() => {
            if (isWorking) return Effect.void
            isWorking = true
            return work
          })
      })
    }),
    { maxIdleTime: "1 hour", concurrency: "unbounded" }
  )

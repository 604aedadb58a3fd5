import { LockAdmin } from "effect-dlock/LockAdmin"
import { LockNotHeld } from "effect-dlock/LockError"
import { LockStore } from "effect-dlock/LockStore"
import * as StoreOptions from "effect-dlock/StoreOptions"
import * as StoreTelemetry from "effect-dlock/StoreTelemetry"
import * as Clock from "effect/Clock"
import * as MachineId from "effect/cluster/MachineId"
import { Runner } from "effect/cluster/Runner"
import type { RunnerAddress } from "effect/cluster/RunnerAddress"
import * as RunnerStorage from "effect/cluster/RunnerStorage"
import * as ShardingConfig from "effect/cluster/ShardingConfig"
import type * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import type { ShardLocks } from "../ShardLocks.ts"
import { Claims, type Times } from "./claims.ts"
import * as Keys from "./keys.ts"
import * as Options from "./options.ts"
import { Runners } from "./runners.ts"
import { Shards } from "./shards.ts"
import * as Timing from "./timing.ts"

/** The times of a cluster, from Sharding's configuration. */
const timesOf = (
  config: ShardingConfig.ShardingConfig["Service"],
  guardGap: number | undefined
): Effect.Effect<Times, Config.ConfigError> => {
  const ttl = Options.ttl(config.shardLockExpiration)
  const refresh = StoreOptions.toMillis(config.shardLockRefreshInterval)
  if (Result.isFailure(ttl)) return Effect.fail(StoreOptions.problem(`shardLockExpiration ${ttl.failure}`))
  if (refresh === undefined || refresh <= 0) {
    return Effect.fail(StoreOptions.problem("shardLockRefreshInterval must be a duration such as \"10 seconds\""))
  }
  return Effect.succeed({
    ttl: ttl.success,
    guardGap: guardGap ?? Timing.guardGap(ttl.success),
    interval: Timing.refreshInterval(refresh, ttl.success)
  })
}

export interface Storage {
  readonly runnerStorage: RunnerStorage.RunnerStorage["Service"]
  readonly shardLocks: ShardLocks["Service"]
}

export const make = (
  options: Options.Options
): Effect.Effect<
  Storage,
  Config.ConfigError,
  LockStore | LockAdmin | ShardingConfig.ShardingConfig | Scope.Scope
> =>
  Effect.gen(function*() {
    const { guardGap, prefix } = yield* StoreOptions.parse(Options.fields, options)
    const times = yield* timesOf(yield* ShardingConfig.ShardingConfig, guardGap)
    const store = yield* LockStore
    const admin = yield* LockAdmin
    const clock = yield* Clock.Clock
    const telemetry = yield* StoreTelemetry.make("The cluster's lock store")
    // Closed before the claims are withdrawn: what is under way then is interrupted first.
    const outer = yield* Scope.Scope
    const byAddress = new Map<string, Shards>()
    yield* Effect.addFinalizer(() =>
      Effect.suspend(() =>
        claims.close([...runners.held(), ...Array.from(byAddress.values(), (shards) => shards.held()).flat()])
      )
    )
    const scope = yield* Scope.fork(outer)
    const claims = new Claims(store, { prefix, times, telemetry, clock, scope })
    const runners = new Runners(claims, admin)
    yield* Effect.forkIn(runners.keepAlive, scope)
    const expire = Effect.suspend(() =>
      Effect.forEach(Array.from(byAddress.values()), (shards) => shards.expire, { discard: true })
    )
    yield* Effect.forkIn(Effect.forever(Effect.delay(expire, Timing.renewalAfter(times.ttl))), scope)

    const shardsOf = (address: RunnerAddress): Shards => {
      const name = Keys.addressOf(address)
      let shards = byAddress.get(name)
      if (shards === undefined) byAddress.set(name, shards = new Shards(claims, name))
      return shards
    }
    const releaseTimeout = Timing.releaseTimeout(times.interval)

    return {
      runnerStorage: RunnerStorage.RunnerStorage.of({
        register: (runner, isHealthy) =>
          Effect.map(
            claims.operation(runners.register(Keys.addressOf(runner.address), runner, isHealthy), times.ttl),
            MachineId.make
          ),
        unregister: (address) => claims.operation(runners.unregister(Keys.addressOf(address)), releaseTimeout),
        getRunners: Effect.map(claims.operation(runners.list, times.ttl), decodeRunners),
        setRunnerHealth: (address, isHealthy) =>
          claims.operation(runners.setHealth(Keys.addressOf(address), isHealthy)),
        acquire: (address, ids) => claims.operation(shardsOf(address).acquire(Array.from(ids))),
        refresh: (address, ids) => {
          const named = Array.from(ids)
          const refreshed = shardsOf(address).refresh(named)
          // Without shards it is a question about the backend, for example whether an outage is over.
          return claims.operation(
            named.length > 0 ? refreshed : Effect.andThen(runners.probe, refreshed)
          )
        },
        release: (address, id) => claims.operation(shardsOf(address).release(id), releaseTimeout),
        releaseAll: (address) => claims.operation(shardsOf(address).releaseAll, releaseTimeout)
      }),
      shardLocks: {
        fencingToken: (id) =>
          Effect.suspend(() => {
            for (const shards of byAddress.values()) {
              const token = shards.tokenOf(id)
              if (token !== undefined) return token
            }
            return Effect.fail(new LockNotHeld({ key: Keys.shard(id) }))
          })
      }
    }
  })

/** A runner that this version cannot read is none that it could talk to. */
const decodeRunners = (
  runners: ReadonlyArray<readonly [runner: string, isHealthy: boolean]>
): Array<readonly [runner: Runner, healthy: boolean]> =>
  runners.flatMap(([encoded, isHealthy]) => {
    try {
      return [[Runner.decodeSync(encoded), isHealthy] as const]
    } catch {
      return []
    }
  })

import type * as EtcdBackend from "effect-dlock-etcd"
import type * as RedisBackend from "effect-dlock-redis"
import { Locker } from "effect-dlock/Locker"
import type { LockBackendError } from "effect-dlock/LockError"
import type { LockStore } from "effect-dlock/LockStore"
import * as MemoryLockStore from "effect-dlock/MemoryLockStore"
import * as StoreOptions from "effect-dlock/StoreOptions"
import type { CommandContext } from "effect/cli/Command"
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { root } from "./commands/root.ts"

/** The flags of `dlock`, which every subcommand reads. */
export type Root = CommandContext<"dlock">

export type Driver = "redis" | "etcd" | "memory"

/** The variables that hold an address, by driver. */
const addresses = {
  redis: ["DLOCK_REDIS_URL", "DLOCK_REDIS_SENTINELS", "DLOCK_REDIS_CLUSTER"],
  etcd: ["DLOCK_ETCD_HOSTS"]
} as const

/**
 * The variables that `dlock` reads: those of the environment, below the flags of the call.
 */
export const variables: Effect.Effect<ConfigProvider.ConfigProvider, never, Root> = Effect.gen(
  function*() {
    const { prefix } = yield* root
    const env = yield* ConfigProvider.ConfigProvider
    const given = { ...(Option.isSome(prefix) && { DLOCK_PREFIX: prefix.value }) }
    return ConfigProvider.fromEnv({ env: given }).pipe(ConfigProvider.orElse(env))
  }
)

/**
 * The driver of this call: the flag, then `DLOCK_DRIVER`, then the one whose address is set. There is no other default: a
 * guess could give each host a lock of its own.
 */
export const driver: Effect.Effect<Driver, Config.ConfigError, Root> = Effect.gen(function*() {
  const { driver } = yield* root
  if (Option.isSome(driver)) return driver.value
  const named = yield* Config.option(Config.Literals(["redis", "etcd", "memory"], "DLOCK_DRIVER"))
  if (Option.isSome(named)) return named.value
  const set: Array<Driver> = []
  for (const name of ["redis", "etcd"] as const) {
    for (const variable of addresses[name]) {
      if (Option.isSome(yield* Config.option(Config.String(variable)))) set.push(name)
    }
  }
  const [only, another] = Array.from(new Set(set))
  if (only !== undefined && another === undefined) return only
  return yield* Effect.fail(StoreOptions.problem(
    only === undefined
      ? "no server is named: set DLOCK_REDIS_URL (for example redis://127.0.0.1:6379) or DLOCK_ETCD_HOSTS"
      : "DLOCK_REDIS_URL and DLOCK_ETCD_HOSTS are both set: choose one with --driver redis or --driver etcd"
  ))
})

/** The prefix of the keys of this call. */
export const keyPrefix: Effect.Effect<string, Config.ConfigError, Root> = Effect.flatMap(
  variables,
  (provider) =>
    Effect.provideService(
      Config.withDefault(Config.String("DLOCK_PREFIX"), StoreOptions.defaultPrefix),
      ConfigProvider.ConfigProvider,
      provider
    )
)

/** The layer of the driver of this call, over these variables. The client of the other backend is not loaded. */
const ofDriver = <A, E, R>(
  variables: Effect.Effect<ConfigProvider.ConfigProvider, E, R>,
  layers: {
    readonly redis: (
      client: typeof RedisBackend
    ) => Layer.Layer<A, Config.ConfigError | LockBackendError>
    readonly etcd: (client: typeof EtcdBackend) => Layer.Layer<A, Config.ConfigError | LockBackendError>
    readonly memory: Layer.Layer<A>
  }
): Layer.Layer<A, Config.ConfigError | LockBackendError | E, Root | R> =>
  Layer.unwrap(
    Effect.gen(function*() {
      const name = yield* driver
      const over = Layer.provide(ConfigProvider.layer(yield* variables))
      switch (name) {
        case "redis":
          return over(layers.redis(yield* Effect.promise(() => import("effect-dlock-redis"))))
        case "etcd":
          return over(layers.etcd(yield* Effect.promise(() => import("effect-dlock-etcd"))))
        case "memory":
          return layers.memory
      }
    })
  )

/** The locker of this call. */
export const locker: Layer.Layer<Locker, Config.ConfigError | LockBackendError, Root> = Layer.suspend(() =>
  lockerUnder(variables)
)

/** The same, with variables of the caller's. */
export const lockerUnder = <E, R>(
  variables: Effect.Effect<ConfigProvider.ConfigProvider, E, R>
): Layer.Layer<Locker, Config.ConfigError | LockBackendError | E, Root | R> =>
  ofDriver(variables, {
    redis: ({ RedisLockerLive }) => RedisLockerLive,
    etcd: ({ EtcdLockerLive }) => EtcdLockerLive,
    memory: Locker.layerMemory
  })

/** The store of this call without a locker, for who speaks of claims. */
export const store: Layer.Layer<LockStore, Config.ConfigError | LockBackendError, Root> = ofDriver(variables, {
  redis: ({ RedisLockStore }) => RedisLockStore.layerEnv,
  etcd: ({ EtcdLockStore }) => EtcdLockStore.layerEnv,
  memory: MemoryLockStore.layer
})

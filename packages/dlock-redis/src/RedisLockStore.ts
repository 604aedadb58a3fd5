/**
 * The store alone, for those who build their own locker over it or prove it with the conformance suite. Programs want
 * `RedisLocker`.
 *
 * @since 0.1.0
 */
import type { LockBackendError } from "effect-dlock/LockError"
import { LockStore } from "effect-dlock/LockStore"
import * as StoreOptions from "effect-dlock/StoreOptions"
import type * as Config from "effect/Config"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Redis as EffectRedis } from "effect/persistence/Redis"
import type { Cluster, Redis } from "ioredis"
import * as Address from "./internal/client/address.ts"
import * as Connection from "./internal/client/connection.ts"
import * as EffectConnection from "./internal/client/effectRedis.ts"
import { notConnected, silent } from "./internal/client/failure.ts"
import * as Permissions from "./internal/client/permissions.ts"
import type { Port } from "./internal/client/port.ts"
import * as Warnings from "./internal/client/warnings.ts"
import * as Options from "./internal/options.ts"
import * as Store from "./internal/store/store.ts"

/**
 * The options of `RedisLocker.layer` that are the store's.
 *
 * @category options
 * @since 0.1.0
 */
export interface RedisLockStoreOptions extends Options.Options, Address.Address {}

/**
 * A store on the Redis at `url`, at the primary that `sentinels` name, or on a `cluster`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  options: RedisLockStoreOptions
): Layer.Layer<LockStore, Config.ConfigError | LockBackendError> => {
  const [address, rest] = StoreOptions.split(Address.fields, options)
  return at(Address.parse(address), StoreOptions.parse(Options.fields, rest))
}

/**
 * A store whose options all come from the environment: those of `RedisLockerLive` that are the store's.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerEnv: Layer.Layer<LockStore, Config.ConfigError | LockBackendError> = Layer.suspend(
  () => at(Address.fromEnvironment, StoreOptions.environment(Options.fields))
)

/**
 * A store where a client leads, which is neither used nor closed.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerClient = (
  client: Redis | Cluster,
  options: Omit<Options.Options, "keyPrefix"> = {}
): Layer.Layer<LockStore, Config.ConfigError | LockBackendError> =>
  Layer.effect(
    LockStore,
    Effect.gen(function*() {
      const { keyPrefix, target } = Address.ofClient(client)
      const settings = yield* StoreOptions.parse(Options.fields, { ...options, keyPrefix })
      return yield* over(Connection.open(target, settings), settings)
    })
  )

/**
 * A store over the program's own Effect service of Redis.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerEffectRedis = (
  options: Options.Options = {}
): Layer.Layer<LockStore, Config.ConfigError | LockBackendError, EffectRedis> =>
  Layer.effect(
    LockStore,
    Effect.flatMap(StoreOptions.parse(Options.fields, options), (settings) =>
      over(EffectConnection.open(settings), settings))
  )

const at = (
  target: Effect.Effect<Address.Target, Config.ConfigError>,
  settings: Effect.Effect<Options.Settings, Config.ConfigError>
): Layer.Layer<LockStore, Config.ConfigError | LockBackendError> =>
  Layer.effect(
    LockStore,
    Effect.gen(function*() {
      const where = yield* target
      const how = yield* settings
      return yield* over(Connection.open(where, how), how)
    })
  )

const over = <E, R>(open: Effect.Effect<Port, E, R>, settings: Options.Settings) =>
  Effect.gen(function*() {
    const [took, port] = yield* Effect.timed(open)
    // Whoever is silent from here on holds up the layer no longer either.
    const left = Math.max(settings.connectTimeout - Duration.toMillis(took), 0)
    yield* Effect.timeoutOrElse(Effect.andThen(Permissions.check(port), Warnings.warn(port)), {
      duration: left,
      orElse: () => Effect.fail(notConnected(silent.cause, true))
    })
    return yield* Store.make(port, settings)
  })

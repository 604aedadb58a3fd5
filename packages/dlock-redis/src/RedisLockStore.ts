/**
 * The Redis store without a locker.
 *
 * **When to use**
 *
 * Use to build your own `Locker` over this store, or to run the conformance suite on it. Most programs want
 * `RedisLocker` instead.
 *
 * **Details**
 *
 * Each layer also provides `LockAdmin`, over the same connections.
 *
 * @since 0.1.0
 */
import { LockAdmin } from "effect-dlock/LockAdmin"
import type { LockBackendError } from "effect-dlock/LockError"
import { LockStore } from "effect-dlock/LockStore"
import * as StoreOptions from "effect-dlock/StoreOptions"
import type * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Redis as EffectRedis } from "effect/persistence/Redis"
import type { Cluster, Redis } from "ioredis"
import * as Admin from "./internal/admin/admin.ts"
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
 * The options of a Redis store, with the address of the servers. `RedisLocker.layer` accepts them too.
 *
 * @category options
 * @since 0.1.0
 */
export interface RedisLockStoreOptions extends Options.Options, Address.Address {}

/**
 * A store on the Redis at `url`, on the primary that `sentinels` know as `master`, or on a `cluster`.
 *
 * **When to use**
 *
 * Use when the program knows the address of the servers.
 *
 * **Example** (Building a locker over the store)
 *
 * ```ts
 * import { Layer } from "effect"
 * import { Locker } from "effect-dlock"
 * import { RedisLockStore } from "effect-dlock-redis"
 *
 * const LockerLive = Locker.layer({ prefix: "shop:lock:" }).pipe(
 *   Layer.provide(RedisLockStore.layer({ url: "redis://127.0.0.1:6379" }))
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  options: RedisLockStoreOptions
): Layer.Layer<LockStore | LockAdmin, Config.ConfigError | LockBackendError> => {
  const [address, rest] = StoreOptions.split(Address.fields, options)
  return layerAt(Address.parse(address), StoreOptions.parse(Options.fields, rest))
}

/**
 * A store that reads all its options from environment variables.
 *
 * **Details**
 *
 * The variables are those of `RedisLocker.layerEnv` that set the address, the credentials, TLS, or an option of the
 * Redis store.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerEnv: Layer.Layer<LockStore | LockAdmin, Config.ConfigError | LockBackendError> = Layer.suspend(
  () => layerAt(Address.fromEnvironment, StoreOptions.environment(Options.fields))
)

/**
 * A store on the servers of an ioredis client that the program already has.
 *
 * **Gotchas**
 *
 * The store opens its own connections. It neither uses nor closes the client itself.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerClient = (
  client: Redis | Cluster,
  options: Omit<Options.Options, "keyPrefix"> = {}
): Layer.Layer<LockStore | LockAdmin, Config.ConfigError | LockBackendError> =>
  Layer.effectContext(
    Effect.gen(function*() {
      const { keyPrefix, target } = Address.ofClient(client)
      const settings = yield* StoreOptions.parse(Options.fields, { ...options, keyPrefix })
      return yield* makeStore(Connection.open(target, settings), settings)
    })
  )

/**
 * A store over the program's own Redis service, `effect/persistence/Redis`.
 *
 * **Gotchas**
 *
 * The store shares the service's connections and does not close them. `RedisLocker.layerEffectRedis` describes what
 * follows from that.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerEffectRedis = (
  options: Options.Options = {}
): Layer.Layer<LockStore | LockAdmin, Config.ConfigError | LockBackendError, EffectRedis> =>
  Layer.effectContext(
    Effect.flatMap(StoreOptions.parse(Options.fields, options), (settings) =>
      makeStore(EffectConnection.open(settings), settings))
  )

const layerAt = (
  target: Effect.Effect<Address.Target, Config.ConfigError>,
  settings: Effect.Effect<Options.Settings, Config.ConfigError>
): Layer.Layer<LockStore | LockAdmin, Config.ConfigError | LockBackendError> =>
  Layer.effectContext(
    Effect.gen(function*() {
      const where = yield* target
      const how = yield* settings
      return yield* makeStore(Connection.open(where, how), how)
    })
  )

const makeStore = <E, R>(open: Effect.Effect<Port, E, R>, settings: Options.Settings) =>
  Effect.gen(function*() {
    const [took, port] = yield* Effect.timed(open)
    // The checks share `connectTimeout` with the connection, so a server that goes silent now does not delay the layer
    // any longer.
    const left = Math.max(settings.connectTimeout - Duration.toMillis(took), 0)
    yield* Effect.timeoutOrElse(Effect.andThen(Permissions.check(port), Warnings.warn(port)), {
      duration: left,
      orElse: () => Effect.fail(notConnected(silent.cause, true))
    })
    return Context.make(LockStore, yield* Store.make(port, settings)).pipe(
      Context.add(LockAdmin, yield* Admin.make(port, settings))
    )
  })

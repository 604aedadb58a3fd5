/**
 * The store alone, for those who build their own locker over it or prove it with the conformance suite. Programs want
 * `RedisLocker`.
 *
 * @since 0.1.0
 */
import type { LockBackendError } from "effect-dlock/LockError"
import { LockStore } from "effect-dlock/LockStore"
import type * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Redis, RedisOptions } from "ioredis"
import * as Connection from "./internal/connection.ts"
import * as Options from "./internal/options.ts"
import * as Store from "./internal/store.ts"

/**
 * The options of `RedisLocker.layer` that are the store's.
 *
 * @category options
 * @since 0.1.0
 */
export type RedisLockStoreOptions = Options.Options

/**
 * A store on the Redis at `url`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  options: RedisLockStoreOptions
): Layer.Layer<LockStore, Config.ConfigError | LockBackendError> => {
  const { url, ...rest } = options
  return Layer.effect(
    LockStore,
    Effect.flatMap(
      Effect.all([Options.parseUrl(url), Options.parse(rest)]),
      ([target, settings]) => make(target, settings)
    )
  )
}

/**
 * A store at the address of a client that is neither used nor closed.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerClient = (
  client: Redis,
  options: Omit<RedisLockStoreOptions, "url" | "keyPrefix"> = {}
): Layer.Layer<LockStore, Config.ConfigError | LockBackendError> =>
  Layer.effect(
    LockStore,
    Effect.gen(function*() {
      const target = yield* Options.oneNode(client)
      const settings = yield* Options.parse({ ...options, keyPrefix: target.keyPrefix })
      return yield* make(target, settings)
    })
  )

const make = (target: RedisOptions, settings: Options.Settings) =>
  Effect.flatMap(
    Connection.open({ target, connectTimeout: settings.connectTimeout, callLimit: settings.callLimit }),
    (port) => Store.make(port, settings)
  )

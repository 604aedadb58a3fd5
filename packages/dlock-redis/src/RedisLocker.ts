/**
 * Lockers over Redis (7.0 or newer, or Valkey), on one node.
 *
 * Every layer opens two connections of its own, one for scripts and one that listens, with settings that are safe for
 * a lock. It waits until the server answers, at most `connectTimeout`, and fails with `LockBackendError` after that;
 * credentials that the server refuses fail at once. Both connections are closed with the layer.
 *
 * @since 0.1.0
 */
import { Locker, type LockerOptions } from "effect-dlock/Locker"
import type { LockBackendError } from "effect-dlock/LockError"
import * as StoreOptions from "effect-dlock/StoreOptions"
import * as Config from "effect/Config"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import type { Redis } from "ioredis"
import { problemOfRetryInterval, problemOfUrl } from "./internal/options.ts"
import * as RedisLockStore from "./RedisLockStore.ts"

/**
 * What a Redis locker goes by besides `LockerOptions`.
 *
 * @category options
 * @since 0.1.0
 */
export interface RedisLockerOptions extends LockerOptions, StoreOptions.Limits {
  /** `redis://user:password@host:6379/0`, or `rediss:` for TLS. Redacted where it holds a password. */
  readonly url: string | Redacted.Redacted
  /** Stands before every key and its prefix, as a client's own `keyPrefix` would. None unless given. */
  readonly keyPrefix?: string | undefined
  /**
   * How often the head of a queue asks while a client of another library holds the key, and the longest delay past a
   * known expiry; nothing else polls. 100 milliseconds unless given.
   */
  readonly retryInterval?: Duration.Input | undefined
}

/** What a layer over Redis can fail with. */
type Failure = Config.ConfigError | LockBackendError

/** The core's options and the store's, each to its own. */
const over = <Options extends LockerOptions>(
  options: Options,
  store: (rest: Omit<Options, keyof LockerOptions>) => ReturnType<typeof RedisLockStore.layer>
): Layer.Layer<Locker, Failure> => {
  const { defaultTtl, guardGap, holder, prefix, ...rest } = options
  return Locker.layerOver(store(rest), { defaultTtl, guardGap, holder, prefix })
}

/**
 * A locker on the Redis at `url`.
 *
 * **Example**
 *
 * ```ts
 * import { Effect } from "effect"
 * import { withLock } from "effect-dlock"
 * import { RedisLocker } from "effect-dlock-redis"
 *
 * const RedisLockerLive = RedisLocker.layer({ url: "redis://127.0.0.1:6379", prefix: "shop:lock:" })
 *
 * const program = withLock("inventory:42", Effect.log("alone")).pipe(Effect.provide(RedisLockerLive))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: RedisLockerOptions): Layer.Layer<Locker, Failure> => over(options, RedisLockStore.layer)

/**
 * The same, each option from Effect's `Config`.
 *
 * **Example**
 *
 * ```ts
 * import { Config } from "effect"
 * import { RedisLocker } from "effect-dlock-redis"
 *
 * const LockerLive = RedisLocker.layerConfig({ url: Config.Redacted("REDIS_URL"), prefix: Config.succeed("shop:lock:") })
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = (options: Config.Wrap<RedisLockerOptions>): Layer.Layer<Locker, Failure> =>
  Layer.unwrap(Effect.map(Config.unwrap(options), layer))

/**
 * A locker at the address, and with the credentials, `db` and `keyPrefix`, of a client that the program already has.
 * The client itself is neither used nor closed: its settings are made for other work than a lock's.
 *
 * **Example**
 *
 * ```ts
 * import { RedisLocker } from "effect-dlock-redis"
 * import { Redis } from "ioredis"
 *
 * const redis = new Redis({ host: "127.0.0.1", keyPrefix: "shop:", lazyConnect: true })
 * const LockerLive = RedisLocker.layerClient(redis, { prefix: "lock:" })
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerClient = (
  client: Redis,
  options: Omit<RedisLockerOptions, "url" | "keyPrefix"> = {}
): Layer.Layer<Locker, Failure> => over(options, (rest) => RedisLockStore.layerClient(client, rest))

/**
 * A locker whose settings all come from the environment (Effect's `Config`): `DLOCK_REDIS_URL` (required),
 * `DLOCK_PREFIX`, `DLOCK_DEFAULT_TTL`, `DLOCK_RETRY_INTERVAL`.
 *
 * @category layers
 * @since 0.1.0
 */
export const RedisLockerLive: Layer.Layer<Locker, Failure> = Layer.unwrap(
  Effect.map(
    Effect.all({
      url: StoreOptions.requiredVariable("DLOCK_REDIS_URL", "redis://127.0.0.1:6379", problemOfUrl),
      retryInterval: StoreOptions.variable("DLOCK_RETRY_INTERVAL", problemOfRetryInterval)
    }),
    ({ retryInterval, url }) =>
      Locker.layerConfigOver(RedisLockStore.layer({
        url: Redacted.make(url),
        retryInterval: retryInterval as Duration.Input | undefined
      }))
  )
)

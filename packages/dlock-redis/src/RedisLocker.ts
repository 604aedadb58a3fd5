/**
 * Lockers over Redis (7.0 or newer) and Valkey (8 or newer): one server, a primary behind sentinels, or a cluster.
 *
 * Every layer but `layerEffectRedis` opens connections of its own, one for scripts to each server that holds locks and
 * one that listens, with settings that are safe for a lock. It waits until the server answers, at most `connectTimeout`,
 * and fails with `LockBackendError` after that; credentials that the server refuses, and permissions that it does not
 * grant, fail at once. What about the servers can end a lock that was acknowledged is logged once, as warnings. The
 * connections are closed with the layer.
 *
 * @since 0.1.0
 */
import { Locker, type LockerOptions } from "effect-dlock/Locker"
import type { LockBackendError } from "effect-dlock/LockError"
import type { LockStore } from "effect-dlock/LockStore"
import type * as StoreOptions from "effect-dlock/StoreOptions"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Redis as EffectRedis } from "effect/persistence/Redis"
import type { Cluster, Redis } from "ioredis"
import type * as Options from "./internal/options.ts"
import * as RedisLockStore from "./RedisLockStore.ts"

/**
 * What a Redis locker goes by besides where the servers are.
 *
 * @category options
 * @since 0.1.0
 */
export interface RedisLockerSettings extends LockerOptions, Omit<Options.Options, "keyPrefix"> {}

/**
 * The same with where the servers are: exactly one of `url`, `sentinels` with `master`, and `cluster`.
 *
 * @category options
 * @since 0.1.0
 */
export interface RedisLockerOptions extends LockerOptions, RedisLockStore.RedisLockStoreOptions {}

/** What a layer over Redis can fail with. */
type Failure = Config.ConfigError | LockBackendError

/** The core's options and the store's, each to its own. */
const over = <Options extends LockerOptions, R>(
  options: Options,
  store: (rest: Omit<Options, keyof LockerOptions>) => Layer.Layer<LockStore, Failure, R>
): Layer.Layer<Locker, Failure, R> => {
  const [ours, rest] = Locker.splitOptions(options)
  return Locker.layerWithStore(store(rest), ours)
}

/**
 * A locker on the Redis at `url`, at the primary that `sentinels` know as `master`, or on a `cluster`.
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
 *
 * const Sentinel = RedisLocker.layer({ sentinels: ["10.0.0.1:26379", "10.0.0.2:26379"], master: "mymaster" })
 * const Cluster = RedisLocker.layer({ cluster: ["10.0.0.1:6379", "10.0.0.2:6379"] })
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
export const layerConfig = (
  options: Config.Wrap<Omit<RedisLockerOptions, "tls"> & { readonly tls?: StoreOptions.Tls | undefined }>
): Layer.Layer<Locker, Failure> => Layer.unwrap(Effect.map(Config.unwrap(options), layer))

/**
 * A locker where a client leads that the program already has, be it of one server, of sentinels or of a cluster: with
 * its addresses, credentials, TLS, `db`, `natMap` and `keyPrefix`. The client itself is neither used nor closed: its
 * settings are made for other work than a lock's.
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
  client: Redis | Cluster,
  options: RedisLockerSettings = {}
): Layer.Layer<Locker, Failure> => over(options, (rest) => RedisLockStore.layerClient(client, rest))

/**
 * A locker over the program's own service of Redis (`effect/persistence/Redis`, in Node.js `NodeRedis` of
 * `@effect/platform-node`), which it shares and does not close. No other client is needed.
 *
 * The promises are those of every locker; what they rest on is narrower by what that client does of its own. It may
 * queue requests while it has no connection and send them late: such a request finds its claim cancelled. Its connections
 * are not made anew when they go silent, unless it is told to: holders then end at their deadlines, and acquires fail
 * after their time limits, until it connects again. And a message that got lost is noticed only by asking, within two
 * seconds.
 *
 * **Example**
 *
 * ```ts
 * import { NodeRedis } from "@effect/platform-node"
 * import { Layer } from "effect"
 * import { RedisLocker } from "effect-dlock-redis"
 *
 * const LockerLive = RedisLocker.layerEffectRedis({ prefix: "shop:lock:" }).pipe(
 *   Layer.provide(NodeRedis.layer({ url: "redis://127.0.0.1:6379" }))
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerEffectRedis = (
  options: RedisLockerSettings & { readonly keyPrefix?: string | undefined } = {}
): Layer.Layer<Locker, Failure, EffectRedis> => over(options, RedisLockStore.layerEffectRedis)

/**
 * A locker whose settings all come from the environment (Effect's `Config`): where the servers are by one of
 * `DLOCK_REDIS_URL`, `DLOCK_REDIS_SENTINELS` with `DLOCK_REDIS_MASTER`, and `DLOCK_REDIS_CLUSTER` (both lists with commas);
 * `DLOCK_REDIS_USERNAME`, `DLOCK_REDIS_PASSWORD`, `DLOCK_REDIS_SENTINEL_USERNAME`, `DLOCK_REDIS_SENTINEL_PASSWORD`, the
 * paths `DLOCK_REDIS_CA`, `DLOCK_REDIS_CERT` and `DLOCK_REDIS_KEY`; the options by `DLOCK_PREFIX`, `DLOCK_DEFAULT_TTL`,
 * `DLOCK_GUARD_GAP`, `DLOCK_HOLDER`, `DLOCK_CONNECT_TIMEOUT`, `DLOCK_OPERATION_TIMEOUT`, `DLOCK_RETRY_INTERVAL`,
 * `DLOCK_REDIS_KEY_PREFIX`, `DLOCK_REDIS_WAIT_REPLICAS` and `DLOCK_REDIS_INTEROP`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerEnv: Layer.Layer<Locker, Failure> = Locker.layerEnvWithStore(RedisLockStore.layerEnv)

/**
 * The same as `layerEnv`, under the name that it has at the root of the package.
 *
 * @category layers
 * @since 0.1.0
 */
export const RedisLockerLive: Layer.Layer<Locker, Failure> = layerEnv

/**
 * Lockers over Redis (7.0 or newer) and Valkey (8 or newer): one server, a primary behind sentinels, or a cluster.
 *
 * **When to use**
 *
 * Use `layer` or `layerConfig` when the program knows the address of the servers, `layerEnv` when the environment holds
 * the address, `layerClient` when the program already has an ioredis client, and `layerEffectRedis` when the program
 * already has Effect's Redis service.
 *
 * **Details**
 *
 * - Connections: every layer except `layerEffectRedis` opens its own connections, with settings that are safe for a
 *   lock. It opens one connection for scripts to each server that holds locks, and one connection that receives
 *   notifications. The option `waitReplicas` adds one more to each server that holds locks. The connections close with
 *   the layer.
 * - Start: the layer waits until the server answers. It fails with `LockBackendError` after `connectTimeout` (5 seconds
 *   by default). It fails at once if the server refuses the credentials, or if the user lacks a permission.
 * - Warnings: the layer logs one warning for each server setting that can end an acknowledged lock.
 *
 * @since 0.1.0
 */
import type { LockAdmin } from "effect-dlock/LockAdmin"
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
 * The options of a Redis locker, except the address of the servers.
 *
 * @category options
 * @since 0.1.0
 */
export interface RedisLockerSettings extends LockerOptions, Omit<Options.Options, "keyPrefix"> {}

/**
 * The options of a Redis locker, with the address of the servers: exactly one of `url`, `sentinels` (with `master`) and
 * `cluster`.
 *
 * @category options
 * @since 0.1.0
 */
export interface RedisLockerOptions extends LockerOptions, RedisLockStore.RedisLockStoreOptions {}

/** The errors with which a layer over Redis can fail. */
type Failure = Config.ConfigError | LockBackendError

/** Builds a locker over a store, and gives each of the two its own options. */
const withStore = <Options extends LockerOptions, R>(
  options: Options,
  store: (rest: Omit<Options, keyof LockerOptions>) => Layer.Layer<LockStore | LockAdmin, Failure, R>
): Layer.Layer<Locker, Failure, R> => {
  const [ours, rest] = Locker.splitOptions(options)
  return Locker.layerWithStore(store(rest), ours)
}

/**
 * A locker on the Redis at `url`, on the primary that `sentinels` know as `master`, or on a `cluster`.
 *
 * **When to use**
 *
 * Use when the program knows the address of the servers.
 *
 * **Details**
 *
 * The layer fails with `ConfigError` if an option is invalid, before it opens a connection.
 *
 * **Example** (One server, sentinels or a cluster)
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
export const layer = (options: RedisLockerOptions): Layer.Layer<Locker, Failure> =>
  withStore(options, RedisLockStore.layer)

/**
 * A locker like that of `layer`, where each option is a `Config`.
 *
 * **When to use**
 *
 * Use when options come from the program's own configuration, under names that the program chooses.
 *
 * **Gotchas**
 *
 * `tls` cannot be an effect here. Use `layer` for certificates that change.
 *
 * **Example** (Reading the address from a variable)
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
 * A locker on the servers of an ioredis client that the program already has.
 *
 * **When to use**
 *
 * Use when the program already has a client of one server, of sentinels or of a cluster, and the locker should use the
 * same servers.
 *
 * **Details**
 *
 * The locker copies the client's addresses, credentials, TLS options, `db`, `natMap` and `keyPrefix`, and opens its own
 * connections.
 *
 * **Gotchas**
 *
 * The locker neither uses nor closes the client itself, because the client's settings are made for other work than
 * locking.
 *
 * **Example** (Using the servers of a client)
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
): Layer.Layer<Locker, Failure> => withStore(options, (rest) => RedisLockStore.layerClient(client, rest))

/**
 * A locker over the program's own Redis service: `effect/persistence/Redis`, which is `NodeRedis` of
 * `@effect/platform-node` in Node.js.
 *
 * **When to use**
 *
 * Use when the program already provides that service, and needs no other Redis client.
 *
 * **Details**
 *
 * The locker shares the service's connections and does not close them. It makes the same promises as every other
 * locker.
 *
 * **Gotchas**
 *
 * The promises depend on what the service's client does on its own:
 *
 * - The client may queue requests while it has no connection, and send them late. The server then finds that the claim
 *   of such a request was cancelled.
 * - The client does not replace a connection that went silent, unless the program configures it to. Until the client
 *   connects again, holders lose their locks at their deadlines, and acquires fail after their time limits.
 * - The locker notices a lost notification only because it asks the server, at least every 2 seconds.
 *
 * **Example** (Sharing the program's Redis service)
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
): Layer.Layer<Locker, Failure, EffectRedis> => withStore(options, RedisLockStore.layerEffectRedis)

/**
 * A locker that reads all its options from environment variables, through Effect's `Config`.
 *
 * **When to use**
 *
 * Use when the deployment, not the program, decides where Redis is.
 *
 * **Details**
 *
 * - Address: exactly one of `DLOCK_REDIS_URL`, `DLOCK_REDIS_SENTINELS` (with `DLOCK_REDIS_MASTER`) and
 *   `DLOCK_REDIS_CLUSTER`. Separate the addresses of sentinels and of cluster nodes with commas.
 * - Credentials: `DLOCK_REDIS_USERNAME`, `DLOCK_REDIS_PASSWORD`, `DLOCK_REDIS_SENTINEL_USERNAME` and
 *   `DLOCK_REDIS_SENTINEL_PASSWORD`.
 * - TLS: `DLOCK_REDIS_CA`, `DLOCK_REDIS_CERT` and `DLOCK_REDIS_KEY`, which are paths of files.
 * - Options of every locker: `DLOCK_PREFIX`, `DLOCK_DEFAULT_TTL`, `DLOCK_GUARD_GAP`, `DLOCK_HOLDER`,
 *   `DLOCK_DEFAULT_TIMEOUT`, `DLOCK_MAX_HOLD` and `DLOCK_WARN_AFTER`.
 * - Options of the Redis store: `DLOCK_CONNECT_TIMEOUT`, `DLOCK_OPERATION_TIMEOUT`, `DLOCK_RETRY_INTERVAL`,
 *   `DLOCK_REDIS_KEY_PREFIX`, `DLOCK_REDIS_WAIT_REPLICAS` and `DLOCK_REDIS_INTEROP`.
 *
 * **Example** (Configuring a locker by the environment)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { withLock } from "effect-dlock"
 * import { RedisLocker } from "effect-dlock-redis"
 *
 * // DLOCK_REDIS_URL=redis://127.0.0.1:6379
 * const program = withLock("inventory:42", Effect.log("alone")).pipe(Effect.provide(RedisLocker.layerEnv))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerEnv: Layer.Layer<Locker, Failure> = Locker.layerEnvWithStore(RedisLockStore.layerEnv)

/**
 * The same layer as `RedisLocker.layerEnv`, under the name that the root of this package exports.
 *
 * @category layers
 * @since 0.1.0
 */
export const RedisLockerLive: Layer.Layer<Locker, Failure> = layerEnv

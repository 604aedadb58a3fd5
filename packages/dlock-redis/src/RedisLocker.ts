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
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Redis as EffectRedis } from "effect/persistence/Redis"
import type * as Redacted from "effect/Redacted"
import type { Cluster, Redis } from "ioredis"
import { fromEnvironment } from "./internal/options.ts"
import * as Target from "./internal/target.ts"
import * as RedisLockStore from "./RedisLockStore.ts"

/**
 * What a Redis locker goes by besides `LockerOptions` and where the servers are.
 *
 * @category options
 * @since 0.1.0
 */
export interface RedisLockerSettings extends LockerOptions, StoreOptions.Limits {
  /**
   * How often the head of a queue asks while a client of another library holds the key, and the longest delay past a
   * known expiry. Besides, the foremost waiter of a process asks every two seconds, for messages may get lost. 100
   * milliseconds unless given.
   */
  readonly retryInterval?: Duration.Input | undefined
  /**
   * For a fleet in which clients of another library still take the same keys: a release frees the key for everybody and
   * wakes our next waiter, instead of handing the lock over. Costs the fairness among ours. Off unless given.
   */
  readonly interop?: boolean | undefined
  /**
   * How many replicas must have a grant before it counts. One that they do not confirm within a tenth of its `ttl`, at
   * most a second, is given back and asked for again as a new claim. Narrows what a failover can lose, at one more trip
   * to the server and one to the replicas for each acquire; it does not close the gap. None unless given.
   */
  readonly waitReplicas?: number | undefined
}

/**
 * The same with where the servers are: exactly one of `url`, `sentinels` with `master`, and `cluster`.
 *
 * @category options
 * @since 0.1.0
 */
export interface RedisLockerOptions extends RedisLockerSettings {
  /**
   * `redis://user:password@host:6379/0`, `rediss:` for TLS, or `redis+unix:///run/redis.sock?db=0` for a socket (user and
   * password go apart there). Redacted where it holds a password.
   */
  readonly url?: string | Redacted.Redacted | undefined
  /** `host:26379`, several as an array or with commas; `rediss://host:26379` for TLS, to the servers too. */
  readonly sentinels?: string | ReadonlyArray<string> | undefined
  /** The name by which the sentinels know the primary. */
  readonly master?: string | undefined
  /** Nodes to begin with, as `host:6379`, several as an array or with commas; `rediss://host:6379` for TLS. */
  readonly cluster?: string | ReadonlyArray<string> | undefined
  /** Of the servers; stand in for those of the `url`. */
  readonly username?: string | undefined
  /**
   * One that changes is an effect: it is run before each connection, within `connectTimeout`, and again for the next
   * attempt where it fails. The same for `sentinelPassword` and `tls`.
   */
  readonly password?: string | Redacted.Redacted | Effect.Effect<string | Redacted.Redacted, unknown> | undefined
  /** Of the sentinels, where they ask for it. */
  readonly sentinelUsername?: string | undefined
  readonly sentinelPassword?:
    | string
    | Redacted.Redacted
    | Effect.Effect<string | Redacted.Redacted, unknown>
    | undefined
  /** Certificates as PEM texts, for addresses with `rediss:`: an authority of your own, a certificate and key of ours. */
  readonly tls?: StoreOptions.Tls | Effect.Effect<StoreOptions.Tls, unknown> | undefined
  /** Stands before every key and its prefix, as a client's own `keyPrefix` would. None unless given. */
  readonly keyPrefix?: string | undefined
}

/** What a layer over Redis can fail with. */
type Failure = Config.ConfigError | LockBackendError

/** The core's options and the store's, each to its own. */
const over = <Options extends LockerOptions, R>(
  options: Options,
  store: (rest: Omit<Options, keyof LockerOptions>) => Layer.Layer<LockStore, Failure, R>
): Layer.Layer<Locker, Failure, R> => {
  const { defaultTtl, guardGap, holder, prefix, ...rest } = options
  return Locker.layerOver(store(rest), { defaultTtl, guardGap, holder, prefix })
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
export const RedisLockerLive: Layer.Layer<Locker, Failure> = Layer.unwrap(
  Effect.map(
    Effect.all([Target.fromEnvironment, fromEnvironment]),
    ([address, options]) => Locker.layerConfigOver(RedisLockStore.layer({ ...address, ...options }))
  )
)

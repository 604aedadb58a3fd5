/**
 * Keeps the runners and the shard locks of Effect Cluster in a lock store: in Redis, Valkey, etcd, or any other backend
 * that has a `LockStore` and a `LockAdmin`.
 *
 * **Details**
 *
 * A shard is a lock that its runner holds, and so is the registration of a runner. A runner whose backend does not answer, or
 * that was paused, leaves its shards before another runner can have them: it counts from when it *sent* the request that
 * was last confirmed, and the backend keeps the shard for a guard gap longer.
 *
 * @since 0.1.0
 */
import type { LockAdmin } from "effect-dlock/LockAdmin"
import type { LockStore } from "effect-dlock/LockStore"
import { RunnerStorage } from "effect/cluster/RunnerStorage"
import type { ShardingConfig } from "effect/cluster/ShardingConfig"
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Options from "./internal/options.ts"
import * as Storage from "./internal/storage.ts"
import { ShardLocks } from "./ShardLocks.ts"

/**
 * The options of a runner storage.
 *
 * @category options
 * @since 0.1.0
 */
export interface LockRunnerStorageOptions extends Options.Options {}

/**
 * The runner storage of Effect Cluster over a lock store.
 *
 * **When to use**
 *
 * Use instead of `SqlRunnerStorage.layer` to keep the shard locks in Redis or etcd.
 *
 * **Details**
 *
 * The ttl of a shard is `ShardingConfig.shardLockExpiration`. The layer fails with `ConfigError` if an option is invalid.
 *
 * It provides `ShardLocks` too, for entities that fence what they write.
 *
 * **Gotchas**
 *
 * All runners of a cluster need the same `prefix`, and no other cluster, nor a locker, may use it.
 *
 * A runner that died without a word keeps its address and its shards until they expire. One that is started anew with the
 * same address waits for that: `shardLockExpiration` and the guard gap.
 *
 * **Example** (A runner with its locks in Redis)
 *
 * ```ts
 * import { NodeClusterSocket } from "@effect/platform-node"
 * import { Layer } from "effect"
 * import { LockRunnerStorage } from "effect-dlock-cluster"
 * import { RedisLockStore } from "effect-dlock-redis"
 * import { MessageStorage, ShardingConfig } from "effect/cluster"
 *
 * const RunnerStorageLive = LockRunnerStorage.layer().pipe(
 *   Layer.provide(RedisLockStore.layer({ url: "redis://127.0.0.1:6379" })),
 *   Layer.provide(ShardingConfig.layerFromEnv())
 * )
 *
 * const ClusterLive = NodeClusterSocket.layer({ storage: "byo" }).pipe(
 *   Layer.provide([RunnerStorageLive, MessageStorage.layerNoop])
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  options: LockRunnerStorageOptions = {}
): Layer.Layer<RunnerStorage | ShardLocks, Config.ConfigError, LockStore | LockAdmin | ShardingConfig> =>
  Layer.effectContext(
    Effect.map(
      Storage.make(options),
      ({ runnerStorage, shardLocks }) =>
        Context.make(RunnerStorage, runnerStorage).pipe(Context.add(ShardLocks, shardLocks))
    )
  )

/**
 * A runner storage like that of `layer`, where each option is a `Config`.
 *
 * **When to use**
 *
 * Use when options come from the program's own configuration, under names that the program chooses.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = (
  options: Config.Wrap<LockRunnerStorageOptions>
): Layer.Layer<RunnerStorage | ShardLocks, Config.ConfigError, LockStore | LockAdmin | ShardingConfig> =>
  Layer.unwrap(Effect.map(Config.unwrap(options), layer))

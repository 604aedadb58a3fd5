/**
 * The tokens of the shards that this runner holds.
 *
 * @since 0.1.0
 */
import type { LockNotHeld, OwnershipLost } from "effect-dlock/LockError"
import type { ShardId } from "effect/cluster/ShardId"
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"

/**
 * The shards that this runner holds, for entities that write to something outside.
 *
 * **When to use**
 *
 * Use in an entity whose writes must not arrive after those of the next runner of its shard. A runner that was paused, with
 * its process or its machine, goes on for a moment before it notices that its shards are lost.
 *
 * **Example** (Fencing the writes of an entity)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { ShardLocks } from "effect-dlock-cluster"
 * import { Entity } from "effect/cluster"
 *
 * declare const save: (entity: string, total: number, token: bigint) => Effect.Effect<void>
 *
 * const add = Effect.fn(function*(total: number) {
 *   const { entityId, shardId } = yield* Entity.CurrentAddress
 *   const shards = yield* ShardLocks
 *   yield* save(entityId, total, yield* shards.fencingToken(shardId))
 * })
 * ```
 *
 * @category services
 * @since 0.1.0
 */
export class ShardLocks extends Context.Service<ShardLocks, {
  /**
   * The fencing token of a shard: larger than every token with which a runner had the shard before. A resource that refuses
   * a smaller token than it has seen never takes the write of an earlier runner.
   *
   * It fails unless the shard is held now, and only reads the clock. So an entity that asks for it before each write stops
   * after a pause even if its resource compares nothing, except for a write that is under way.
   */
  readonly fencingToken: (shardId: ShardId) => Effect.Effect<bigint, OwnershipLost | LockNotHeld>
}>()("effect-dlock-cluster/ShardLocks") {}

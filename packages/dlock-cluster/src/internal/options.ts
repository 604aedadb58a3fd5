/** The options of the runner storage: their parsers and defaults. */
import * as StoreOptions from "effect-dlock/StoreOptions"
import type * as Duration from "effect/Duration"

/** The options of the runner storage, as the program gives them. */
export interface Options {
  /** Text in front of every key. All runners of a cluster have the same, and no other cluster has it. `cluster/` by default. */
  readonly prefix?: string | undefined
  /**
   * How much longer than `shardLockExpiration` the backend keeps a shard: time for entities that were interrupted to end.
   * By default the larger of 100 milliseconds and a tenth of `shardLockExpiration`.
   */
  readonly guardGap?: Duration.Input | undefined
}

export const fields = {
  prefix: StoreOptions.withDefault(StoreOptions.prefix, "cluster/"),
  guardGap: StoreOptions.optional(StoreOptions.duration(0, StoreOptions.year))
} satisfies StoreOptions.Fields<Options>

/** `shardLockExpiration` is the ttl of a lock, with the limits of one. */
export const ttl: StoreOptions.Parser<number> = StoreOptions.duration(100, StoreOptions.year)

/**
 * The keys of a cluster, behind its prefix.
 *
 * | key | kind | held by | means |
 * |---|---|---|---|
 * | `shard/<group>:<n>` | mutex | the runner that has the shard | its token is a fence for what the entities of the shard write |
 * | `runner/<address>` | mutex | the runner | nobody else has its address |
 * | `runners` | semaphore | each runner, one permit | it is registered. The text of the holder says what the runner is |
 * | `unhealthy` | semaphore | a runner, one permit for each that it found | the runner that the holder's text names gets no shards |
 * | `machine/<n>` | mutex | the runner | its snowflakes carry this number |
 *
 * The runners are found by one look at `runners`, each few seconds in each runner. A list of the keys below `runner/` would
 * have to walk through all keys of a Redis, also those that have nothing to do with locks.
 *
 * Health is the absence of a mark, and the mark belongs to the runner that put it: Sharding lets any runner judge any
 * other, so a claim that the judged runner holds could only be taken from it by force. A verdict ends with the process that
 * keeps it, and the next one judges anew.
 */
import type { RunnerAddress } from "effect/cluster/RunnerAddress"
import type { ShardId } from "effect/cluster/ShardId"

/** A slash separates the parts of a key, and braces mean something to Redis Cluster. A colon does no harm. */
const encode = (text: string): string => encodeURIComponent(text).replaceAll("%3A", ":")

export const shard = ({ group, id }: ShardId): string => `shard/${encode(group)}:${id}`

export const runners = "runners"

export const unhealthy = "unhealthy"

/** A host may have any form. */
export const addressOf = ({ host, port }: RunnerAddress): string => encode(`${host}:${port}`)

/** The keys of all addresses begin with this. */
export const addresses = "runner/"

export const runner = (address: string): string => `${addresses}${address}`

export const machine = (id: number): string => `machine/${id}`

/** A snowflake has ten bits for its machine. */
export const machines = 1024

/**
 * The keys of a cluster, behind its prefix. Each is a mutex.
 *
 * | key | held by | means |
 * |---|---|---|
 * | `shard/<group>:<n>` | the runner that has the shard | its token is a fence for what the entities of the shard write |
 * | `runner/<address>` | the runner | it is registered. Its holder text carries what the runner is |
 * | `runner/<address>/unhealthy` | the runner that found it | it gets no shards |
 * | `machine/<n>` | the runner | its snowflakes carry this number |
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

export const runners = "runner/"

export const addressOf = ({ host, port }: RunnerAddress): string => encode(`${host}:${port}`)

export const runner = (address: string): string => `${runners}${address}`

const mark = "/unhealthy"

export const unhealthy = (address: string): string => `${runner(address)}${mark}`

/** The address of a key below `runners`, and whether it is the mark of an unhealthy runner. */
export const parseRunner = (key: string): { readonly address: string; readonly isMark: boolean } => {
  const address = key.slice(runners.length)
  return address.endsWith(mark)
    ? { address: address.slice(0, -mark.length), isMark: true }
    : { address, isMark: false }
}

export const machine = (id: number): string => `machine/${id}`

/** A snowflake has ten bits for its machine. */
export const machines = 1024

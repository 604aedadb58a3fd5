/** Encodes and decodes the value of a claim. */

import type { LockKind } from "effect-dlock/LockError"
import type { Claim } from "effect-dlock/LockStore"

/**
 * The version of the value's layout. Fields that a version may ignore do not raise it. A process that finds a higher version
 * cannot know what such a claim means, and stays away from the key.
 */
export const layout = 1

/**
 * The value of a claim. A value that another client wrote, such as `etcdctl lock`, is read as a claim on a mutex.
 *
 * Two more names are reserved: `inbox`, the key at which the holder wants to hear of others, and `group`, which marks the claims
 * on several locks that are acquired together.
 */
export interface ClaimValue {
  readonly layout: number
  readonly kind: LockKind
  /** How many permits the claim takes while its key exists: for a writer's second key 1, which is what a shrink leaves it. */
  readonly permits: number
  readonly capacity: number
  readonly holder: string | undefined
  readonly id: string | undefined
  /** The process of the claim. While that process shows no sign of life, other processes may delete the claim if it waits. */
  readonly process: string | undefined
  /** The base of the fencing token, from the epoch in which the claim was put. */
  readonly base: bigint
  /** The ttl of the lease that the claim is on, in milliseconds: so long may its holder count on a confirmation. */
  readonly granted: number | undefined
}

/** The value that is assumed for a claim whose value is unknown or not needed. */
export const mutex: ClaimValue = {
  layout,
  kind: "mutex",
  permits: 1,
  capacity: 1,
  holder: undefined,
  id: undefined,
  process: undefined,
  base: 0n,
  granted: undefined
}

/** What the value of a claim tells besides the claim itself. */
export interface Circumstances {
  readonly process: string | undefined
  readonly base: bigint
  readonly granted: number
}

export const encode = (
  { capacity, holder, id, kind, permits }: Omit<ClaimValue, "layout" | keyof Circumstances> | Claim,
  { base, granted, process }: Circumstances
): Buffer =>
  Buffer.from(JSON.stringify({
    layout,
    kind,
    permits,
    capacity,
    holder,
    id,
    process,
    base: base === 0n ? undefined : String(base),
    granted
  }))

export const decode = (value: Buffer): ClaimValue => {
  try {
    const read = JSON.parse(value.toString()) as Partial<ClaimValue>
    const { base, capacity, granted, holder, id, kind, permits, process } = read
    // What a newer version may have changed is not believed.
    if (typeof read.layout === "number" && read.layout > layout) return { ...mutex, layout: read.layout }
    if (read.layout === layout && kind !== undefined && typeof permits === "number" && typeof capacity === "number") {
      return {
        layout,
        kind,
        permits,
        capacity,
        holder: typeof holder === "string" ? holder : undefined,
        id,
        process,
        base: BigInt(base ?? 0),
        granted
      }
    }
  } catch {
    // Another client wrote the value.
  }
  return mutex
}

/** Whether a newer version of this library wrote the value. */
export const isNewer = (value: ClaimValue): boolean => value.layout > layout

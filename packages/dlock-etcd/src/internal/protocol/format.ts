/** Encodes and decodes the value of a claim. */

import type { Claim } from "effect-dlock/LockStore"

/** The value of a claim. A value that another client wrote, such as `etcdctl lock`, is read as a claim on a mutex. */
export interface ClaimValue {
  readonly permits: number
  readonly capacity: number
  readonly holder: string | undefined
  readonly id: string | undefined
  /** The process of the claim. While that process shows no sign of life, other processes may delete the claim if it waits. */
  readonly process: string | undefined
  /** The base of the fencing token, from the epoch in which the claim was put. */
  readonly base: bigint
}

/** The value that is assumed for a claim whose value is unknown or not needed. */
export const mutex: ClaimValue = {
  permits: 1,
  capacity: 1,
  holder: undefined,
  id: undefined,
  process: undefined,
  base: 0n
}

export const encode = ({ capacity, holder, id, permits }: Claim, process: string | undefined, base: bigint): Buffer =>
  Buffer.from(JSON.stringify({
    permits,
    capacity,
    holder,
    id,
    process,
    base: base === 0n ? undefined : String(base)
  }))

export const decode = (value: Buffer): ClaimValue => {
  try {
    const { base, capacity, holder, id, permits, process } = JSON.parse(value.toString()) as Partial<ClaimValue>
    if (typeof permits === "number" && typeof capacity === "number") {
      return {
        permits,
        capacity,
        holder: typeof holder === "string" ? holder : undefined,
        id,
        process,
        base: BigInt(base ?? 0)
      }
    }
  } catch {
    // Another client wrote the value.
  }
  return mutex
}

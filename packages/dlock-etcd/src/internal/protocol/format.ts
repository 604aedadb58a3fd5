/** How the value of a claim is written and read. */

import type { Claim } from "effect-dlock/LockStore"

/** The value of a claim. One of another library, such as that of `etcdctl lock`, is read as a claim of a mutex. */
export interface ClaimValue {
  readonly permits: number
  readonly capacity: number
  readonly holder: string | undefined
  readonly id: string | undefined
  /** Its process. While that process shows no sign of life, others may take the waiting claim out of the queue. */
  readonly process: string | undefined
  /** The base of its fencing token: always that of the epoch in which it was put. */
  readonly base: bigint
}

/** The value of a claim of which no more is known, or needed. */
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
    // Not one of ours.
  }
  return mutex
}

import type { Recorded } from "./events.ts"
import { type LockShape, mutex } from "./lockShape.ts"

/** A lease as its worker and the resource tell of it. */
export interface Lease {
  readonly id: string
  readonly who: string
  readonly key: string
  readonly token: bigint | undefined
  readonly ttl: number
  /** What it has: fewer permits after a downgrade. */
  lock: LockShape
  /** Its steps so far, how many of them the fence accepted, and when the last of them came. */
  steps: number
  acceptedSteps: number
  lastStepAt: number
  readonly acquiredAt: number
  /** When it began to count, as its holder was told. */
  readonly since: number
  /** Its program does not end when it is interrupted, while it may still have the lock. */
  readonly lingers: boolean
  /** Until when it surely has the lock after it was revoked. */
  revokedUntil: number | undefined
  over: number | undefined
  lostAt: number | undefined
  afterLoss: number
  /** When another was let in although this one had not left. */
  overtakenAt: number | undefined
  /** Two were inside, and this one was too much: what it did then. */
  stale: boolean
  refused: number
  accepted: number
}

/** One that has just been acquired. */
export const begun = (
  { age, at, id, key, lingers, lock = mutex, token, ttl, who }: Recorded & { readonly t: "acquired" }
): Lease => ({
  id,
  who,
  key,
  token: token === undefined ? undefined : BigInt(token),
  ttl,
  lock,
  steps: 0,
  acceptedSteps: 0,
  lastStepAt: at,
  acquiredAt: at,
  since: at - age,
  lingers: lingers === true,
  revokedUntil: undefined,
  over: undefined,
  lostAt: undefined,
  overtakenAt: undefined,
  stale: false,
  afterLoss: 0,
  refused: 0,
  accepted: 0
})

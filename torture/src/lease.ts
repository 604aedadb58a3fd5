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
  { age, at, id, key, lock = mutex, token, ttl, who }: Recorded & { readonly t: "acquired" }
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
  over: undefined,
  lostAt: undefined,
  overtakenAt: undefined,
  stale: false,
  afterLoss: 0,
  refused: 0,
  accepted: 0
})

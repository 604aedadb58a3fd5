import { readWriteCapacity } from "effect-dlock/LockStore"
import type { Random } from "./random.ts"

/** The kind of a lock, how many permits a section needs, and how many its process believes the lock has. */
export interface LockShape {
  readonly kind: "mutex" | "semaphore" | "readWrite"
  readonly permits: number
  readonly capacity: number
}

export const mutex: LockShape = { kind: "mutex", permits: 1, capacity: 1 }
const reader: LockShape = { kind: "readWrite", permits: 1, capacity: readWriteCapacity }
export const writer: LockShape = { ...reader, permits: readWriteCapacity }

/** Whether nobody else may be inside. Only then the token is a fence. */
export const isExclusive = ({ capacity, kind, permits }: LockShape): boolean =>
  kind !== "semaphore" && permits === capacity

/** What this one has after it has let readers in. */
export const downgraded = (lock: LockShape): LockShape => ({ ...lock, permits: 1 })

/** Whether these may be inside together: their permits are at most the smallest capacity that one of them knows. */
export const fit = (locks: ReadonlyArray<LockShape>): boolean => {
  const permits = locks.reduce((sum, one) => sum + one.permits, 0)
  return permits <= Math.min(...locks.map(({ capacity }) => capacity))
}

/** A semaphore on which all agree, one whose capacity is being changed, and a read-write lock. */
export const sharedKeys: ReadonlyArray<string> = ["permits", "rolled", "readers"]

/**
 * What one section of a worker asks of a key. `writers` is their share. Half of the workers know the old capacity of the
 * semaphore that is being rolled, and each that starts again knows the other one.
 */
export const lockOf = (key: string, who: string, writers: number, random: Random): LockShape => {
  const permitsOf = (capacity: number): LockShape => ({
    kind: "semaphore",
    permits: Math.ceil(random.between(0.001, capacity)),
    capacity
  })
  switch (key) {
    case "permits":
      return permitsOf(3)
    case "rolled": {
      const [place = 0, life = 0] = Array.from(who.matchAll(/\d+/g), Number)
      return permitsOf((place + life) % 2 === 0 ? 2 : 4)
    }
    case "readers":
      return random.chance(writers) ? writer : reader
    default:
      return mutex
  }
}

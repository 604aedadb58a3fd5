import { type Claim, readWriteCapacity } from "effect-dlock/LockStore"

/** The kind of a lock, how many permits a section needs, and how many its process believes the lock has. */
export type LockShape = Pick<Claim, "capacity" | "kind" | "permits">

export const mutex: LockShape = { kind: "mutex", permits: 1, capacity: 1 }
export const reader: LockShape = { kind: "readWrite", permits: 1, capacity: readWriteCapacity }
export const writer: LockShape = { ...reader, permits: readWriteCapacity }

/** Whether nobody else may be inside. */
export const isExclusive = ({ capacity, kind, permits }: LockShape): boolean =>
  kind !== "semaphore" && permits === capacity

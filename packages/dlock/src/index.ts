export { DistributedSemaphore, type SemaphoreOptions } from "./DistributedSemaphore.ts"
/**
 * Leaders: a program that runs in one process of a fleet at a time.
 *
 * @since 0.1.0
 */
export * as Leader from "./Leader.ts"
export { Lease } from "./Lease.ts"
export { Leases } from "./Leases.ts"
export { Lock, type TypedLock, type TypedLockOptions } from "./Lock.ts"
export { LockAdmin } from "./LockAdmin.ts"
export { Locker, type LockerOptions, type LockOptions, type RevokeOptions, type TryLockOptions } from "./Locker.ts"
export {
  type AcquireError,
  CapacityMismatch,
  InvalidLockRequest,
  LockAlreadyHeld,
  LockBackendError,
  type LockError,
  LockKind,
  LockNotHeld,
  LockTimeout,
  LossReason,
  OwnershipLost,
  type TakeError,
  type TryError
} from "./LockError.ts"
export type { HolderInfo, LockInfo, WaiterInfo } from "./LockInfo.ts"
/**
 * The metrics of a locker.
 *
 * @since 0.1.0
 */
export * as LockMetrics from "./LockMetrics.ts"
export { LockStore, type Revocation } from "./LockStore.ts"
/**
 * The store that keeps locks in this process's memory.
 *
 * @since 0.1.0
 */
export * as MemoryLockStore from "./MemoryLockStore.ts"
/**
 * Jobs that run once within an interval, at each tick of a schedule, or for each slot.
 *
 * @since 0.1.0
 */
export * as Once from "./Once.ts"
export { ReadWriteLock, type ReadWriteLockOptions, type WriteLease } from "./ReadWriteLock.ts"
export { SharedLease } from "./SharedLease.ts"
export { Want } from "./Want.ts"
export { withLock, withLockIfAvailable } from "./withLock.ts"
export { withLocks, withLocksIfAvailable } from "./withLocks.ts"

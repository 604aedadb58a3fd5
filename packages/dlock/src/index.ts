export { Lease } from "./Lease.ts"
export { Locker, type LockerOptions, type LockOptions, type TryLockOptions } from "./Locker.ts"
export {
  type AcquireError,
  CapacityMismatch,
  InvalidLockRequest,
  LockAlreadyHeld,
  LockBackendError,
  type LockError,
  LockNotHeld,
  LockTimeout,
  LossReason,
  OwnershipLost
} from "./LockError.ts"
export { LockStore } from "./LockStore.ts"
/**
 * The store that keeps locks in this process's memory.
 *
 * @since 0.1.0
 */
export * as MemoryLockStore from "./MemoryLockStore.ts"
export { withLock, withLockIfAvailable } from "./withLock.ts"

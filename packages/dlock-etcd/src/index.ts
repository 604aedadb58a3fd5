/**
 * Lockers over etcd: the layers, their options, and `raiseTokenEpoch`.
 *
 * @since 0.1.0
 */
export * as EtcdLocker from "./EtcdLocker.ts"
export { EtcdLockerLive, type EtcdLockerOptions } from "./EtcdLocker.ts"
/**
 * The etcd store alone, for a locker of your own.
 *
 * @since 0.1.0
 */
export * as EtcdLockStore from "./EtcdLockStore.ts"

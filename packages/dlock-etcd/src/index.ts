/**
 * What is wrong with an etcd cluster for locks, before it hurts.
 *
 * @since 0.1.0
 */
export * as EtcdDoctor from "./EtcdDoctor.ts"
/**
 * The layers that provide a locker over etcd, their options, and `raiseTokenEpoch`.
 *
 * @since 0.1.0
 */
export * as EtcdLocker from "./EtcdLocker.ts"
export { EtcdLockerLive, type EtcdLockerOptions } from "./EtcdLocker.ts"
/**
 * The layers that provide the etcd store without a locker.
 *
 * @since 0.1.0
 */
export * as EtcdLockStore from "./EtcdLockStore.ts"

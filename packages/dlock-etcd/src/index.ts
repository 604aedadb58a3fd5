/**
 * The layers of lockers over etcd.
 *
 * @category layers
 * @since 0.1.0
 */
export * as EtcdLocker from "./EtcdLocker.ts"
export { EtcdLockerLive, type EtcdLockerOptions } from "./EtcdLocker.ts"
/**
 * The etcd store alone.
 *
 * @category stores
 * @since 0.1.0
 */
export * as EtcdLockStore from "./EtcdLockStore.ts"

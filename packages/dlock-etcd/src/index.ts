export * as EtcdLocker from "./EtcdLocker.ts"
export { EtcdLockerLive, type EtcdLockerOptions } from "./EtcdLocker.ts"
export * as EtcdLockStore from "./EtcdLockStore.ts"

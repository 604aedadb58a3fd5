export * as RedisLocker from "./RedisLocker.ts"
export { RedisLockerLive, type RedisLockerOptions, type RedisLockerSettings } from "./RedisLocker.ts"
export * as RedisLockStore from "./RedisLockStore.ts"

export * as RedisLocker from "./RedisLocker.ts"
export { RedisLockerLive, type RedisLockerOptions } from "./RedisLocker.ts"
export * as RedisLockStore from "./RedisLockStore.ts"

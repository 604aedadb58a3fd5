/**
 * The layers of lockers over Redis.
 *
 * @category layers
 * @since 0.1.0
 */
export * as RedisLocker from "./RedisLocker.ts"
export { RedisLockerLive, type RedisLockerOptions, type RedisLockerSettings } from "./RedisLocker.ts"
/**
 * The Redis store alone.
 *
 * @category stores
 * @since 0.1.0
 */
export * as RedisLockStore from "./RedisLockStore.ts"

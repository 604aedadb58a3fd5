/**
 * Lockers over Redis and Valkey: the layers, and their options.
 *
 * @since 0.1.0
 */
export * as RedisLocker from "./RedisLocker.ts"
export { RedisLockerLive, type RedisLockerOptions, type RedisLockerSettings } from "./RedisLocker.ts"
/**
 * The Redis store alone, for a locker of your own.
 *
 * @since 0.1.0
 */
export * as RedisLockStore from "./RedisLockStore.ts"

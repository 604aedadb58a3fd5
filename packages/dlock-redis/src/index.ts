/**
 * What is wrong with a Redis for locks, before it hurts.
 *
 * @since 0.1.0
 */
export * as RedisDoctor from "./RedisDoctor.ts"
/**
 * Layers that provide a `Locker` over Redis or Valkey, and their options.
 *
 * @since 0.1.0
 */
export * as RedisLocker from "./RedisLocker.ts"
export { RedisLockerLive, type RedisLockerOptions, type RedisLockerSettings } from "./RedisLocker.ts"
/**
 * Layers that provide only the Redis store, for programs that build their own `Locker` over it.
 *
 * @since 0.1.0
 */
export * as RedisLockStore from "./RedisLockStore.ts"

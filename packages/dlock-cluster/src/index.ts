/**
 * Layers that provide the `RunnerStorage` of Effect Cluster over a lock store.
 *
 * @since 0.1.0
 */
export * as LockRunnerStorage from "./LockRunnerStorage.ts"
export { type LockRunnerStorageOptions } from "./LockRunnerStorage.ts"
export { ShardLocks } from "./ShardLocks.ts"

/**
 * The contract of a store, as tests for any runner.
 *
 * @category testing
 * @since 0.1.0
 */
export * as Conformance from "./Conformance.ts"
/**
 * A store that fails when a test says so.
 *
 * @category testing
 * @since 0.1.0
 */
export * as FaultyLockStore from "./FaultyLockStore.ts"

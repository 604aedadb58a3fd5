/**
 * The test suite that every store must pass.
 *
 * @since 0.1.0
 */
export * as Conformance from "./Conformance.ts"
/**
 * A store that fails, hangs or loses answers when a test tells it to.
 *
 * @since 0.1.0
 */
export * as FaultyLockStore from "./FaultyLockStore.ts"

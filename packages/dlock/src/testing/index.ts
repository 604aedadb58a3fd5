export * as Conformance from "./Conformance.ts"
export * as FaultyLockStore from "./FaultyLockStore.ts"

import { assert, it } from "@effect/vitest"
import { Config, ConfigProvider, Effect, Layer } from "effect"
import * as root from "effect-dlock"
import * as testing from "effect-dlock/testing"
import * as subpath from "effect-dlock/withLock"

it("the public names are these", () => {
  assert.deepStrictEqual(Object.keys(root).sort(), [
    "CapacityMismatch",
    "DistributedSemaphore",
    "InvalidLockRequest",
    "Leader",
    "Lease",
    "Leases",
    "Lock",
    "LockAdmin",
    "LockAlreadyHeld",
    "LockBackendError",
    "LockKind",
    "LockMetrics",
    "LockNotHeld",
    "LockStore",
    "LockTimeout",
    "Locker",
    "LossReason",
    "MemoryLockStore",
    "Once",
    "OwnershipLost",
    "ReadWriteLock",
    "SharedLease",
    "Want",
    "withLock",
    "withLockIfAvailable",
    "withLocks",
    "withLocksIfAvailable"
  ])
  assert.deepStrictEqual(Object.keys(root.MemoryLockStore).sort(), ["layer", "make", "makeWithAdmin"])
  assert.deepStrictEqual(
    Object.keys(root.Locker).filter((name) => /^(layer|scoped|inspect)/.test(name)).sort(),
    [
      "inspect",
      "layer",
      "layerConfig",
      "layerDriver",
      "layerEnv",
      "layerEnvWithStore",
      "layerMemory",
      "layerWithStore",
      "scoped",
      "scopedAll",
      "scopedAllIfAvailable",
      "scopedIfAvailable"
    ]
  )
})

it("withLock and withLockIfAvailable have a subpath of their own", () => {
  assert.deepStrictEqual({ ...subpath }, { withLock: root.withLock, withLockIfAvailable: root.withLockIfAvailable })
})

it.effect("Locker.layerConfig reads each option from the Config that it is given", () =>
  Effect.gen(function*() {
    const layer = root.Locker.layerConfig({ holder: Config.String("MY_HOLDER"), prefix: Config.succeed("shop:") })
    const lease = yield* root.Locker.scoped("k").pipe(Effect.provide(Layer.provide(layer, root.MemoryLockStore.layer)))
    assert.strictEqual(lease.holder, "blue-7")
  }).pipe(Effect.provideService(ConfigProvider.ConfigProvider, ConfigProvider.fromUnknown({ MY_HOLDER: "blue-7" }))))

it("the public names for tests are these", () => {
  assert.deepStrictEqual(Object.keys(testing).sort(), ["Conformance", "FaultyLockStore"])
  assert.deepStrictEqual(Object.keys(testing.Conformance).sort(), ["cases", "costs"])
  assert.deepStrictEqual(Object.keys(testing.FaultyLockStore).sort(), ["make"])
})

import { assert, it } from "@effect/vitest"
import * as root from "effect-dlock"
import * as testing from "effect-dlock/testing"

it("the public names are these", () => {
  assert.deepStrictEqual(Object.keys(root).sort(), [
    "CapacityMismatch",
    "InvalidLockRequest",
    "Lease",
    "LockAlreadyHeld",
    "LockBackendError",
    "LockNotHeld",
    "LockStore",
    "LockTimeout",
    "Locker",
    "LossReason",
    "MemoryLockStore",
    "OwnershipLost",
    "withLock",
    "withLockIfAvailable"
  ])
  assert.deepStrictEqual(Object.keys(root.MemoryLockStore).sort(), ["layer", "make"])
  assert.deepStrictEqual(
    Object.keys(root.Locker).filter((name) => /^(layer|scoped|inspect)/.test(name)).sort(),
    [
      "layer",
      "layerConfig",
      "layerConfigOver",
      "layerDriver",
      "layerMemory",
      "layerOver",
      "scoped",
      "scopedIfAvailable"
    ]
  )
})

it("the public names for tests are these", () => {
  assert.deepStrictEqual(Object.keys(testing).sort(), ["Conformance", "FaultyLockStore"])
  assert.deepStrictEqual(Object.keys(testing.Conformance).sort(), ["cases"])
  assert.deepStrictEqual(Object.keys(testing.FaultyLockStore).sort(), ["make"])
})

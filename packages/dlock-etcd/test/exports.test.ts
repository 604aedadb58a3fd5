import * as root from "effect-dlock-etcd"
import { expect, test } from "vitest"

test("the public names are these", () => {
  expect(Object.keys(root).sort()).toEqual(["EtcdDoctor", "EtcdLockStore", "EtcdLocker", "EtcdLockerLive"])
  expect(Object.keys(root.EtcdDoctor).sort()).toEqual(["diagnose", "diagnoseEnv"])
  expect(Object.keys(root.EtcdLocker).sort()).toEqual([
    "EtcdLockerLive",
    "layer",
    "layerClient",
    "layerConfig",
    "layerEnv",
    "raiseTokenEpoch",
    "raiseTokenEpochEnv"
  ])
  expect(Object.keys(root.EtcdLockStore).sort()).toEqual(["layer", "layerClient", "layerEnv"])
})

test("EtcdLockerLive and EtcdLocker.layerEnv are the same layer", () => {
  expect(root.EtcdLockerLive).toBe(root.EtcdLocker.layerEnv)
})

import * as root from "effect-dlock-redis"
import { expect, test } from "vitest"

test("the public names are these", () => {
  expect(Object.keys(root).sort()).toEqual(["RedisDoctor", "RedisLockStore", "RedisLocker", "RedisLockerLive"])
  expect(Object.keys(root.RedisDoctor).sort()).toEqual(["diagnose", "diagnoseEnv"])
  expect(Object.keys(root.RedisLocker).sort()).toEqual([
    "RedisLockerLive",
    "layer",
    "layerClient",
    "layerConfig",
    "layerEffectRedis",
    "layerEnv"
  ])
  expect(Object.keys(root.RedisLockStore).sort()).toEqual(["layer", "layerClient", "layerEffectRedis", "layerEnv"])
})

test("RedisLockerLive and RedisLocker.layerEnv are the same layer", () => {
  expect(root.RedisLockerLive).toBe(root.RedisLocker.layerEnv)
})

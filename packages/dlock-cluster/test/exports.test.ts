import { assert, it } from "@effect/vitest"
import * as root from "effect-dlock-cluster"

it("the public names are these", () => {
  assert.deepStrictEqual(Object.keys(root).sort(), ["LockRunnerStorage", "ShardLocks"])
  assert.deepStrictEqual(Object.keys(root.LockRunnerStorage).sort(), ["layer", "layerConfig"])
})

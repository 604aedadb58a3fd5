import { assert, describe, it } from "@effect/vitest"
import { type Dimension, dimensions, drawn } from "../src/dimensions.ts"
import { parse } from "../src/flags.ts"
import type { BackendName } from "../src/plan.ts"
import { run } from "../src/world.ts"

const none: ReadonlySet<Dimension> = new Set()
const backends: ReadonlyArray<BackendName> = ["redis", "etcd"]

describe("the dimensions", () => {
  it.each(dimensions)("%s is in some worlds, which are the same twice, and changes no other", (dimension) => {
    const only = new Set([dimension])
    let alike = 0
    for (const backend of backends) {
      for (let seed = 1; seed <= 20; seed++) {
        const { hash } = run({ backend, seed, dimensions: only })
        if (drawn(seed, backend, only).size > 0) {
          assert.strictEqual(run({ backend, seed, dimensions: only, recorded: true }).hash, hash, `seed ${seed}`)
        } else {
          assert.strictEqual(run({ backend, seed, dimensions: none }).hash, hash, `seed ${seed}`)
          alike++
        }
      }
    }
    assert.isBelow(alike, 40)
  })

  it("are chosen by a flag, and so are rules", () => {
    const flags = parse(["--with", "replicas", "--rules=S1,S4"])
    if (typeof flags === "string") return assert.fail(flags)
    assert.isTrue(flags.dimensions.has("replicas"))
    assert.deepStrictEqual(flags.rules, new Set(["S1", "S4"]))
    assert.isString(parse(["--with", "wishes"]))
    assert.isString(parse(["--rules", "S99"]))
  })
})

import { assert, describe, it } from "@effect/vitest"
import type { BackendName } from "../src/backendName.ts"
import { dimensions, drawn } from "../src/dimensions.ts"
import { parse } from "../src/flags.ts"
import { run } from "../src/world.ts"

const backends: ReadonlyArray<BackendName> = ["redis", "etcd"]

describe("the dimensions", () => {
  it.each(dimensions)("%s is in some worlds, which are the same twice, and changes no other", (dimension) => {
    const only = new Set([dimension])
    const some = Array.from({ length: 100 }, (_, index) => ({ backend: backends[index % 2]!, seed: 1 + index }))
    const has = some.filter(({ backend, seed }) => drawn(seed, backend, only).has(dimension))
    assert.isNotEmpty(has)
    for (const { backend, seed } of has.slice(0, 5)) {
      const { hash } = run({ backend, seed, extra: only })
      assert.strictEqual(run({ backend, seed, extra: only, recorded: true }).hash, hash, `seed ${seed}`)
    }
    const others = some.filter((one) => !has.includes(one))
    for (const { backend, seed } of others.slice(0, 5)) {
      assert.strictEqual(run({ backend, seed, extra: only }).hash, run({ backend, seed }).hash, `seed ${seed}`)
    }
  })

  it("are chosen by a flag, and so are rules", () => {
    const flags = parse(["--with", "replicas", "--rules=S1,S4"])
    if (typeof flags === "string") return assert.fail(flags)
    assert.isTrue(flags.extra.has("replicas"))
    assert.deepStrictEqual(flags.rules, new Set(["S1", "S4"]))
    assert.isString(parse(["--with", "wishes"]))
    assert.isString(parse(["--rules", "S99"]))
  })
})

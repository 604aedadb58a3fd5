import { assert, describe, it } from "@effect/vitest"
import type { BackendName } from "../src/backendName.ts"
import { parse } from "../src/flags.ts"
import { search } from "../src/search.ts"
import { shrink } from "../src/shrink.ts"
import * as Tally from "../src/tally.ts"
import { runsOn, variants } from "../src/variants.ts"
import { run } from "../src/world.ts"

const backends: ReadonlyArray<BackendName> = ["redis", "etcd"]

describe.each(backends)("the whole client over a simulated %s", (backend) => {
  it("keeps its promises whatever goes wrong", { timeout: 600_000 }, () => {
    const tally = Tally.empty()
    for (let seed = 1; seed <= 300; seed++) {
      const result = run({ backend, seed })
      assert.isUndefined(
        result.violation,
        `npm run simulate -- --backend ${backend} --seed ${seed}: ${JSON.stringify(result.violation)}`
      )
      Tally.add(tally, result)
    }
    console.log(Tally.table(`simulation, ${backend}`, tally))
    assert.isUndefined(Tally.voidBecause(backend, tally))
  })

  it("lives a seed twice in the same way", () => {
    for (let seed = 1_000; seed < 1_020; seed++) {
      const first = run({ backend, seed })
      const second = run({ backend, seed, recorded: true })
      assert.strictEqual(second.hash, first.hash, `seed ${seed}`)
      assert.isAbove(second.lines.length, 0)
      assert.notStrictEqual(run({ backend, seed: seed + 100 }).hash, first.hash)
    }
  })

  it.each(variants.filter(runsOn(backend)).filter(({ isRare }) => isRare !== true))(
    "catches $name",
    // How many seeds it takes is the same on every machine, and how long is not.
    { timeout: 600_000 },
    (variant) => {
      const { rule, seconds, seed, seeds } = search(variant, backend, { from: 1, seeds: 3_000, seconds: Infinity })
      assert.isDefined(rule, `${variant.name} got away with ${seeds} seeds in ${seconds.toFixed(1)} s`)
      console.log(`${backend}, ${variant.name}: ${rule} after ${seeds} seeds, at ${seed}`)
    }
  )
})

describe("a violation", () => {
  it("is made small: no fault and no section of what is left can be spared", { timeout: 600_000 }, () => {
    const variant = variants.find(({ name }) => name === "renewal-creates")!
    const { seeds } = search(variant, "redis", { from: 1, seeds: 1_000, seconds: Infinity })
    const settings = { backend: "redis", seed: seeds, variant } as const
    const { faults, sections } = shrink(settings)
    const breaks = (only: ReadonlyArray<string>, some: ReadonlyArray<number>) =>
      run({ ...settings, only: new Set(only), sections: new Set(some) }).violation !== undefined
    assert.isTrue(breaks(faults, sections))
    assert.isAbove(run(settings).injected.length, faults.length)
    for (const one of faults) assert.isFalse(breaks(faults.filter((name) => name !== one), sections))
    for (const one of sections) assert.isFalse(breaks(faults, sections.filter((number) => number !== one)))
  })
})

describe("the flags", () => {
  it.each([
    ["--seed"],
    ["--seed", "x"],
    ["--seeds", "0"],
    ["--backend", "memory"],
    ["--variant", "none"],
    ["--faults", "e0"],
    ["--seed", "1", "--seed", "2"],
    ["--quick"],
    ["7"]
  ])("%s %s are refused", (...args) => {
    assert.isString(parse(args))
  })

  it("say which seeds", () => {
    const flags = parse(["--seeds=40", "--from", "7", "--backend", "etcd"])
    if (typeof flags === "string") return assert.fail(flags)
    assert.deepStrictEqual([flags.seeds, flags.from, flags.backends], [40, 7, ["etcd"]])
  })
})

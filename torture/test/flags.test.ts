import { assert, describe, it } from "@effect/vitest"
import { type Dimension, dimensions } from "../src/dimensions.ts"
import { parse } from "../src/flags.ts"

describe("the flags", () => {
  it("have defaults", () => {
    assert.deepStrictEqual(parse([]), {
      minutes: 2,
      backends: ["redis", "sentinel", "cluster", "etcd", "etcd3"],
      subject: "ours",
      with: Object.keys(dimensions) as Array<Dimension>,
      variants: false,
      faultFree: false,
      sections: 1_000_000,
      seed: 1,
      timeline: undefined
    })
  })

  it("may come in either form, and backends several at once", () => {
    const flags = parse(["--minutes=30", "--backend", "redis,etcd", "--backend=etcd3", "--seed", "7"])
    assert.deepInclude(flags, { minutes: 30, backends: ["redis", "etcd", "etcd3"], seed: 7 })
  })

  it("name dimensions", () => {
    assert.deepInclude(parse(["--subject", "redlock", "--with", "replicas"]), { with: ["replicas"] })
    assert.deepInclude(parse(["--with", "replicas"]), { with: ["replicas"] })
    assert.deepInclude(parse(["--with", "all"]), { with: Object.keys(dimensions) as Array<Dimension> })
    assert.deepInclude(parse(["--with=none"]), { with: [] })
  })

  it("keep variants and peers to one Redis", () => {
    assert.deepInclude(parse(["--variants"]), { variants: true, backends: ["redis"] })
    assert.deepInclude(parse(["--subject", "redlock"]), { subject: "redlock", backends: ["redis"] })
  })

  it.each([
    [["--nope"], "no --nope"],
    [["minutes"], "no minutes"],
    [["--minutes"], "needs a value"],
    [["--minutes", "0"], "above 0"],
    [["--minutes", "soon"], "above 0"],
    [["--backend", "mysql"], "no backend mysql"],
    [["--backend", "toString"], "no backend toString"],
    [["--subject", "theirs"], "no subject theirs"],
    [["--with", "theirs"], "no dimension theirs"],
    [["--sections", "1.5"], "whole number"],
    [["--seed", "-1"], "whole number"],
    [["--variants", "--backend", "etcd"], "redis only"],
    [["--variants", "--fault-free"], "stands alone"],
    [["--timeline", "a.svg"], "one backend"],
    [["--timeline", "a.svg", "--fault-free", "--backend", "redis"], "faults"]
  ])("refuse %j", (args, word) => {
    const wrong = parse(args)
    assert.isString(wrong)
    assert.include(wrong as string, word)
  })
})

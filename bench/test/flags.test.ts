import { expect, test } from "vitest"
import { type Flags, parse } from "../src/flags.ts"

test("without flags it is the whole run, whose report goes into the documents", () => {
  expect(parse([])).toMatchObject({ quick: false, runs: 5, backends: ["redis", "etcd"], out: "docs", whole: true })
})

test("a part of it does not overwrite what the documents show", () => {
  for (
    const args of [["--quick"], ["--only", "etcd"], ["--runs", "1"], ["--workload", "held"], ["--contender", "verrou"]]
  ) {
    expect((parse(args) as Flags).out).toBe(".cache/bench")
  }
  expect(parse(["--quick", "--runs", "2"])).toMatchObject({ runs: 2 })
})

test("what it does not know is said", () => {
  expect(parse(["--only", "mongo"])).toBe("There is no backend \"mongo\".")
  expect(parse(["--workload", "x"])).toBe("There is no workload \"x\".")
  expect(parse(["--contender", "x"])).toBe("There is no contender \"x\".")
  for (const runs of ["0", "1.5", "x"]) expect(parse(["--runs", runs])).toBe("--runs takes a whole number from 1.")
  expect(parse(["--fast"])).toContain("--fast")
})

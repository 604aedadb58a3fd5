import { expect, test } from "vitest"
import { partOf } from "../src/measure/profile.ts"
import { historyTable, type Kept, withRun } from "../src/report/history.ts"

test("a function's time counts for whose code it is", () => {
  const part = (url: string, name = "f") => partOf(name, url)
  expect(part("", "(idle)")).toBe("waiting")
  expect(part("", "(garbage collector)")).toBe("garbage collection")
  expect(part("file:///w/packages/dlock/src/internal/locker.ts")).toBe("our core")
  expect(part("file:///w/packages/dlock-redis/src/internal/client/window/window.ts")).toBe("our store")
  expect(part("file:///w/node_modules/.pnpm/effect@4/node_modules/effect/dist/Effect.js")).toBe("Effect")
  expect(part("file:///w/node_modules/.pnpm/ioredis@6/node_modules/ioredis/built/Redis.js")).toBe("the client")
  expect(part("file:///w/bench/src/worker.ts")).toBe("the benchmark")
  expect(part("node:net")).toBe("Node.js")
  expect(part("", "writev")).toBe("Node.js")
})

const run = (revision: string, processor: string, figure: string): Kept => ({
  date: "2026-11-29",
  revision,
  processor,
  runs: 5,
  figures: { "redis: one task": figure }
})

test("a run stands beside those before it, and in the place of one of the same code and processor", () => {
  const history = [run("a", "AMD", "0.71"), run("b", "Intel", "0.5")]
  const all = withRun(history, run("b", "Intel", "0.6"))
  expect(all.map(({ figures }) => figures["redis: one task"])).toEqual(["0.71", "0.6"])
  expect(withRun(history, run("b", "AMD", "0.7"))).toHaveLength(3)
  expect(historyTable(all)).toContain("| redis: one task |")
})

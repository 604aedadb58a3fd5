import { setTimeout as sleep } from "node:timers/promises"
import { expect, test } from "vitest"
import { recordLag } from "../src/index.ts"

test("sees a blocked event loop, at once and afterwards", async () => {
  const lag = recordLag()
  await sleep(20)
  const end = performance.now() + 120
  while (performance.now() < end);
  expect(lag.max()).toBeGreaterThan(100)
  await sleep(20)
  lag.stop()
  const seen = lag.max()
  expect(seen).toBeGreaterThan(100)
  await sleep(20)
  expect(lag.max()).toBe(seen)
})

import { expect, test } from "vitest"
import { median, percentile, spread } from "../src/measure/stats.ts"

test("a percentile is a value that was measured, and the last one is the longest", () => {
  const sorted = Float64Array.from({ length: 200 }, (_, index) => index + 1)
  expect([0.5, 0.99, 1].map((part) => percentile(sorted, part))).toEqual([100, 198, 200])
  expect(percentile([7], 0.01)).toBe(7)
  expect(percentile([], 0.5)).toBeNaN()
})

test("a median leaves out what is missing", () => {
  expect(median([5, NaN, 1, 3])).toBe(3)
  expect(median([4, 1])).toBe(2.5)
  expect(median([NaN])).toBeNaN()
})

test("the spread is endless where somebody was never served", () => {
  expect(spread([30, 20, 25])).toBe(1.5)
  expect(spread([30, 0])).toBe(Infinity)
})

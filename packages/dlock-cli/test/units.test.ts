import { expect, test } from "vitest"
import { timeOf } from "../src/internal/text/units.ts"

test.each([
  [0.4321, "0.43 ms"],
  [9.5, "9.5 ms"],
  [870.4, "870 ms"],
  [4_250, "4.2 s"],
  [59_990, "59.9 s"],
  [60_000, "1 min"],
  [61_500, "1 min 1 s"],
  [7_500_000, "2 h 5 min"],
  [90_000_000, "1 d 1 h"],
  [Infinity, "for ever"]
])("%d ms are %s", (millis, text) => {
  expect(timeOf(millis)).toBe(text)
})

import * as Duration from "effect/Duration"
import { expect, test } from "vitest"
import * as Handle from "../src/internal/holding/handle.ts"
import { parse } from "../src/internal/options/duration.ts"
import { readStarted, until } from "../src/internal/process/guardian.ts"
import { readTold } from "../src/internal/process/terminal.ts"

test("durations as fingers write them", () => {
  const millis = (text: string) => {
    const duration = parse(text)
    return duration === undefined ? undefined : Duration.toMillis(duration)
  }
  expect(["15m", "1h30m", "500ms", "1.5s", "2d", "30", "0", "5 seconds"].map(millis)).toEqual([
    900_000,
    5_400_000,
    500,
    1_500,
    172_800_000,
    30_000,
    0,
    5_000
  ])
  expect(["", "m", "5x", "5m!", "-3s", "soon"].map(millis)).toEqual(Array.from({ length: 6 }))
})

test("a handle names a key and a token, whatever the key contains, in letters that no shell changes", () => {
  for (const key of ["a", "reports/daily", "{shop}:stock $(rm)", "ключ 🔑", "-n"]) {
    const hold = { key, token: 1796142898812918n, holder: "ci:1" }
    const text = Handle.encode(hold)
    expect(text).toMatch(/^\d[\w-]+$/)
    const handle = Handle.decode(text)!
    expect(handle).toMatchObject({ key, token: 1796142898812918n })
    expect(Handle.isOf(handle, hold)).toBe(true)
    // Another server may give the same token.
    expect(Handle.isOf(handle, { ...hold, holder: "ci:2" })).toBe(false)
  }
  expect(["", "12", "12-", "x-YQ", "12-YQ==", "12-Y", " 12-YQ"].map(Handle.decode)).toEqual(Array.from({ length: 7 }))
})

test("what the shells say, and are told", () => {
  expect(readStarted("12 34")).toEqual({ group: 12, guardian: 34 })
  expect(readStarted("12")).toBeUndefined()
  expect(until(undefined, 5)).toBe("until - 5\n")
  expect(readTold("code 148\n12\n.\n")).toEqual({ code: 148, isStopped: true })
  expect(readTold("code 0\n.\n")).toEqual({ code: 0, isStopped: false })
  expect(readTold("code 0\n")).toBeUndefined()
})

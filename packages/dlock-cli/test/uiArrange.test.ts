import { describe, expect, test } from "vitest"
import { arrange, type Item, sorted, type Wish } from "../src/internal/ui/page/arrange.ts"
import type { Lock } from "../src/internal/ui/page/protocol.ts"
import { clipped, durationOf } from "../src/internal/ui/page/text.ts"

let ids = 0
const lock = (key: string, more: Partial<Lock> = {}): Lock => ({
  id: ++ids,
  key,
  holders: [],
  holderCount: 0,
  permitsHeld: 0,
  waiting: [],
  queueLength: 0,
  ...more
})

const wish: Wish = { query: "", show: "all", order: "key", toggled: new Map() }
const rows = (keys: ReadonlyArray<string>, more: Partial<Wish> = {}) =>
  arrange(sorted(keys.map((key) => lock(key))), { ...wish, ...more }, new Set()).map(textOf)

const textOf = (item: Item): string =>
  "  ".repeat(item.depth) +
  (item.type === "group" ? `${item.isOpen ? "-" : "+"} ${item.path} (${item.locks})` : item.lock.key.slice(item.said))

describe("the tree", () => {
  test("groups by both separators, and what a group has in common is said once", () => {
    expect(rows(["a", "shop:eu/1", "shop:eu/2", "shop:us/1", "zoo"])).toEqual([
      "a",
      "- shop: (3)",
      "  - shop:eu/ (2)",
      "    1",
      "    2",
      "  us/1",
      "zoo"
    ])
  })

  test("parts that all of a group share are one group", () => {
    expect(rows(["a:b:c:1", "a:b:c:2"])).toEqual(["- a:b:c: (2)", "  1", "  2"])
  })

  test("a key that another one begins with stands beside its group", () => {
    expect(rows(["a", "a:", "a:1", "a:2"])).toEqual(["a", "a:", "- a: (2)", "  1", "  2"])
  })

  test("is closed where a group is large, and as it was left by hand", () => {
    const many = Array.from({ length: 100 }, (_, index) => `many:${index}`)
    expect(rows([...many, "few:1", "few:2"])).toEqual(["- few: (2)", "  1", "  2", "+ many: (100)"])
    const toggled = new Map([["few:", false], ["many:", true]])
    expect(rows([...many, "few:1", "few:2"], { toggled }).length).toBe(102)
  })

  test("shows all that fits a filter", () => {
    const many = Array.from({ length: 100 }, (_, index) => `many:${index}`)
    expect(rows(many, { query: "Y:9" })).toHaveLength(12)
  })

  test("ends at some depth, and is done with keys of separators alone", () => {
    expect(rows([":::///", ":::///:", `${"x/".repeat(500)}1`, `${"x/".repeat(499)}y/2`]).length).toBeLessThan(12)
  })
})

test("a filter finds holders and waiters too", () => {
  const wait = { holder: "billing-9", permits: 1, from: 0 }
  const locks = [lock("a"), lock("b", { waiting: [wait], queueLength: 1 })]
  expect(arrange(locks, { ...wish, query: "BILLING" }, new Set()).map(textOf)).toEqual(["b"])
  expect(arrange(locks, { ...wish, show: "contended" }, new Set()).map(textOf)).toEqual(["b"])
  expect(arrange(locks, { ...wish, show: "trouble" }, new Set([locks[0]!.id])).map(textOf)).toEqual(["a"])
})

test("a text is clipped between characters, with its beginning and its end", () => {
  expect(clipped("inventory:warehouse/1234", 12)).toBe("invento…1234")
  expect(clipped("🙂".repeat(20), 7)).toBe(`${"🙂".repeat(4)}…${"🙂".repeat(2)}`)
})

test("durations are read at a glance", () => {
  expect([0, 4_240, 12_900, 185_000, 7_800_000, 273_600_000].map(durationOf)).toEqual([
    "0.0 s",
    "4.2 s",
    "12 s",
    "3 min 5 s",
    "2 h 10 min",
    "3 d 4 h"
  ])
})

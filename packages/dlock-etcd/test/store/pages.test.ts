import { assert, describe, it } from "@effect/vitest"
import type { IKeyValue } from "etcd3"
import { beginningWith } from "../../src/internal/protocol/adminTransactions.ts"
import { Pages } from "../../src/internal/store/admin/pages.ts"

const size = 64

/** Reads all of these keys under a prefix in parts, as a server with them would answer. Returns what it counted each time. */
const readAll = (keys: ReadonlyArray<string>, prefix: string) => {
  const all = keys.map((key) => Buffer.from(key)).toSorted((a, b) => Buffer.compare(a, b))
  const pages = new Pages(beginningWith(Buffer.from(prefix)), size)
  const found: Array<string> = []
  const counts: Array<number> = []
  for (let hasMore = true; hasMore;) {
    const { key, limit, range_end } = pages.read().request_range as unknown as {
      readonly key: Buffer
      readonly range_end: Buffer
      readonly limit: number
    }
    const isLast = range_end.length === 1 && range_end[0] === 0
    const inside = all.filter((one) => Buffer.compare(one, key) >= 0 && (isLast || Buffer.compare(one, range_end) < 0))
    const kvs = inside.slice(0, limit)
    found.push(...kvs.map(String))
    counts.push(inside.length)
    hasMore = pages.take({ kvs: kvs.map((key) => ({ key }) as IKeyValue), count: inside.length })
  }
  return { found, counts }
}

describe("the parts of a large range", () => {
  const numbered = Array.from({ length: 12_000 }, (_, index) => `p:order:${index}/x`)
  const hashed = Array.from({ length: 6_000 }, (_, index) => `p:${(index * 2_654_435_761 % 2 ** 32).toString(16)}/y`)
  const odd = ["p:", "p:\0a", "p:é", "p:🔒", "p:🔒\u{10FFFF}", `p:${"z".repeat(300)}`]
  const beside = ["o", "p", "p9", "p;", "q:1"]

  for (
    const [name, prefix, keys] of [
      ["numbers", "p:", numbered],
      ["numbers, hashes and odd names", "p:", [...numbered, ...hashed, ...odd]],
      ["few", "p:", odd],
      ["none", "p:", []],
      ["all that a server has", "", [...odd, ...beside]]
    ] as const
  ) {
    it(`have each name once: ${name}`, () => {
      const { counts, found } = readAll([...keys, ...(prefix === "" ? [] : beside)], prefix)
      assert.deepStrictEqual(found.length, new Set(found).size)
      assert.sameMembers(found, [...keys])
      // The first part, and where the names of orders begin.
      assert.isAtMost(counts.filter((count) => count > 4_000).length, 3)
      assert.isBelow(counts.length, 10 + keys.length / 8)
    })
  }
})

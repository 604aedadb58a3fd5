import type { HolderInfo, LockInfo, LockKind, WaiterInfo } from "effect-dlock"
import * as Option from "effect/Option"
import { describe, expect, test } from "vitest"
import { waitsFor, youngest } from "../src/internal/waitFor.ts"

let token = 0n

const holderOf = (holder: string): HolderInfo => ({
  holder,
  metadata: {},
  token: ++token,
  permits: 1,
  since: Option.none(),
  expiresIn: Option.none(),
  traceparent: Option.none(),
  foreign: false,
  revoked: false
})

/** Those who wait: each with what it holds. */
const lock = (
  key: string,
  holders: ReadonlyArray<string>,
  waiting: Readonly<Record<string, ReadonlyArray<string>>>,
  kind: LockKind = "mutex"
): LockInfo => ({
  key,
  kind: Option.some(kind),
  capacity: Option.some(kind === "mutex" ? 1 : holders.length),
  holders: holders.map(holderOf),
  holderCount: holders.length,
  permitsHeld: holders.length,
  waiting: Object.entries(waiting).map(([holder, holds]): WaiterInfo => ({
    holder,
    metadata: {},
    traceparent: Option.none(),
    permits: 1,
    holds
  })),
  queueLength: Object.keys(waiting).length,
  lastToken: Option.none()
})

const told = (infos: ReadonlyArray<LockInfo>) =>
  waitsFor(infos).cycles.map((circle) => circle.map(({ holder, key }) => `${holder.holder} has ${key}`))

describe("a circle", () => {
  test("is found, once, where thousands wait behind it, each behind the one before", () => {
    const nameOf = (nth: number) => String(nth).padStart(6, "0")
    const locks = Array.from({ length: 20_000 }, (_, nth) =>
      lock(nameOf(nth), [`h${nth}`], {
        [`h${nth + 1}`]: [nameOf(nth + 1)],
        ...(nth === 1 && { h0: [nameOf(0)] })
      }))
    expect(told(locks)).toEqual([["h0 has 000000", "h1 has 000001"]])
  })

  test("of two, of three, and two that have nothing to do with one another, each once", () => {
    expect(told([lock("a", ["one"], { two: ["b"] }), lock("b", ["two"], { one: ["a"] })])).toEqual([
      ["one has a", "two has b"]
    ])
    const three = [
      lock("a", ["one"], { three: ["c"], four: [] }),
      lock("b", ["two"], { one: ["a"] }),
      lock("c", ["three"], { two: ["b"] })
    ]
    expect(told(three)).toEqual([["one has a", "two has b", "three has c"]])
    const others = [lock("x", ["five"], { six: ["y"] }), lock("y", ["six"], { five: ["x"] })]
    // A list may have one of them twice.
    expect(told([...others, ...three, ...others])).toEqual([
      ["one has a", "two has b", "three has c"],
      ["five has x", "six has y"]
    ])
  })

  test("is none where somebody works, or another has the lock by now", () => {
    expect(told([lock("a", ["one"], { two: ["b"] }), lock("b", ["two"], { three: [] })])).toEqual([])
    // What one said that it holds, nobody else holds by that.
    expect(told([lock("a", ["other"], { two: ["b"] }), lock("b", ["two"], { one: ["a"] })])).toEqual([])
    expect(told([])).toEqual([])
  })

  test("through a semaphore is one only if nobody can give a permit back", () => {
    const b = lock("b", ["two"], { one: ["a"], three: ["a"] })
    expect(told([lock("a", ["one", "working"], { two: ["b"] }, "semaphore"), b])).toEqual([])
    expect(told([lock("a", ["one", "three"], { two: ["b"] }, "semaphore"), b])).toEqual([["one has a", "two has b"]])
    // There are more than are told.
    const many = { ...lock("a", ["one", "three"], { two: ["b"] }, "semaphore"), holderCount: 3 }
    expect(told([many, b])).toEqual([])
  })

  test("through readers is one if a single reader stays", () => {
    const b = lock("b", ["two"], { one: ["a"] })
    expect(told([lock("a", ["one", "working"], { two: ["b"] }, "readWrite"), b])).toEqual([
      ["one has a", "two has b"]
    ])
  })

  test("of one caller, which waits for itself", () => {
    expect(told([lock("a", ["one"], { one: ["a"] })])).toEqual([["one has a"]])
  })
})

test("the hold that was granted last is the one to revoke", () => {
  const [circle] = waitsFor([lock("b", ["two"], { one: ["a"] }), lock("a", ["one"], { two: ["b"] })]).cycles
  expect(youngest(circle!).key).toBe("a")
})

test("each waiter has an edge to each hold in its way, which says if it never ends", () => {
  const { edges } = waitsFor([
    lock("a", ["one"], { two: ["b"], behind: [] }),
    lock("b", ["two"], { one: ["a"] }),
    lock("c", ["working"], { idle: [] })
  ])
  expect(edges.map((edge) => [edge.waiter.holder, edge.key, edge.holder.holder, edge.isDeadlocked])).toEqual([
    ["two", "a", "one", true],
    ["behind", "a", "one", true],
    ["one", "b", "two", true],
    ["idle", "c", "working", false]
  ])
})

test("ten thousand that wait in a row are no circle, in whatever order they are told", () => {
  const row = Array.from(
    { length: 10_000 },
    (_, nth) => lock(`${nth}`, [`h${nth}`], { [`h${nth + 1}`]: [`${nth + 1}`] })
  )
  expect(waitsFor(row).cycles).toEqual([])
  expect(waitsFor(row.toReversed()).cycles).toEqual([])
})

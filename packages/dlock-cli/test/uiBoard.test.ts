import { Duration, Option } from "effect"
import type { HolderInfo, LockInfo, WaiterInfo } from "effect-dlock/LockInfo"
import { describe, expect, test } from "vitest"
import { Board } from "../src/internal/ui/board.ts"
import type { Update } from "../src/internal/ui/page/protocol.ts"

const holder = (token: number, expiresIn: number, more: Partial<HolderInfo> = {}): HolderInfo => ({
  holder: `holder-${token}`,
  metadata: {},
  token: BigInt(token),
  permits: 1,
  since: Option.none(),
  expiresIn: Option.some(Duration.millis(expiresIn)),
  foreign: false,
  revoked: false,
  traceparent: Option.none(),
  ...more
})

const waiter = (name: string, holds: ReadonlyArray<string> = []): WaiterInfo => ({
  holder: name,
  metadata: {},
  permits: 1,
  holds,
  traceparent: Option.none()
})

const lock = (
  key: string,
  holders: ReadonlyArray<HolderInfo>,
  waiting: ReadonlyArray<WaiterInfo> = [],
  more: Partial<LockInfo> = {}
): LockInfo => ({
  key,
  kind: Option.some("mutex"),
  capacity: Option.some(1),
  holders,
  holderCount: holders.length,
  permitsHeld: holders.length,
  waiting,
  queueLength: waiting.length,
  lastToken: Option.none(),
  ...more
})

/** A board, and a page that is told of it. */
const start = () => {
  const board = new Board()
  let now = 1_000_000
  let version = 0
  board.restart(now)
  return {
    board,
    /** A reading of these locks, so many milliseconds after the last one. */
    read: (after: number, ...infos: ReadonlyArray<LockInfo>) => {
      now += after
      board.begin()
      for (const info of infos) board.see(info, now)
      board.end(now, { tookMs: 5, everyMs: 1_000 })
    },
    fail: (after: number) => board.fail(now += after, "connect ECONNREFUSED"),
    told: (): Update => {
      const next = board.since(version, now)
      version = next!.version
      return JSON.parse(next!.json)
    }
  }
}

const kinds = ({ happenings }: Update) => happenings.map(({ kind }) => kind)

describe("what has become of a hold", () => {
  test("it was lost if it was not renewed when it was due and has expired", () => {
    const { read, told } = start()
    read(0, lock("a", [holder(1, 10_000)]))
    read(4_000, lock("a", [holder(1, 6_000)]))
    expect(kinds(told())).toEqual([])
    read(2_000, lock("a", [holder(1, 4_000)]))
    expect(kinds(told())).toEqual(["overdue"])
    read(3_900)
    const { gone, happenings, losses, spans } = told()
    expect(happenings).toMatchObject([{ kind: "lost", key: "a", holder: "holder-1" }])
    expect([gone.length, losses]).toEqual([1, 1])
    expect(spans).toMatchObject([{ what: "held", end: "lost", from: 1_000_000, to: 1_009_900 }])
  })

  test("it was released if it was renewed all the time, however long nobody looked", () => {
    const { read, told } = start()
    for (let turn = 0; turn < 5; turn++) read(3_000, lock("a", [holder(1, 10_000)]))
    read(9_000)
    expect(told()).toMatchObject({ losses: 0, happenings: [], spans: [{ end: "released" }] })
  })

  test("it was released if it was late with a renewal and left before it expired", () => {
    const { read, told } = start()
    read(0, lock("a", [holder(1, 10_000)]))
    read(6_000, lock("a", [holder(1, 4_000)]))
    read(2_000)
    expect(told()).toMatchObject({ losses: 0, spans: [{ end: "released" }] })
  })

  test("it was revoked if it was asked to leave, be it by a page and between two readings", () => {
    const { board, read, told } = start()
    read(0, lock("a", [holder(1, 10_000)]), lock("b", [holder(2, 10_000)]))
    const ids = new Map(told().locks.map(({ id, key }) => [key, id]))
    read(1_000, lock("a", [holder(1, 10_000, { revoked: true })]), lock("b", [holder(2, 10_000)]))
    expect(kinds(told())).toEqual(["revoking"])
    board.ask(ids.get("b")!, "2")
    read(1_000)
    expect(told().happenings).toMatchObject([{ kind: "revoked", key: "a" }, { kind: "revoked", key: "b" }])
  })

  test("nobody knows if nobody could look meanwhile", () => {
    const { fail, read, told } = start()
    read(0, lock("a", [holder(1, 10_000)]))
    read(6_000, lock("a", [holder(1, 4_000)]))
    fail(1_000)
    read(10_000)
    const update = told()
    expect(kinds(update)).toEqual(["overdue", "away", "back"])
    expect(update).toMatchObject({ losses: 0, spans: [{ end: "unseen" }], status: { backend: "up" } })
  })

  test("nobody knows of those that the list has no room for", () => {
    const { read, told } = start()
    const many = { holderCount: 500, kind: Option.some("semaphore" as const) }
    read(0, lock("a", [holder(1, 10_000), holder(2, 10_000)], [], many))
    read(1_000, lock("a", [holder(3, 10_000), holder(4, 10_000)], [], many))
    expect(told()).toMatchObject({ spans: [], happenings: [] })
  })
})

test("a hand-over is told with both names, and of hundreds at once only some", () => {
  const { read, told } = start()
  read(0, lock("a", [holder(1, 10_000)], [waiter("holder-2")]))
  read(1_000, lock("a", [holder(2, 10_000)]))
  const one = told()
  expect(one.happenings).toMatchObject([{ kind: "handedOver", text: "holder-1 to holder-2" }])
  expect(one.spans.map(({ end, holder, what }) => [holder, what, end])).toEqual([
    ["holder-1", "held", "released"],
    ["holder-2", "waited", "granted"]
  ])
  const keys = Array.from({ length: 300 }, (_, index) => `key-${index}`)
  read(1_000, ...keys.map((key) => lock(key, [holder(1, 10_000)], [waiter("holder-2")])))
  read(1_000, ...keys.map((key) => lock(key, [holder(2, 10_000)])))
  const many = told()
  expect(many.handOvers).toBe(301)
  expect(many.happenings.length).toBeLessThan(20)
})

test("a circle is told once, and drawn for as long as it is there", () => {
  const { read, told } = start()
  const circle = [
    lock("a", [holder(1, 10_000)], [waiter("holder-2", ["b"])]),
    lock("b", [holder(2, 10_000)], [waiter("holder-1", ["a"])])
  ]
  read(0, ...circle)
  const first = told()
  expect(kinds(first)).toEqual(["deadlock"])
  expect(first.waits!.cycles[0]!.map(({ isYoungest, key }) => [key, isYoungest])).toEqual([["a", false], ["b", true]])
  read(1_000, ...circle, lock("c", [holder(3, 10_000)], [waiter("d")]))
  expect(kinds(told())).toEqual([])
  read(1_000, lock("b", [holder(2, 10_000)]))
  expect(told().waits).toMatchObject({ cycles: [], edgeCount: 0 })
})

describe("what a page is told", () => {
  test("since when somebody looks", () => {
    const { read, told } = start()
    read(5_000)
    expect(told()).toMatchObject({ at: 1_005_000, watchedSince: 1_000_000 })
  })

  test("everything at first, then only what has changed", () => {
    const { read, told } = start()
    const locks = [lock("a", [holder(1, 10_000)]), lock("b", [holder(2, 10_000)])]
    read(0, ...locks)
    expect(told()).toMatchObject({ isWhole: true, locks: [{ key: "a" }, { key: "b" }] })
    read(1_000, locks[0]!, lock("b", [holder(2, 10_000)], [waiter("somebody")]))
    const { isWhole, locks: changed } = told()
    expect([isWhole, changed.map(({ key }) => key)]).toEqual([false, ["a", "b"]])
    // What was read a moment later is the same.
    read(100, lock("a", [holder(1, 9_950)]), lock("b", [holder(2, 9_900)], [waiter("somebody")]))
    expect(() => told()).toThrow()
  })

  test("thousands of locks in parts, each lock once, and nothing is left out", () => {
    const { read, told } = start()
    read(0, ...Array.from({ length: 3_500 }, (_, index) => lock(`key-${index}`, [holder(index + 1, 10_000)])))
    const seen = new Set<string>()
    let parts = 0
    for (let hasMore = true; hasMore; parts++) {
      const update = told()
      expect(update.locks.some(({ key }) => seen.has(key))).toBe(false)
      for (const { key } of update.locks) seen.add(key)
      hasMore = update.hasMore
    }
    expect([seen.size, parts]).toEqual([3_500, 4])
  })

  test("a page that was away for too long begins anew, and is told all that is left", () => {
    const { board, read, told } = start()
    const locks = Array.from({ length: 2_500 }, (_, index) => lock(`kept-${index}`, [holder(index + 1, 10_000_000)]))
    read(0, ...locks)
    while (told().hasMore);
    for (let turn = 0; turn < 50; turn++) {
      read(0, ...locks, ...Array.from({ length: 1_000 }, (_, index) => lock(`${turn}-${index}`, [holder(1, 10_000)])))
    }
    read(0, ...locks)
    const seen = new Set<string>()
    for (let update = told();; update = told()) {
      if (seen.size === 0) expect(update.isWhole).toBe(true)
      for (const { key } of update.locks) seen.add(key)
      if (!update.hasMore) break
    }
    expect(seen.size).toBe(2_500)
    expect(board.since(0, 0)).toBeDefined()
  })

  test("keys and holders that no page could tell from its own text are escaped", () => {
    const { read, told } = start()
    read(0, lock("a\u001b[31m\u202eb", [holder(1, 10_000, { holder: "\u0000\n" })]))
    expect(told().locks).toMatchObject([{
      key: "a\\u001b[31m\\u202eb",
      holders: [{ holder: "\\u0000\\n" }]
    }])
  })
})

test("a lock that is free for a while keeps its id, and no other lock gets it", () => {
  const { read, told } = start()
  read(0, lock("a", [holder(1, 10_000)]))
  const { id } = told().locks[0]!
  read(1_000)
  read(1_000, lock("b", [holder(2, 10_000)]))
  read(1_000, lock("a", [holder(3, 10_000)]), lock("b", [holder(2, 10_000)]))
  const { locks } = told()
  expect(locks.find(({ key }) => key === "a")!.id).toBe(id)
  expect(locks.find(({ key }) => key === "b")!.id).not.toBe(id)
})

import { assert, describe, it } from "@effect/vitest"
import type { Recorded } from "../src/events.ts"
import { LeaseHistories } from "../src/leaseHistories.ts"
import { findImpossible, findOverfull, type Hold, type Operation } from "../src/linearizability.ts"
import { downgraded, type LockShape, writer } from "../src/lockShape.ts"
import { Random } from "../src/random.ts"

const moves = (kind: Operation["kind"]) => (holder: string, from: number, to = from): Operation => ({
  kind,
  holder,
  from,
  to
})
const [acquire, holds, end] = [moves("acquire"), moves("holds"), moves("end")]

/** A lock whose operations take effect at once, seen from outside: each began before and was heard of after. */
const run = (sections: number, seed: number): ReadonlyArray<Operation> => {
  const random = new Random(seed)
  const seen: Array<Operation> = []
  let at = 0
  for (let n = 0; n < sections; n++) {
    const blurred = (kind: Operation["kind"], before: number, after: number) => {
      at += random.between(0.1, 5)
      seen.push({ kind, holder: `${n}`, from: at - random.between(0, before), to: at + random.between(0, after) })
    }
    blurred("acquire", 500, 2)
    const acquired = seen.at(-1)!
    at = acquired.to
    for (let step = 0; step < 4; step++) blurred("holds", 0.1, 0.1)
    at += 0.1
    blurred("end", 0.1, 20)
  }
  return seen
}

describe("the linearizability of what holders were told", () => {
  it("is there in sections one after the other, in whatever order they asked", () => {
    assert.isUndefined(findImpossible([
      acquire("a", 0, 5),
      acquire("b", 1, 30),
      holds("a", 10),
      end("a", 20, 25),
      holds("b", 40),
      end("b", 50)
    ]))
  })

  it("leaves each operation the time that it took", () => {
    const overlapping = (endOfA: Operation) => [acquire("a", 0, 5), acquire("b", 1, 30), endOfA, end("b", 50)]
    assert.isUndefined(
      findImpossible(overlapping(end("a", 20, 60))),
      "it ended before b was let in, and heard of it later"
    )
    assert.deepStrictEqual(findImpossible(overlapping(end("a", 31, 60))), acquire("b", 1, 30))
  })

  it("finds a holder who found that it holds what another has", () => {
    const history = (at: number) => [acquire("a", 0, 5), holds("a", at), acquire("b", 1, 30), end("a", at, 60)]
    assert.isUndefined(findImpossible([...history(29), holds("b", 31), end("b", 50)]))
    assert.isDefined(findImpossible([...history(35), holds("b", 31), end("b", 50)]))
  })

  it("finds one end that two acquires went by", () => {
    assert.isDefined(findImpossible([acquire("a", 0, 2), acquire("b", 3, 4), acquire("c", 3, 5), end("a", 1, 9)]))
  })

  it("takes a time that grows with the history, however many wait", () => {
    const [short, long] = [run(300, 1), run(3_000, 2)]
    const took = (history: ReadonlyArray<Operation>) => {
      const from = performance.now()
      assert.isUndefined(findImpossible(history))
      return performance.now() - from
    }
    took(short)
    assert.isBelow(took(long), 40 * Math.max(5, took(short)))
  })

  it("finds one moment too many in a long history", () => {
    const history = run(500, 3)
    const [wrong] = history.filter(({ kind }) => kind === "holds").slice(777)
    const late = { ...wrong!, from: wrong!.from + 100, to: wrong!.to + 100 }
    assert.isDefined(findImpossible(history.map((one) => one === wrong ? late : one)))
  })
})

describe("the histories of leases", () => {
  const acquired = (id: string, asked: number, at: number): Recorded => ({
    t: "acquired",
    id,
    key: "k",
    ttl: 600,
    age: 0,
    ask: id,
    asked,
    at,
    token: undefined,
    who: id,
    arrived: at
  })
  const held = (id: string, at: number): Recorded => ({
    t: "step",
    id,
    held: [at, at],
    accepted: true,
    who: id,
    arrived: at
  })
  const ended = (id: string, at: number): Recorded => ({
    t: "ended",
    id,
    ask: id,
    key: "k",
    outcome: "done",
    waited: 0,
    at,
    who: id,
    arrived: at
  })
  const checked = (...history: ReadonlyArray<Recorded>) => {
    const histories = new LeaseHistories()
    for (const event of history) histories.add(event)
    return histories.check()
  }
  const early = [acquired("a", 0, 5), held("a", 10), acquired("b", 1, 30)]
  const late = [held("a", 35), held("b", 40), ended("a", 60), ended("b", 70)]

  it("is read from a history", () => {
    assert.deepStrictEqual(checked(...early, held("b", 40), ended("a", 60), ended("b", 70)), { leases: 2, wrong: [] })
    assert.strictEqual(checked(...early, ...late).wrong.length, 1)
  })

  it("is not held against a lock that was lost, or whose backend forgot it", () => {
    const lost: Recorded = { t: "lost", id: "a", at: 20, reason: "Expired", ago: 20, who: "a", arrived: 20 }
    assert.deepStrictEqual(checked(...early.slice(0, 2), lost, ...early.slice(2), ...late.slice(1)).wrong, [])
    const fault = (keys: ReadonlyArray<string>): ReadonlyArray<Recorded> => [
      { t: "fault", n: 1, kind: "", from: 20, workers: "all", forgets: keys, hit: true, who: "", arrived: 20 },
      { t: "healed", n: 1, to: 21, who: "", arrived: 21 }
    ]
    assert.deepStrictEqual(checked(...early, ...fault(["k"]), ...late), { leases: 0, wrong: [] })
    assert.strictEqual(checked(...early, ...fault(["other"]), ...late).wrong.length, 1)
  })
})

describe("holds of permits", () => {
  const hold = (holder: string, from: number, to: number, permits: number, capacity = 3): Hold => ({
    holder,
    from,
    to,
    permits,
    capacity
  })

  it("may be as many at once as there are", () => {
    assert.isUndefined(findOverfull([hold("a", 0, 10, 2), hold("b", 5, 20, 1), hold("c", 10, 20, 2)]))
    assert.strictEqual(findOverfull([hold("a", 0, 10, 2), hold("b", 5, 20, 1), hold("c", 9, 20, 1)])?.holder, "c")
  })

  it("may be as many as the smallest capacity", () => {
    assert.isUndefined(findOverfull([hold("a", 0, 10, 1, 4), hold("b", 5, 20, 1, 2)]))
    assert.isDefined(findOverfull([hold("a", 0, 10, 2, 4), hold("b", 5, 20, 1, 2)]))
  })

  it("are read from a history, with a downgrade", () => {
    const read = (downgradedAt: number | undefined) => {
      const histories = new LeaseHistories()
      const told = (t: "step" | "downgrade", id: string, at: number): Recorded => ({
        t,
        id,
        held: [at, at],
        accepted: true,
        who: id,
        arrived: at
      })
      const acquired = (id: string, at: number, lock: LockShape): Recorded => ({
        t: "acquired",
        id,
        key: "readers",
        ttl: 600,
        age: 0,
        ask: id,
        asked: at - 1,
        at,
        token: `${at}`,
        lock,
        who: id,
        arrived: at
      })
      histories.add(acquired("a", 10, writer))
      if (downgradedAt !== undefined) histories.add(told("downgrade", "a", downgradedAt))
      histories.add(acquired("b", 30, downgraded(writer)))
      histories.add(told("step", "a", 50))
      histories.add(told("step", "b", 60))
      return histories.check().wrong.length
    }
    assert.strictEqual(read(20), 0)
    assert.strictEqual(read(40), 1)
    assert.strictEqual(read(undefined), 1)
  })
})

import { assert, describe, it } from "@effect/vitest"
import type { StandingClaim } from "../../src/internal/protocol/sharedSnapshot.ts"
import { RoomView } from "../../src/internal/store/queue/roomView.ts"

const claim = (created: number, permits = 1, capacity = 4, version = 1): StandingClaim => ({
  key: `k/${created}`,
  created: BigInt(created),
  kind: "semaphore",
  permits,
  capacity,
  version
})

/** A view of all claims up to a revision. */
const viewOf = (upTo: number, ...found: ReadonlyArray<StandingClaim>): RoomView => {
  const view = new RoomView()
  view.take({ revision: BigInt(upTo), from: 0n, upTo: BigInt(upTo), found, isWhole: true })
  return view
}

const inside = (view: RoomView): ReadonlyArray<number> => Array.from(view.inside(), ({ created }) => Number(created))

describe("the claims inside", () => {
  it("are those whose permits are there, in the order of the queue", () => {
    assert.deepStrictEqual(inside(viewOf(9, claim(2, 2), claim(3, 1), claim(4, 2), claim(5, 1))), [2, 3])
  })

  it("obey the smallest capacity among them", () => {
    assert.deepStrictEqual(inside(viewOf(9, claim(2, 1, 8), claim(3, 1, 2), claim(4, 1, 8))), [2, 3])
    assert.deepStrictEqual(inside(viewOf(9, claim(2, 2, 8), claim(3, 1, 2), claim(4, 1, 8))), [2])
  })

  it("are none of those before which a claim may be that is not known", () => {
    const view = viewOf(4, claim(2))
    view.add(claim(5), 5n)
    assert.deepStrictEqual(inside(view), [2, 5])
    view.add(claim(7), 7n)
    assert.deepStrictEqual(inside(view), [2, 5])
    view.take({ revision: 8n, from: 5n, upTo: 7n, found: [claim(5), claim(6, 4), claim(7)], isWhole: true })
    assert.deepStrictEqual(inside(view), [2, 5])
    view.remove(view.get("k/6")!)
    assert.deepStrictEqual(inside(view), [2, 5, 7])
  })

  it("become more when a claim gives back permits", () => {
    const view = viewOf(9, claim(2, 4, 4, 2), claim(3, 2))
    assert.deepStrictEqual(inside(view), [2])
    assert.deepStrictEqual(view.stale(), ["k/2"])
    view.takePermits(view.stale(), [{ key: "k/2", created: 2n, version: 2, permits: 2 }])
    assert.deepStrictEqual(inside(view), [2, 3])
    assert.deepStrictEqual(view.stale(), [])
    view.add(claim(2, 4, 4, 3), 10n)
    assert.deepStrictEqual(view.stale(), ["k/2"])
    // An older answer gives nothing back to it.
    view.takePermits(view.stale(), [{ key: "k/2", created: 2n, version: 1, permits: 4 }])
    assert.deepStrictEqual(inside(view), [2, 3])
  })
})

describe("a list", () => {
  it("tells which of the known claims are gone, and of no others", () => {
    const view = viewOf(9, claim(2), claim(3), claim(4))
    const gone = view.take({ revision: 12n, from: 3n, upTo: 3n, found: [], isWhole: true })
    assert.deepStrictEqual(gone?.map(({ key }) => key), ["k/3"])
    assert.strictEqual(view.size, 2)
    assert.strictEqual(view.to, 9n)
  })

  it("does not connect where unknown claims may be in between", () => {
    const view = viewOf(9, claim(2))
    assert.isUndefined(view.take({ revision: 20n, from: 11n, upTo: 20n, found: [claim(12)], isWhole: true }))
    assert.strictEqual(view.to, 9n)
    assert.strictEqual(view.size, 1)
  })

  it("adds no claim whose deletion is known", () => {
    const view = viewOf(9, claim(2))
    view.take(
      { revision: 12n, from: 10n, upTo: 12n, found: [claim(11), claim(12)], isWhole: true },
      ({ created }) => created === 11n
    )
    assert.isUndefined(view.get("k/11"))
    assert.isDefined(view.get("k/12"))
  })

  it("replaces a claim by a later one with the same name", () => {
    const view = viewOf(9, claim(2))
    view.take({ revision: 12n, from: 10n, upTo: 12n, found: [{ ...claim(11), key: "k/2" }], isWhole: true })
    assert.strictEqual(view.get("k/2")?.created, 11n)
    assert.strictEqual(view.size, 1)
  })
})

describe("one claim more", () => {
  it("fits behind all others, waiting ones too, by the smallest capacity", () => {
    const view = viewOf(9, claim(2, 2), claim(3, 1))
    assert.isTrue(view.fits({ kind: "semaphore", permits: 1, capacity: 4 }))
    assert.isFalse(view.fits({ kind: "semaphore", permits: 2, capacity: 4 }))
    assert.isFalse(view.fits({ kind: "semaphore", permits: 1, capacity: 3 }))
    assert.isFalse(viewOf(9, claim(2, 1, 1)).fits({ kind: "semaphore", permits: 1, capacity: 8 }))
  })

  it("learns the smallest capacity of those inside before it", () => {
    const view = viewOf(9, claim(2, 1, 8), claim(3, 1, 4), claim(4, 4, 8))
    assert.strictEqual(view.leastInside(view.get("k/4")), 4)
    assert.strictEqual(view.leastInside(view.get("k/3")), 8)
    assert.isUndefined(view.leastInside(view.get("k/2")))
    assert.strictEqual(view.waitingBefore(view.get("k/4")!), 0)
    assert.strictEqual(view.waiting, 1)
  })
})

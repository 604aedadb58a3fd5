import { assert, describe, it } from "@effect/vitest"
import { Slots } from "../src/internal/store/placeNames.ts"
import { Crowd } from "../src/internal/store/queue/waitingPlaces.ts"
import { Entry } from "../src/internal/store/trackedClaim.ts"
import { claimOf } from "./claim.ts"

const slots = new Slots()

/** The entry that was asked for as the `number`th and is put by a revision. */
const asked = (number: number, created: number, change: Partial<Entry> = {}): Entry => {
  const entry = new Entry({ ...claimOf(4_000, 1_000), id: `id ${number}` }, slots)
  entry.seat.standAs({ own: BigInt(created), base: 0n } as never)
  return Object.assign(entry, { number, state: "queued" }, change)
}

const crowdOf = (...entries: ReadonlyArray<Entry>): Crowd => {
  const crowd = new Crowd()
  for (const { seat } of entries) crowd.join(seat)
  return crowd
}

const numbers = (crowd: Crowd) => Array.from(crowd, ({ entry }) => entry.number)
const revisions = (crowd: Crowd) => Array.from(crowd, ({ created }) => Number(created))

/** All orders of some. */
const orders = <A>(some: ReadonlyArray<A>): ReadonlyArray<ReadonlyArray<A>> =>
  some.length < 2
    ? [some]
    : some.flatMap((one) => orders(some.filter((other) => other !== one)).map((rest) => [one, ...rest]))

describe("those of a process that wait for one lock", () => {
  it("come in as they asked, whatever order the server took them in and answered in", () => {
    for (const taken of orders([1, 2, 3, 4])) {
      for (const answered of orders([0, 1, 2, 3])) {
        const entries = answered.map((index) => asked(taken[index]!, 10 + index))
        const crowd = crowdOf(...entries)
        assert.deepStrictEqual(numbers(crowd), [1, 2, 3, 4])
        assert.deepStrictEqual(revisions(crowd), [10, 11, 12, 13])
        assert.isTrue(entries.every((entry) => entry.seat.entry === entry))
      }
    }
  })

  for (
    const [what, change] of [
      ["asks for it just now", { underWay: 1 }],
      ["has been asked for again", { isRepeated: true }],
      ["is being let in", { isBeingGranted: true }],
      ["tries", { number: undefined }]
    ] as const
  ) {
    it(`leave the seat of one that ${what}`, () => {
      const entry = asked(2, 10, change)
      const { seat } = entry
      assert.deepStrictEqual(revisions(crowdOf(entry, asked(1, 11))), [10, 11])
      assert.strictEqual(entry.seat, seat)
    })
  }

  it("exchange one for which a request may yet be executed, and whoever has it then leaves a mark", () => {
    const [first, second] = [asked(2, 10), asked(1, 11)]
    const { seat } = first
    seat.unanswered++
    assert.deepStrictEqual(numbers(crowdOf(first, second)), [1, 2])
    assert.strictEqual(second.seat, seat)
    assert.deepStrictEqual([first.seat.unanswered, second.seat.unanswered], [0, 1])
  })

  it("leave the seat of one that asks for another time", () => {
    const entry = Object.assign(new Entry({ ...claimOf(9_000, 1_000), id: "id" }, slots), {
      number: 2,
      state: "queued"
    })
    entry.seat.standAs({ own: 10n, base: 0n } as never)
    assert.deepStrictEqual(numbers(crowdOf(entry, asked(1, 11))), [2, 1])
  })

  it("are known by their seats from first to last, whoever leaves", () => {
    const entries = [asked(1, 10), asked(2, 11), asked(3, 12)]
    for (const leaves of orders([0, 1, 2])) {
      const crowd = crowdOf(...entries)
      let left = [10, 11, 12]
      for (const index of leaves) {
        const { seat } = entries[index]!
        assert.isTrue(crowd.leave(seat))
        assert.isFalse(crowd.leave(seat))
        left = left.filter((created) => created !== Number(seat.created))
        assert.deepStrictEqual(revisions(crowd), left)
        assert.strictEqual(crowd.first?.created, left[0] === undefined ? undefined : BigInt(left[0]))
        assert.strictEqual(crowd.last?.created, left.length === 0 ? undefined : BigInt(left[left.length - 1]!))
      }
      assert.strictEqual(crowd.size, 0)
    }
  })
})

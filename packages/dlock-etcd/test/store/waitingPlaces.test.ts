import { assert, describe, it } from "@effect/vitest"
import { PlaceNames } from "../../src/internal/store/placeNames.ts"
import { WaitingPlaces } from "../../src/internal/store/queue/waitingPlaces.ts"
import { TrackedClaim } from "../../src/internal/store/trackedClaim.ts"
import { claimOf } from "../claim.ts"

const placeNames = new PlaceNames()

/** A claim that was requested as number `number` and created at a revision. */
const asked = (number: number, created: number, change: Partial<TrackedClaim> = {}): TrackedClaim => {
  const tracked = new TrackedClaim({ ...claimOf(4_000, 1_000), id: `id ${number}` }, placeNames)
  tracked.place.noteCreated({ own: BigInt(created), base: 0n } as never)
  return Object.assign(tracked, { number, state: "queued" }, change)
}

const waitingOf = (...claims: ReadonlyArray<TrackedClaim>): WaitingPlaces => {
  const waiting = new WaitingPlaces()
  for (const { place } of claims) waiting.add(place)
  return waiting
}

const numbers = (waiting: WaitingPlaces) => Array.from(waiting, ({ tracked }) => tracked.number)
const revisions = (waiting: WaitingPlaces) => Array.from(waiting, ({ created }) => Number(created))

/** All orders of a list. */
const orders = <A>(some: ReadonlyArray<A>): ReadonlyArray<ReadonlyArray<A>> =>
  some.length < 2
    ? [some]
    : some.flatMap((one) => orders(some.filter((other) => other !== one)).map((rest) => [one, ...rest]))

describe("those of a process that wait for one lock", () => {
  it("come in as they asked, whatever order the server took them in and answered in", () => {
    for (const taken of orders([1, 2, 3, 4])) {
      for (const answered of orders([0, 1, 2, 3])) {
        const claims = answered.map((index) => asked(taken[index]!, 10 + index))
        const waiting = waitingOf(...claims)
        assert.deepStrictEqual(numbers(waiting), [1, 2, 3, 4])
        assert.deepStrictEqual(revisions(waiting), [10, 11, 12, 13])
        assert.isTrue(claims.every((tracked) => tracked.place.tracked === tracked))
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
    it(`leave the place of one that ${what}`, () => {
      const tracked = asked(2, 10, change)
      const { place } = tracked
      assert.deepStrictEqual(revisions(waitingOf(tracked, asked(1, 11))), [10, 11])
      assert.strictEqual(tracked.place, place)
    })
  }

  it("exchange one for which a request may yet be executed, and whoever has it then leaves a tombstone", () => {
    const [first, second] = [asked(2, 10), asked(1, 11)]
    const { place } = first
    place.unanswered++
    assert.deepStrictEqual(numbers(waitingOf(first, second)), [1, 2])
    assert.strictEqual(second.place, place)
    assert.deepStrictEqual([first.place.unanswered, second.place.unanswered], [0, 1])
  })

  it("leave the place of one that asks for another time", () => {
    const tracked = Object.assign(new TrackedClaim({ ...claimOf(9_000, 1_000), id: "id" }, placeNames), {
      number: 2,
      state: "queued"
    })
    tracked.place.noteCreated({ own: 10n, base: 0n } as never)
    assert.deepStrictEqual(numbers(waitingOf(tracked, asked(1, 11))), [2, 1])
  })

  it("are known by their places from first to last, whoever leaves", () => {
    const claims = [asked(1, 10), asked(2, 11), asked(3, 12)]
    for (const leaves of orders([0, 1, 2])) {
      const waiting = waitingOf(...claims)
      let left = [10, 11, 12]
      for (const index of leaves) {
        const { place } = claims[index]!
        assert.isTrue(waiting.remove(place))
        assert.isFalse(waiting.remove(place))
        left = left.filter((created) => created !== Number(place.created))
        assert.deepStrictEqual(revisions(waiting), left)
        assert.strictEqual(waiting.first?.created, left[0] === undefined ? undefined : BigInt(left[0]))
        assert.strictEqual(waiting.last?.created, left.length === 0 ? undefined : BigInt(left[left.length - 1]!))
      }
      assert.strictEqual(waiting.size, 0)
    }
  })
})

import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"
import type { Event } from "../src/demo/journal.ts"
import { closestHandOver, sectionsOf } from "../src/demo/sections.ts"
import { timeline } from "../src/demo/timeline.ts"

const page = { columns: 80, colours: false }

/** The cells of a worker's row: what stands above the axis. */
const row = (picture: string, worker: string): string => {
  const rows = picture.split("\n")
  const margin = rows.find((row) => row.includes("┴"))!.indexOf("┴")
  return rows.find((row) => row.trimStart().startsWith(worker))!.slice(margin)
}

const stay = (worker: string, from: number, to: number, token?: bigint): ReadonlyArray<Event> => [
  { _tag: "Entered", worker, at: from, ...(token !== undefined && { token }) },
  { _tag: "Left", worker, at: to }
]

const loss: ReadonlyArray<Event> = [
  { _tag: "Asked", worker: "Ben", at: 5_000 },
  { _tag: "Entered", worker: "Ben", at: 5_000, token: 10n },
  { _tag: "Paying", worker: "Ben", at: 5_000, left: 3 },
  { _tag: "Asked", worker: "Ada", at: 5_010 },
  { _tag: "Entered", worker: "Ada", at: 6_100, token: 11n },
  { _tag: "Paying", worker: "Ada", at: 6_100, left: 3 },
  { _tag: "Lost", worker: "Ben", at: 6_150, endedAt: 6_000, reason: "Stalled" },
  { _tag: "Sold", worker: "Ada", at: 6_190 },
  { _tag: "Left", worker: "Ada", at: 6_200 },
  { _tag: "Refused", worker: "Ben", at: 6_400, wanted: 2, token: 10n, newest: 11n },
  { _tag: "Left", worker: "Ben", at: 6_500 },
  { _tag: "Asked", worker: "Ben", at: 6_500 },
  { _tag: "Entered", worker: "Ben", at: 6_600, token: 12n },
  { _tag: "SoldOut", worker: "Ben", at: 6_600 },
  { _tag: "Left", worker: "Ben", at: 6_601 }
]

describe("sections", () => {
  it("end with the lease, not with the worker who acts on", () => {
    const [ben, ada, again] = sectionsOf(loss)
    assert.deepInclude(ben, { worker: "Ben", enteredAt: 0, endedAt: 1_000, leftAt: 1_500, outcome: "refused" })
    assert.deepInclude(ada, { worker: "Ada", askedAt: 10, enteredAt: 1_100, endedAt: 1_200, outcome: "sold" })
    assert.deepInclude(again, { worker: "Ben", enteredAt: 1_600, outcome: "sold out", lost: undefined })
  })

  it("tell how close two workers came", () => {
    assert.strictEqual(closestHandOver(sectionsOf(loss)), 100)
    assert.strictEqual(closestHandOver(sectionsOf([...stay("Ada", 0, 10), ...stay("Ben", 12, 20)])), 2)
  })

  it("give away two workers who were inside at once, even where a third came in between", () => {
    const [adaIn, adaOut] = stay("Ada", 0, 100)
    const events = [adaIn!, ...stay("Ben", 10, 20), ...stay("Cleo", 30, 40), adaOut!]
    assert.strictEqual(closestHandOver(sectionsOf(events)), -90)
  })
})

describe("timeline", () => {
  it("draws a loss: the block ends with the lease, the worker goes on, its write is refused", () => {
    const picture = timeline(sectionsOf(loss), ["Ada", "Ben"], page)
    assert.match(row(picture, "Ben"), /^█#1 3→2█+▌✗▒+⊘▒+·+▏$/)
    assert.match(row(picture, "Ada"), /^·+█#2▌$/)
    assert.isBelow(row(picture, "Ben").indexOf("✗"), row(picture, "Ada").indexOf("█"))
    assert.include(picture, "⊘ write refused")
  })

  it("explains only what occurs", () => {
    const picture = timeline(sectionsOf(stay("Ada", 0, 100)), ["Ada"], page)
    assert.include(picture, "█ inside  ▌ leaves")
    assert.notMatch(picture, /waits|sold out|lease over|refused/)
  })

  it("numbers the fencing tokens by their size, however long they are", () => {
    const events = [...stay("Ada", 0, 50, 1763848800123456n), ...stay("Ben", 60, 110, 1763848800999999n)]
    const picture = timeline(sectionsOf(events), ["Ada", "Ben"], page)
    assert.include(row(picture, "Ada"), "#1")
    assert.include(row(picture, "Ben"), "#2")
  })

  it("draws overlapping stays as overlapping", () => {
    const picture = timeline(sectionsOf([...stay("Ada", 0, 100), ...stay("Ben", 0, 100)].sort((a, b) => a.at - b.at)), [
      "Ada",
      "Ben"
    ], page)
    assert.strictEqual(row(picture, "Ada"), row(picture, "Ben"))
  })

  it.each([20, 40, 80, 120, 300])("fits %i columns, or the 20 that it needs, and at most 120", (columns) => {
    const picture = timeline(sectionsOf(loss), ["Ada", "Ben"], { columns, colours: false })
    const [ada, ben, line] = picture.split("\n")
    for (const row of [ada!, ben!, line!]) assert.isAtMost(row.length, Math.min(120, Math.max(columns, 29)))
  })

  it("paints only where there are colours", () => {
    const sections = sectionsOf(loss)
    const painted = timeline(sections, ["Ada", "Ben"], { columns: 80, colours: true })
    assert.notInclude(timeline(sections, ["Ada", "Ben"], page), "\x1b")
    assert.include(painted, "\x1b[1;31m✗\x1b[0m")
  })

  it("draws nothing without events", () => {
    assert.include(timeline([], ["Ada"], page), "Ada")
  })

  const Stays = Schema.Array(Schema.Struct({
    worker: Schema.Literals(["Ada", "Ben", "Cleo", "Dan"]),
    pause: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 50 })),
    length: Schema.Int.check(Schema.isBetween({ minimum: 30, maximum: 90 }))
  })).check(Schema.isMaxLength(15))

  it.prop("never draws two inside in one column where there were no two inside", [Stays], ([stays]) => {
    let now = 0
    const events = stays.flatMap(({ length, pause, worker }) => {
      const from = now + pause
      now = from + length
      return stay(worker, from, now)
    })
    const sections = sectionsOf(events)
    const picture = timeline(sections, ["Ada", "Ben", "Cleo", "Dan"], { columns: 120, colours: false })
    const rows = ["Ada", "Ben", "Cleo", "Dan"].map((worker) => row(picture, worker))
    for (let column = 0; column < 120; column++) {
      assert.isAtMost(rows.filter((cells) => "█▌".includes(cells[column] ?? " ")).length, 1)
    }
    if (stays.length > 1) assert.isAtLeast(closestHandOver(sections), 0)
  })
})

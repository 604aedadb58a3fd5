import { assert, describe, it } from "@effect/vitest"
import type { Recorded } from "../src/events.ts"
import { draw } from "../src/timeline/draw.ts"
import { busiest, intervalsOf } from "../src/timeline/intervals.ts"

const acquired = (id: string, who: string, at: number): Recorded => ({
  t: "acquired",
  id,
  who,
  key: "hot-0",
  ttl: 500,
  age: 0,
  ask: id,
  asked: at,
  at,
  token: "1",
  arrived: at
})
const step = (t: "enter" | "step" | "exit", id: string, who: string, arrived: number, accepted = true): Recorded => ({
  t,
  id,
  who,
  accepted,
  arrived
})

const history: ReadonlyArray<Recorded> = [
  acquired("a", "w0.0", 1_000),
  step("enter", "a", "w0.0", 1_001),
  {
    t: "fault",
    n: 0,
    kind: "hold",
    from: 1_100,
    workers: ["w0.0"],
    forgets: [],
    hit: true,
    who: "harness",
    arrived: 1_100
  },
  { t: "lost", id: "a", at: 1_500, reason: "Unreachable", ago: 500, who: "w0.0", arrived: 1_501 },
  step("exit", "a", "w0.0", 1_502),
  acquired("b", "w1.0", 1_610),
  step("enter", "b", "w1.0", 1_611),
  { t: "healed", n: 0, to: 1_700, who: "harness", arrived: 1_700 },
  {
    t: "fault",
    n: 1,
    kind: "failover",
    from: 9_000,
    workers: "all",
    forgets: "all",
    hit: true,
    who: "harness",
    arrived: 9_000
  },
  step("step", "b", "w1.0", 9_100, false),
  { t: "gone", who: "w1.0", arrived: 9_200 }
]

describe("a timeline", () => {
  it("knows who was inside, until when, and which faults hit them", () => {
    const { end, stays, faultWindows } = intervalsOf(history)
    assert.strictEqual(end, 9_200)
    assert.deepStrictEqual(stays, [
      { who: "w0.0", key: "hot-0", from: 1_001, to: 1_502, lostAt: 1_501, reason: "Unreachable", refused: [] },
      { who: "w1.0", key: "hot-0", from: 1_611, to: 9_200, lostAt: undefined, reason: undefined, refused: [9_100] }
    ])
    assert.deepStrictEqual(faultWindows, [
      { kind: "hold", workers: ["w0.0"], from: 1_100, to: 1_700 },
      { kind: "failover", workers: "all", from: 9_000, to: 9_200 }
    ])
  })

  it("shows the time in which most was lost", () => {
    assert.strictEqual(busiest(intervalsOf(history), 6_000), 1_100)
    const svg = draw("a run", intervalsOf(history))
    assert.include(svg, ">hold<")
    assert.notInclude(svg, ">failover<")
    assert.strictEqual(svg.match(/class="lost"/g)?.length, 1)
    assert.strictEqual(svg.match(/class="w0"/g)?.length, 2)
  })
})

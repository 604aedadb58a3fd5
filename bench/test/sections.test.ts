import { expect, test } from "vitest"
import { figuresOf, isAlone, overlaps, type Slice, violationsOf } from "../src/measure/sections.ts"

const slice = (until: number, key: string, ...times: ReadonlyArray<number>): Slice => ({
  until,
  tasks: [{ key, times }],
  cpu: 1,
  failures: []
})

test("two who were in at once are found, be they of different processes and in any order", () => {
  const first = { askedAt: 0, enteredAt: 1, leftAt: 4 }
  const inside = { askedAt: 0, enteredAt: 2, leftAt: 3 }
  const after = { askedAt: 0, enteredAt: 4, leftAt: 5 }
  expect(overlaps([after, first]).found).toBe(0)
  expect(overlaps([after, inside, first]).found).toBe(1)
  expect(violationsOf({ requests: 0, slices: [slice(9, "hot", 0, 1, 4), slice(9, "hot", 0, 3, 5)] }).found).toBe(1)
  expect(violationsOf({ requests: 0, slices: [slice(9, "a", 0, 1, 4), slice(9, "b", 0, 3, 5)] }).found).toBe(0)
})

test("more than the permits are found, and how many were in", () => {
  const [a, b] = [{ askedAt: 0, enteredAt: 1, leftAt: 9 }, { askedAt: 0, enteredAt: 2, leftAt: 4 }]
  expect(overlaps([b, a], 2)).toEqual({ found: 0, most: 2 })
  expect(overlaps([b, a, { askedAt: 0, enteredAt: 4, leftAt: 5 }], 2)).toEqual({ found: 0, most: 2 })
  expect(overlaps([b, a, { askedAt: 0, enteredAt: 3, leftAt: 5 }], 2)).toEqual({ found: 1, most: 3 })
  const readers = {
    until: 9,
    tasks: [{ key: "k", times: [0, 1, 4, 4, 6, 7], permits: [1, isAlone] }],
    cpu: 1,
    failures: []
  }
  const writer = (from: number) => ({
    ...readers,
    tasks: [{ key: "k", times: [0, from, from + 2], permits: [isAlone] }]
  })
  expect(violationsOf({ requests: 0, slices: [readers, writer(4)] }, isAlone).found).toBe(0)
  expect(violationsOf({ requests: 0, slices: [readers, writer(3)] }, isAlone).found).toBe(1)
  expect(violationsOf({ requests: 0, slices: [readers, { ...readers, until: 8 }] }, isAlone)).toEqual({
    found: 1,
    most: 2
  })
})

test("counted is what was served while every process ran", () => {
  const early = slice(1_000, "a", 0, 10, 20, 20, 600, 610)
  const late = slice(1_200, "b", 500, 700, 710, 800, 900, 910, 1_000, 1_100, 1_110)
  const figures = figuresOf([{ requests: 10, slices: [early, late] }])
  expect(figures.perSecond).toBe(3 / 0.5)
  expect(figures.spread).toBe(2)
  expect(figures.requests).toBe(2)
  expect(figures.max).toBe(580)
  expect(figures.body).toBe(10)
  expect(figures.cpu).toBe(400)
})

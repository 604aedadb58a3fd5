import { assert, describe, it } from "@effect/vitest"
import { claimIdsIn } from "../src/operator.ts"
import { acquired, checked, enter, exit, fault, found, lag, type Line, lost, step, ttl } from "./history.ts"

const guard = 100
const idOf = (lease: Line): string => (lease as { readonly id: string }).id

const revoked = (at: number, lease: Line, answer: "asked" | "notHeld" | "unknown" = "asked", grace = 0): Line => {
  const { key, token } = lease as { readonly key: string; readonly token: string }
  return { t: "revoked", key, token, grace, from: at - 5, at, answer, who: "calm", arrived: at }
}
const told = (at: number, lease: Line): Line => ({ t: "told", id: idOf(lease), at, who: lease.who, arrived: at })
const freed = (at: number, seenUntil: number, lease: Line, from: number, grace = 0): Line => {
  const { key, token } = lease as { readonly key: string; readonly token: string }
  return { t: "freed", key, token, grace, from, seenUntil, at, isOver: true, who: "calm", arrived: at }
}
/** Its last renewal was asked for `ago` milliseconds before. */
const lostRevoked = (at: number, lease: Line, ago = 0): Line => ({ ...lost(at, lease, ago), revoked: true }) as Line
const lingering = (lease: Line): Line => ({ ...lease, lingers: true }) as Line

const a = acquired(0, "a", 1)

describe("the checker, of revocations", () => {
  it("finds nothing in a holder that is told at once, and leaves", () => {
    assert.deepStrictEqual(found(a, enter(1, a), revoked(50, a), told(60, a), lostRevoked(60, a), exit(65, a)), [])
  })

  it("finds a holder that is told late, less the lag of its process", () => {
    const late = [a, enter(1, a), revoked(50, a, "asked", 500), told(170, a), exit(200, a)]
    assert.deepStrictEqual(found(...late), ["unheard"])
    assert.deepStrictEqual(found(...late, lag(100, 140, "a")), [])
    assert.deepStrictEqual(found(...late, ...fault(40, 60, { workers: ["a"] })), [], "it was not connected")
    assert.deepStrictEqual(found(...late, ...fault(40, 60, { forgets: ["other"] })), ["unheard"])
    assert.deepStrictEqual(found(a, enter(1, a), revoked(50, a), exit(400, a)), ["unheard"], "never")
    assert.deepStrictEqual(found(a, enter(1, a), revoked(50, a), exit(140, a)), [], "it has left")
  })

  it("finds a revocation that nobody asked for, also where the token was a wrong one", () => {
    const ends = [told(60, a), lostRevoked(60, a), exit(65, a)]
    assert.deepStrictEqual(found(a, enter(1, a), ...ends), ["unasked", "unasked"])
    assert.deepStrictEqual(found(a, enter(1, a), revoked(50, a, "notHeld"), ...ends), ["unasked", "unasked"])
    assert.deepStrictEqual(found(a, enter(1, a), revoked(50, a, "unknown"), ...ends), [], "the answer was lost")
    const other = acquired(0, "b", 1, "another")
    assert.deepStrictEqual(found(a, enter(1, a), other, revoked(50, other), told(55, other), ...ends), [
      "unasked",
      "unasked"
    ])
  })

  it("takes what was asked of one of several locks for asked of all of them", () => {
    const second = { ...acquired(0, "a", 7, "l"), id: `${idOf(a)}+1` } as Line
    const ends = [told(60, second), lostRevoked(60, second), exit(65, second)]
    assert.deepStrictEqual(
      found(a, second, enter(1, a), enter(2, second), revoked(50, a), told(60, a), ...ends, exit(65, a)),
      []
    )
  })

  it("finds a hold that stands for longer than a ttl and a guard gap after the grace", () => {
    const asked = [a, enter(1, a), revoked(50, a, "asked", 200), told(55, a), exit(300, a)]
    const last = 50 + 200 + ttl + guard
    assert.deepStrictEqual(found(...asked, freed(last + 310, last + 250, a, 50, 200)), [])
    assert.deepStrictEqual(found(...asked, freed(last + 400, last + 350, a, 50, 200)), ["kept"])
    assert.deepStrictEqual(
      found(...asked, freed(last + 400, last + 350, a, 50, 200), ...fault(500, 700, {})),
      [],
      "the servers were away"
    )
  })

  it("lets the next one in beside a program that does not end, when its claim has run out and no earlier", () => {
    const stubborn = lingering(a)
    const next = (at: number) => acquired(at, "b", 2)
    const overlap = (at: number, first = stubborn) => {
      const b = next(at)
      return [first, enter(1, first), revoked(50, first), told(55, first), lostRevoked(55, first, 20), step(100, first)]
        .concat([
          step(150, first),
          b,
          enter(at + 1, b),
          step(at + 2, first, false),
          exit(at + 3, first),
          exit(at + 9, b)
        ])
    }
    const runsOut = 55 - 20 + ttl + guard
    assert.deepStrictEqual(checked(overlap(runsOut + 5)).violations, [])
    assert.strictEqual(checked(overlap(runsOut + 5)).excused.ignored, 1)
    assert.deepStrictEqual(found(...overlap(runsOut - 50)), ["overlap"], "it was given up before its program had ended")
    assert.deepStrictEqual(found(...overlap(runsOut + 5, a)), ["after", "overlap"], "it ends when it is interrupted")
  })

  it("finds a lock that is held throughout and is in no list", () => {
    const listed = (keys: ReadonlyArray<string>, from = 30, at = 60): Line => ({
      t: "listed",
      keys,
      from,
      at,
      who: "calm",
      arrived: at
    })
    const held = [a, enter(1, a), exit(100, a)]
    assert.deepStrictEqual(found(...held, listed(["k"])), [])
    assert.deepStrictEqual(found(...held, listed(["another"])), ["misled"])
    assert.deepStrictEqual(found(...held, listed([], 90, 120)), [], "it was released meanwhile")
  })

  it("knows the id of a claim, which nobody may see", () => {
    const info = { key: "abcdefghijklmnopqrstuv", holders: [{ holder: "machine:4711", token: 3n }] }
    assert.deepStrictEqual(claimIdsIn([info]), [])
    assert.deepStrictEqual(claimIdsIn({ ...info, holders: [{ holder: "x|Zm9vYmFyLV9mb29iYXIt01" }] }), [
      "Zm9vYmFyLV9mb29iYXIt01"
    ])
  })
})

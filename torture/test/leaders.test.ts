import { assert, describe, it } from "@effect/vitest"
import { campaign } from "../src/campaign.ts"
import { acquired, asked, enter, exit, fault, found, lag, type Line, lost } from "./history.ts"

const leader = (at: number, who: string, token: number): Line => acquired(at, who, token, "leader-0")
const resigned = (at: number, lease: Line, cooldown: number): Line => ({
  t: "resigned",
  id: (lease as { readonly id: string }).id,
  cooldown,
  who: lease.who,
  arrived: at
})
const observed = (at: number, token: number | undefined): Line => ({
  t: "observed",
  key: "leader-0",
  token: token === undefined ? undefined : `${token}`,
  at,
  who: "calm",
  arrived: at
})

describe("the checker, of leaders", () => {
  it("finds one who leads again in its cool-down, by the same call", () => {
    const [first, second] = [leader(0, "a", 1), leader(300, "a", 2)]
    const again = (cooldown: number, ...between: ReadonlyArray<Line>) =>
      found(
        first,
        enter(1, first),
        resigned(50, first, cooldown),
        exit(60, first),
        ...between,
        second,
        enter(301, second)
      )
    assert.deepStrictEqual(again(200), [])
    assert.deepStrictEqual(again(400), ["recooled"])
    assert.deepStrictEqual(again(400, { ...asked(100, "a"), key: "leader-0" } as Line), [], "it has asked anew")
    const other = leader(100, "b", 2)
    assert.deepStrictEqual(
      found(first, enter(1, first), resigned(50, first, 400), exit(60, first), other, enter(101, other)),
      [],
      "another"
    )
  })

  it("finds a leader that an observer does not know of", () => {
    const one = leader(0, "a", 2)
    const term = (...seen: ReadonlyArray<Line>) => found(one, enter(1, one), ...seen, exit(8_000, one))
    assert.deepStrictEqual(term(observed(500, 2)), [])
    assert.deepStrictEqual(term(observed(1, 1)), ["unobserved"])
    assert.deepStrictEqual(term(observed(1, 1), observed(500, 2), observed(900, undefined)), ["unobserved"])
    assert.deepStrictEqual(term(observed(1, 1), lag(200, 7_000, "calm")), [], "it stood still")
    assert.deepStrictEqual(term(observed(1, 1), ...fault(2_000, 3_000, {})), [], "the servers were away")
    const short = [one, enter(1, one), observed(1, 1), exit(5_000, one)]
    assert.deepStrictEqual(found(...short), ["unobserved"])
    assert.deepStrictEqual(found(...short, ...fault(500, 510, {})), [], "it may have lost a message")
    assert.deepStrictEqual(found(one, enter(1, one), observed(1, 1), exit(1_200, one)), [], "soon enough")
  })

  it("finds that nobody leads after the faults", () => {
    const leaderless = (at: number): Line => ({
      t: "leaderless",
      key: "leader-0",
      from: 0,
      at,
      limit: 1_700,
      who: "harness",
      arrived: at
    })
    assert.deepStrictEqual(found(leaderless(1_900)), ["leaderless"])
    assert.deepStrictEqual(found(leaderless(1_900), lag(100, 500, "a")), [])
  })

  it("finds two programs at once, as of every lock", () => {
    const [first, second] = [leader(0, "a", 1), leader(100, "b", 2)]
    const released = [first, enter(1, first), second, enter(101, second), exit(150, first), exit(160, second)]
    assert.deepStrictEqual(found(...released), ["overlap"])
    assert.deepStrictEqual(found(...fault(0, 1, {}), ...released, lost(90, first, 90)), ["overlap"])
  })
})

describe("the torture, of a leader that is released before its program has ended", () => {
  it("finds it", { timeout: 180_000 }, async () => {
    const { caughtAfter, state } = await campaign({
      backend: "redis",
      subject: "leader-released-early",
      with: new Set(["leaders"]),
      seconds: 70,
      seed: 2,
      untilCaught: true,
      progress: () => {}
    })
    assert.isDefined(caughtAfter)
    const ofLeaders = state.violations.filter(({ text }) => text.includes("leader-"))
    assert.isNotEmpty(ofLeaders, JSON.stringify(state.violations))
  })
})

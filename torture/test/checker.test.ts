import { assert, describe, it } from "@effect/vitest"
import { Checker, type Limits } from "../src/checker.ts"
import { type LockShape, writer } from "../src/lockShape.ts"
import { acquired, asked, checked, enter, exit, fault, found, lag, type Line, lost, step } from "./history.ts"

/** A fault hit everybody: losses are to be expected. */
const unwell = fault(0, 1, {})

const a = acquired(0, "a", 1)
const b = acquired(100, "b", 2)

describe("the checker", () => {
  it("finds nothing in sections one after the other", () => {
    const second = acquired(60, "b", 2)
    assert.deepStrictEqual(
      found(a, enter(1, a), step(20, a), exit(50, a), second, enter(61, second), exit(70, second)),
      []
    )
  })

  it("finds two inside", () => {
    assert.deepStrictEqual(found(a, enter(1, a), b, enter(101, b), step(110, a, false), exit(120, a), exit(130, b)), [
      "overlap"
    ])
  })

  it("lets go one that the process slept through, if it made no more than one step, and that was refused", () => {
    const slept = [a, enter(1, a), lag(10, 900, "a"), b, enter(801, b)]
    const checker = checked([...slept, step(901, a, false), exit(905, a), exit(910, b)])
    assert.deepStrictEqual(checker.violations, [])
    assert.deepStrictEqual(checker.excused, { paused: 1, forgot: 0, ignored: 0 })
    assert.deepStrictEqual(found(...slept, step(901, a, false), step(902, a, false), exit(905, a)), ["after"])
    assert.deepStrictEqual(found(...slept, step(901, a, true), exit(905, a)), ["overlap"], "it was not refused")
    assert.deepStrictEqual(
      found(a, enter(1, a), lag(10, 30, "a"), b, enter(801, b), exit(905, a)),
      ["overlap"],
      "too short"
    )
    assert.deepStrictEqual(
      found(a, enter(1, a), lag(10, 900, "b"), b, enter(801, b), exit(905, a)),
      ["overlap"],
      "another"
    )
  })

  it("lets go one that slept, heard of the loss late, and then took its time to end", () => {
    const [first, second] = [acquired(0, "a", 1), acquired(1_600, "b", 2)]
    const slow = (slept: number) => [
      first,
      enter(1, first),
      lag(1_100 - slept, 1_100, "a"),
      second,
      enter(1_601, second),
      exit(1_700, first),
      exit(1_800, second)
    ]
    const limits = { guard: 1_000, ending: 600 }
    assert.deepStrictEqual(checked(slow(900), limits).violations, [])
    assert.deepStrictEqual(checked(slow(100), limits).violations.map(({ rule }) => rule), ["overlap"], "too short")
    assert.deepStrictEqual(found(...slow(900)), ["overlap"], "it ends at once")
  })

  it("takes a process for one that stands still that was ended after it had told of nothing, or never tells again", () => {
    const [first, second] = [acquired(0, "a", 1), acquired(2_000, "b", 2)]
    const history = [first, enter(1, first), second, enter(2_001, second), exit(2_100, second)]
    const gone: Line = { t: "gone", who: "a", arrived: 2_200 }
    assert.deepStrictEqual(found(...history), [])
    assert.deepStrictEqual(found(...history, gone), [])
    assert.deepStrictEqual(found(...history, step(1_990, first), gone), ["overlap"], "it was ended later")
    assert.deepStrictEqual(found(...history, exit(2_200, first)), ["overlap"], "it told of something")
  })

  it("lets one that was overtaken go on while a failover is under way: two servers may each have a holder", () => {
    const [begin, end] = fault(50, 1_500, { forgets: "all" })
    const split = [a, enter(1, a), begin!, b, enter(101, b), exit(150, b)]
    assert.deepStrictEqual(found(...split, step(1_400, a, false), exit(1_450, a), end!), [])
    assert.deepStrictEqual(found(...split, end!, step(2_100, a, false), exit(2_150, a)), [])
    assert.deepStrictEqual(found(...split, end!, step(2_300, a, false), exit(2_350, a)), ["revived"])
  })

  it("lets go one where the backend forgot this key, for no longer than a time to live", () => {
    const forgot = [a, enter(1, a), ...fault(50, 51, { forgets: ["k"] }), b, enter(101, b)]
    assert.deepStrictEqual(found(...forgot, step(110, a, false), step(200, a, false), exit(250, a), exit(260, b)), [])
    assert.deepStrictEqual(found(...forgot, step(802, a, false), exit(803, a)), ["revived"])
    assert.deepStrictEqual(found(...forgot, step(150, a, true), exit(160, a)), ["overlap"], "it was not refused")
    const another = [a, enter(1, a), ...fault(50, 51, { forgets: ["other"] }), b, enter(101, b), exit(120, a)]
    assert.deepStrictEqual(found(...another), ["overlap"])
    const earlier = acquired(1_000, "a", 1)
    const later = acquired(1_100, "b", 2)
    assert.deepStrictEqual(
      found(
        ...fault(50, 51, { forgets: "all" }),
        earlier,
        enter(1_001, earlier),
        later,
        enter(1_101, later),
        exit(1_200, earlier)
      ),
      ["overlap"],
      "it was forgotten before it was acquired"
    )
  })

  it("counts a grant from when its holder does, however long it was under way", () => {
    const later = acquired(1_300, "b", 2)
    const history = (earlier: Line) => [
      ...fault(1_010, 1_011, { forgets: "all" }),
      later,
      enter(1_301, later),
      earlier,
      enter(1_401, earlier, false),
      exit(1_402, earlier)
    ]
    assert.deepStrictEqual(found(...history(acquired(1_400, "a", 1, "k", 450))), [])
    assert.deepStrictEqual(found(...history(acquired(1_400, "a", 1, "k", 50))), ["overlap"])
  })

  it("counts a grant from before the sleep in which it came", () => {
    const [late, newer] = [acquired(900, "b", 1), acquired(600, "a", 2)]
    const history = [lag(400, 899, "b"), newer, enter(601, newer), late, enter(901, late, false), exit(902, late)]
    assert.deepStrictEqual(found(...history, exit(950, newer)), [])
    assert.deepStrictEqual(found(...history.slice(1), exit(950, newer)), ["overlap"])
  })

  it("finds overlaps of those who have no token, excused only where no late step was made", () => {
    const [c, d] = [acquired(0, "c", undefined), acquired(800, "d", undefined)]
    const slept = [c, enter(1, c), lag(10, 900, "c"), d, enter(801, d)]
    assert.deepStrictEqual(found(...slept, exit(901, c)), [])
    assert.deepStrictEqual(found(...slept, step(901, c), exit(902, c)), ["overlap"])
  })

  it("finds a token that is given twice, and one that goes back", () => {
    const same = acquired(60, "b", 1)
    assert.deepStrictEqual(found(a, enter(1, a), exit(50, a), same, enter(61, same), exit(70, same)), ["token"])
    const less = acquired(60, "b", 0)
    assert.deepStrictEqual(found(a, enter(1, a), exit(50, a), less, enter(61, less, false), exit(70, less)), ["token"])
    assert.deepStrictEqual(
      found(a, enter(1, a), exit(50, a), less, lag(60, 700, "b"), enter(701, less, false), exit(702, less)),
      [],
      "its process slept on the way in"
    )
  })

  it("lets a holder whose token went back stay, where the backend forgot and the fence refuses it", () => {
    const first = acquired(0, "a", 9)
    const second = acquired(100, "b", 2)
    const history = [first, enter(1, first), ...fault(50, 51, { forgets: "all" }), second, enter(101, second, false)]
    assert.deepStrictEqual(
      found(...history, exit(150, first), step(500, second, false), step(900, second, false), exit(901, second)),
      []
    )
  })

  it("finds a loss that is told late, less the lag of its process", () => {
    assert.deepStrictEqual(found(...unwell, a, enter(1, a), lost(690, a, 690), exit(691, a)), [])
    assert.deepStrictEqual(found(...unwell, a, enter(1, a), lost(710, a, 710), exit(711, a)), ["late"])
    assert.deepStrictEqual(found(...unwell, a, enter(1, a), lost(710, a, 710), exit(711, a), lag(640, 705, "a")), [])
    assert.deepStrictEqual(found(...unwell, a, enter(1, a), lost(710, a, 710), exit(711, a), lag(640, 705, "b")), [
      "late"
    ])
  })

  it("takes a process that was ended in the midst of a long turn for one that stood still", () => {
    const told = (at: number) => [lag(at, at, "a"), ...unwell, a, enter(1, a), lost(710, a, 710)]
    const gone: Line = { t: "gone", who: "a", arrived: 800 }
    assert.deepStrictEqual(found(...told(400), gone), [])
    assert.deepStrictEqual(found(...told(705), gone), ["late"], "it ran")
  })

  it("finds a program that goes on after its loss, one step is in flight", () => {
    const told = [...unwell, a, enter(1, a), lost(600, a, 600), step(601, a)]
    assert.deepStrictEqual(found(...told, exit(602, a)), [])
    assert.deepStrictEqual(found(...told, step(620, a), exit(630, a)), ["after"])
  })

  it("takes the end of a process for the end of its sections", () => {
    assert.deepStrictEqual(
      found(a, enter(1, a), { t: "gone", who: "a", arrived: 50 }, b, enter(101, b), exit(120, b)),
      []
    )
  })

  it("finds ghosts in quiet times only", () => {
    const ghost: Line = { t: "ghost", key: "k", waited: 600, from: 3_000, at: 3_600, who: "a", arrived: 3_600 }
    assert.deepStrictEqual(found(ghost), ["ghost"])
    assert.deepStrictEqual(found(...fault(1_500, 1_600, {}), ghost), [])
    assert.deepStrictEqual(found(...fault(1_500, 1_600, { workers: ["b"] }), ghost), ["ghost"])
    assert.deepStrictEqual(found(lag(3_000, 3_500, "a"), ghost), [])
  })

  it("finds calls without an end, less the time in which their process did not run", () => {
    const slow: Line = { t: "slow", what: "a call", took: 2_000, limit: 1_500, at: 2_000, who: "a", arrived: 2_000 }
    assert.deepStrictEqual(found(slow), ["slow"])
    assert.deepStrictEqual(found(lag(100, 700, "a"), slow), [])
  })

  it("checks nothing of a process before that process has reported its pauses", () => {
    const checker = new Checker()
    const slow: Line = { t: "slow", what: "a call", took: 4_000, limit: 1_000, at: 4_000, who: "a", arrived: 4_000 }
    // What is told in the midst of a long turn says nothing of how long the turn is.
    for (const event of [lag(90, 90, "a"), slow, asked(7_900, "a")]) checker.add(event)
    checker.settle(8_000)
    assert.deepStrictEqual(checker.violations, [])
    checker.add(lag(90, 8_100, "a"))
    checker.settle(8_200)
    assert.deepStrictEqual(checker.violations, [])
    checker.add({ ...slow, at: 14_000, arrived: 14_000 })
    checker.settle(18_000)
    assert.deepStrictEqual(checker.violations, [])
    checker.add(lag(18_100, 18_100, "a"))
    checker.settle(18_200)
    assert.deepStrictEqual(checker.violations.map(({ rule }) => rule), ["slow"])
  })

  it("finds a key that nobody has although somebody waits", () => {
    const next = (at: number) => acquired(at, "b", 2)
    const given = (at: number) => [a, enter(1, a), asked(20, "b", next(at)), exit(50, a), next(at)]
    assert.deepStrictEqual(found(...given(340)), [])
    assert.deepStrictEqual(found(...given(400)), ["idle"])
    assert.deepStrictEqual(found(...given(400), lag(200, 260, "b")), [], "who waited stood still")
    assert.deepStrictEqual(found(...given(3_000), ...fault(100, 200, { workers: ["b"] })), [], "it had to come back")
    assert.deepStrictEqual(found(...given(4_000), ...fault(100, 200, { workers: ["b"] })), ["idle"])
    assert.deepStrictEqual(found(...given(4_000), ...fault(100, 3_000, {})), [])
    assert.deepStrictEqual(found(...given(4_000), ...fault(100, 3_000, { workers: ["c"] })), ["idle"], "another")
    assert.deepStrictEqual(found(...given(3_000), ...fault(100, 101, { forgets: ["k"] })), [])
    assert.deepStrictEqual(found(...given(3_000), ...fault(100, 101, { forgets: ["other"] })), ["idle"], "another key")
    const [refusal, end] = fault(40, 60, { kind: "refuse the commands" }) as [Line, Line]
    assert.deepStrictEqual(found(a, enter(1, a), asked(20, "b", next(690)), refusal, exit(50, a), end, next(690)), [])
    assert.deepStrictEqual(found(a, enter(1, a), exit(50, a), asked(250, "b", next(300)), next(300)), [], "none waited")
    const checker = new Checker({ without: ["idle"] })
    for (const event of given(400)) checker.add(event)
    checker.settle(1e9, true)
    assert.deepStrictEqual(checker.violations, [])
  })

  it("gives the next of a dead holder what its lock may have had left, and the guard gap", () => {
    const next = (at: number) => acquired(at, "b", 2)
    const gone: Line = { t: "gone", who: "a", arrived: 50 }
    const dies = (at: number) => [asked(0, "a", a), a, enter(1, a), asked(20, "b", next(at)), gone, next(at)]
    assert.deepStrictEqual(found(...dies(1_040)), [])
    assert.deepStrictEqual(found(...dies(1_060)), ["idle"])
    const waits = (at: number) => [asked(0, "a"), asked(20, "b", next(at)), gone, next(at)]
    assert.deepStrictEqual(found(...waits(5_400)), [], "it may have been given to the dead one a moment before")
    assert.deepStrictEqual(found(...waits(5_500)), ["idle"])
    const handed = (freed: number) => [
      asked(0, "c"),
      a,
      enter(1, a),
      asked(20, "b", next(5_000)),
      { t: "gone", who: "c", arrived: 50 } as const,
      exit(freed, a),
      next(5_000)
    ]
    assert.deepStrictEqual(found(...handed(900)), [], "the server may not have noticed yet")
    assert.deepStrictEqual(found(...handed(1_100)), ["idle"])
  })

  it("gives one who died while it waited the rest of its time only where it stands first before that is known", () => {
    const next = (at: number) => acquired(at, "b", 3)
    const gone: Line = { t: "gone", who: "c", arrived: 50 }
    const waits = (at: number) => [asked(0, "c"), a, enter(1, a), asked(20, "b", next(at)), gone]
    const onEtcd = (history: ReadonlyArray<Line>) =>
      checked(history, { grain: 1_000, deadAfter: 5_000 }).violations.map(({ rule }) => rule)
    const ends = (freed: number, at: number) => onEtcd([...waits(at), exit(freed, a), next(at)])
    // In whole seconds and one more.
    assert.deepStrictEqual(ends(6_000, 7_300), [], "its death was not known yet")
    assert.deepStrictEqual(ends(6_000, 7_500), ["idle"])
    assert.deepStrictEqual(ends(6_200, 6_400), [])
    assert.deepStrictEqual(ends(6_200, 6_600), ["idle"], "its death was known")
    const many = Array.from({ length: 150 }, (_, nth) => asked(nth / 10, "c", acquired(9_000 + nth, "c", 9)))
    const after = (freed: number, at: number) => onEtcd([...many, ...waits(at), exit(freed, a), next(at)])
    assert.deepStrictEqual(after(6_250, 6_900), [], "its many claims were not passed over yet")
    assert.deepStrictEqual(after(6_400, 6_900), ["idle"], "they were")
    const between = acquired(1_200, "d", 2)
    const served = (at: number) => [
      asked(10, "d", between),
      ...waits(at),
      exit(1_100, a),
      between,
      enter(1_201, between),
      exit(6_200, between),
      next(at)
    ]
    assert.deepStrictEqual(onEtcd(served(6_400)), [])
    assert.deepStrictEqual(onEtcd(served(6_600)), ["idle"], "somebody was before it all the time")
    const holder: Line = { t: "gone", who: "a", arrived: 60 }
    const bothDie = (at: number) => onEtcd([asked(0, "a", a), ...waits(at), holder, next(at)])
    assert.deepStrictEqual(bothDie(7_300), [], "it may stand first when the holder's time is over")
    assert.deepStrictEqual(bothDie(7_500), ["idle"])
  })

  it("lets those take longer who are remote, and whoever waits for a key with them", () => {
    const late = acquired(1_000, "b.1", 2)
    const history = [a, enter(1, a), asked(20, "b.1", late), exit(50, a), late]
    const rules = (remote: Limits["remote"]) => checked(history, { remote }).violations.map(({ rule }) => rule)
    assert.deepStrictEqual(rules({ places: ["b"], notice: 2_000 }), [])
    assert.deepStrictEqual(rules({ places: ["b"], notice: 500 }), ["idle"])
    assert.deepStrictEqual(rules({ places: ["c"], notice: 2_000 }), ["idle"])
  })

  it("finds calls that failed although no fault hit them", () => {
    const failed: Line = { t: "failed", what: "k", why: "no", from: 9_000, at: 9_500, who: "a", arrived: 9_500 }
    assert.deepStrictEqual(found(failed), ["failed"])
    assert.deepStrictEqual(found(failed, ...fault(8_500, 8_600, { workers: ["a"] })), [])
    assert.deepStrictEqual(found(failed, ...fault(9_100, 9_200, {})), [])
    assert.deepStrictEqual(found(failed, ...fault(5_000, 5_600, {})), ["failed"], "long ago")
    assert.deepStrictEqual(found(failed, ...fault(8_500, 8_600, { workers: ["b"] })), ["failed"], "another")
    assert.deepStrictEqual(found(failed, ...fault(9_100, 9_400, { harmless: true, workers: ["a"] })), ["failed"])
    assert.deepStrictEqual(found(failed, lag(9_000, 9_400, "a")), ["failed"], "its thread was busy")
    const busyFails = (from: number, to: number) =>
      checked([{ ...failed, from: 1_000 }, lag(from, to, "a")], { busyFails: true }).violations.map(({ rule }) => rule)
    assert.deepStrictEqual(busyFails(9_000, 9_400), [])
    assert.deepStrictEqual(busyFails(3_000, 3_400), ["failed"], "long before it was asked for the last time")
    const another = { ...failed, who: "a.2" }
    assert.deepStrictEqual(found(another, ...fault(9_100, 9_200, { workers: ["a"] })), [], "all lives of a worker")
    assert.deepStrictEqual(found(another, ...fault(9_100, 9_200, { workers: ["a.1"] })), ["failed"], "one of them")
    assert.deepStrictEqual(found({ ...failed, hasty: true }, lag(9_000, 9_400, "a")), [], "its time was over meanwhile")
    for (const who of ["resource", "servers"]) {
      assert.deepStrictEqual(found(failed, lag(9_000, 9_400, who)), [], "the machine stood still")
    }
  })

  it("counts once what stands still at the same time", () => {
    const failed: Line = { t: "failed", what: "k", why: "no", from: 8_000, at: 9_500, who: "a", arrived: 9_500 }
    assert.deepStrictEqual(found(failed, lag(9_000, 9_150, "servers"), lag(9_050, 9_180, "harness")), ["failed"])
    assert.deepStrictEqual(found({ ...failed, from: 9_000 }, lag(9_000, 9_150, "servers")), [], "a good part of it")
    assert.deepStrictEqual(found(failed, lag(9_000, 9_150, "servers"), lag(9_200, 9_330, "harness")), [])
  })

  it("finds locks that were lost although no fault hit them", () => {
    const late = acquired(9_000, "a", 1)
    const history = [late, enter(9_001, late), lost(9_600, late, 600), exit(9_601, late)]
    assert.deepStrictEqual(found(...history), ["gone"])
    assert.deepStrictEqual(found(...history, ...fault(9_100, 9_200, { workers: ["a"] })), [])
    assert.deepStrictEqual(found(...history, ...fault(9_100, 9_200, { forgets: ["k"], harmless: true })), [])
    assert.deepStrictEqual(found(...history, lag(9_200, 9_500, "a")), [], "its process stood still")
    assert.deepStrictEqual(found(...history, lag(9_200, 9_300, "a")), ["gone"])
  })

  it("finds tombstones that were left although no answer to a caller was lost", () => {
    const tombstone = (key: string): Line => ({ t: "tombstone", key, at: 9_000, who: "", arrived: 9_100 })
    assert.deepStrictEqual(found(tombstone("cold-w1-0")), ["tombstone"])
    assert.deepStrictEqual(found(tombstone("cold-w1-0"), ...fault(8_500, 8_900, { workers: ["w1.3"] })), [])
    assert.deepStrictEqual(found(tombstone("cold-w1-0"), ...fault(8_500, 8_900, { workers: ["w11.3"] })), ["tombstone"])
    assert.deepStrictEqual(found(tombstone("hot-1"), ...fault(8_500, 8_900, { workers: ["w1.3"] })), [])
    assert.deepStrictEqual(found(tombstone("probe-calm-a"), ...fault(8_500, 8_900, { workers: ["w1.3"] })), [
      "tombstone"
    ])
    assert.deepStrictEqual(found(tombstone("probe-calm-a"), ...fault(8_500, 8_900, {})), [])
    for (const who of ["w1.3", "servers"]) {
      assert.deepStrictEqual(found(tombstone("hot-1"), lag(8_500, 8_800, who)), [], "an answer may have come too late")
    }
    assert.deepStrictEqual(found(tombstone("hot-1"), lag(8_500, 8_600, "w1.3")), ["tombstone"])
  })

  it("takes a tombstone for one of a caller who has lost an answer since it asked", () => {
    const tombstone = (at: number): Line => ({ t: "tombstone", key: "k", at, who: "", arrived: at + 100 })
    const ask = asked(1_000, "w1.3")
    const ended: Line = {
      t: "ended",
      ask: "w1.3:1000",
      key: "k",
      outcome: "done",
      waited: 500,
      at: 9_500,
      id: undefined,
      who: "w1.3",
      arrived: 9_500
    }
    const lost = fault(1_500, 1_600, { workers: ["w1.3"] })
    assert.deepStrictEqual(found(ask, ...lost, ended, tombstone(9_000)), [])
    assert.deepStrictEqual(found(ask, ...lost, ended, tombstone(11_000)), ["tombstone"], "it had ended")
    assert.deepStrictEqual(found(ask, ...fault(1_500, 1_600, { workers: ["w2.1"] }), ended, tombstone(9_000)), [
      "tombstone"
    ])
  })

  it("finds scripts that were slow while no fault hit the servers", () => {
    const script: Line = { t: "script", what: "evalsha", took: 12, from: 1_000, at: 1_250, who: "", arrived: 1_250 }
    assert.deepStrictEqual(found(script), ["script"])
    assert.deepStrictEqual(found(script, ...fault(1_100, 1_150, {})), [])
    assert.deepStrictEqual(found(script, ...fault(1_100, 1_150, { workers: ["a"] })), ["script"])
  })

  it("passes on what others have found", () => {
    assert.deepStrictEqual(
      found(
        { t: "stuck", key: "k", waited: 9_000, who: "a", arrived: 1 },
        { t: "unhandled", message: "no", who: "a", arrived: 2 },
        { t: "left", what: "a timer", who: "", arrived: 3 },
        { t: "orphan", what: "a key", who: "", arrived: 4 },
        { t: "elsewhere", what: "a key", who: "", arrived: 4 },
        { t: "unserved", waited: 7_000, who: "a", arrived: 5 }
      ),
      ["stuck", "unhandled", "left", "orphan", "elsewhere", "unserved"]
    )
  })

  it("knows who is inside", () => {
    const checker = new Checker()
    for (const event of [a, enter(1, a)]) checker.add(event)
    assert.deepStrictEqual(checker.present(), [{ key: "k", who: "a" }])
    checker.add(exit(2, a))
    assert.deepStrictEqual(checker.present(), [])
  })
})

describe("the checker, of locks that several hold", () => {
  const semaphore = (permits: number, capacity = 3): LockShape => ({ kind: "semaphore", permits, capacity })
  const reader: LockShape = { ...writer, permits: 1 }
  const has = (lock: LockShape, at: number, who: string, token: number, age = 0): Line =>
    ({ ...acquired(at, who, token, "k", age), lock }) as Line
  const downgrade = (at: number, lease: Line): Line => ({ ...step(at, lease), t: "downgrade" }) as Line
  const all = (...leases: ReadonlyArray<Line>): ReadonlyArray<Line> =>
    leases.flatMap((lease) => [lease, enter(lease.arrived + 1, lease)])

  it("counts the permits inside", () => {
    const [a, b, c] = [has(semaphore(2), 0, "a", 1), has(semaphore(1), 10, "b", 2), has(semaphore(1), 20, "c", 3)]
    assert.deepStrictEqual(found(...all(a, b), exit(15, b), ...all(c), exit(30, a), exit(40, c)), [])
    assert.deepStrictEqual(found(...all(a, b, c), exit(30, a), exit(40, b), exit(41, c)), ["overlap"])
  })

  it("finds more permits than the smallest capacity among those inside, whoever came first", () => {
    const inside = (first: LockShape, second: LockShape) => {
      const [a, b] = [has(first, 0, "a", 1), has(second, 10, "b", 2)]
      return found(...all(a, b), exit(30, a), exit(40, b))
    }
    assert.deepStrictEqual(inside(semaphore(1, 4), semaphore(1, 2)), [])
    assert.deepStrictEqual(inside(semaphore(2, 4), semaphore(1, 2)), ["overlap"])
    assert.deepStrictEqual(inside(semaphore(1, 2), semaphore(2, 4)), ["overlap"])
  })

  it("lets readers in together, and a writer beside nobody", () => {
    const inside = (first: LockShape, second: LockShape) => {
      const [a, b] = [has(first, 0, "a", 1), has(second, 10, "b", 2)]
      return found(...all(a, b), exit(30, a), exit(40, b))
    }
    assert.deepStrictEqual(inside(reader, reader), [])
    assert.deepStrictEqual(inside(reader, writer), ["overlap"])
    assert.deepStrictEqual(inside(writer, reader), ["overlap"])
    assert.deepStrictEqual(inside(writer, writer), ["overlap"])
  })

  it("lets readers in beside a writer that has downgraded, and no writer", () => {
    const first = has(writer, 0, "a", 1)
    const inside = (lock: LockShape, ...before: ReadonlyArray<Line>) => {
      const second = has(lock, 20, "b", 2)
      return found(...all(first), ...before, ...all(second), exit(30, first), exit(40, second))
    }
    assert.deepStrictEqual(inside(reader, downgrade(10, first)), [])
    assert.deepStrictEqual(inside(reader, downgrade(25, first)), ["overlap"])
    assert.deepStrictEqual(inside(writer, downgrade(10, first)), ["overlap"])
  })

  it("lets go those who slept, counted in permits, if what is left has room", () => {
    const [a, b] = [has(semaphore(1), 0, "a", 1), has(semaphore(1), 1, "b", 2)]
    const inside = (slept: ReadonlyArray<string>, permits: number, ...late: ReadonlyArray<Line>) => {
      const c = has(semaphore(permits), 800, "c", 3)
      const lags = slept.map((who) => lag(10, 900, who))
      return checked([...all(a, b), ...lags, ...all(c), ...late, exit(950, a), exit(951, b), exit(960, c)])
    }
    const rulesOf = (checker: Checker) => checker.violations.map(({ rule }) => rule)
    assert.deepStrictEqual(rulesOf(inside([], 2)), ["overlap"])
    assert.deepStrictEqual(rulesOf(inside(["a"], 2)), [])
    assert.strictEqual(inside(["a"], 2).excused.paused, 1)
    assert.deepStrictEqual(rulesOf(inside(["c"], 2)), ["overlap"], "the last that was let in displaces others")
    assert.deepStrictEqual(rulesOf(inside(["a"], 3)), ["overlap"], "one of them is not enough")
    assert.deepStrictEqual(rulesOf(inside(["a", "b"], 3)), [])
    assert.deepStrictEqual(rulesOf(inside(["a"], 2, step(901, a))), [], "one step was on its way")
    assert.deepStrictEqual(rulesOf(inside(["a"], 2, step(901, a), step(902, a))), ["after"])
    assert.deepStrictEqual(
      rulesOf(inside(["a", "b"], 2, step(901, a), step(902, a))),
      [],
      "nobody knows which of the two is too much"
    )
  })

  it("lets go those whom the backend forgot, for no longer than a time to live", () => {
    const a = has(semaphore(3), 0, "a", 1)
    const b = has(semaphore(1), 100, "b", 2)
    const forgot = [...all(a), ...fault(50, 51, { forgets: ["k"] }), ...all(b)]
    assert.deepStrictEqual(found(...forgot, step(110, a), step(200, a), exit(250, a), exit(260, b)), [])
    assert.deepStrictEqual(found(...forgot, step(802, a), exit(803, a), exit(810, b)), ["revived"])
  })

  it("finds a late step of a writer that no fence refused after the next writer", () => {
    const [a, b] = [has(writer, 0, "a", 1), has(writer, 800, "b", 2)]
    const slept = [...all(a), lag(10, 900, "a"), ...all(b)]
    assert.deepStrictEqual(found(...slept, step(901, a, false), exit(905, a), exit(910, b)), [])
    assert.deepStrictEqual(found(...slept, step(901, a, true), exit(905, a), exit(910, b)), ["overlap"])
    const after = has(reader, 800, "b", 2)
    const fenceless = [...all(a), lag(10, 900, "a"), ...all(after)]
    assert.deepStrictEqual(
      found(...fenceless, step(901, a, true), exit(905, a), exit(910, after)),
      [],
      "a reader has none"
    )
  })

  it("finds a writer whose token is not above all earlier ones, and a reader whose is not above those of writers", () => {
    const inTurns = (first: LockShape, one: number, second: LockShape, other: number) => {
      const [a, b] = [has(first, 0, "a", one), has(second, 60, "b", other)]
      return found(...all(a), exit(50, a), ...all(b), exit(70, b))
    }
    assert.deepStrictEqual(inTurns(reader, 5, writer, 6), [])
    assert.deepStrictEqual(inTurns(reader, 5, writer, 4), ["token"])
    assert.deepStrictEqual(inTurns(writer, 5, reader, 4), ["token"])
    assert.deepStrictEqual(inTurns(reader, 5, reader, 4), [], "they may come in in any order")
    assert.deepStrictEqual(inTurns(reader, 5, reader, 5), ["token"])
    assert.deepStrictEqual(inTurns(semaphore(1), 5, semaphore(1), 4), [])
    assert.deepStrictEqual(inTurns(semaphore(1), 5, semaphore(1), 5), ["token"])
  })

  it("gives the next writer what a dead reader had, also where another reader came and went meanwhile", () => {
    const [a, b, c] = [has(reader, 0, "a", 1), has(reader, 60, "b", 2), has(writer, 500, "c", 3)]
    const asks = { ...asked(20, "c", c), lock: writer } as Line
    const gone: Line = { t: "gone", who: "a", arrived: 50 }
    const enters = (at: number) => {
      const next = { ...c, at, arrived: at } as Line
      return found(...all(a), gone, ...all(b), asks, exit(80, b), next, enter(at + 1, next), exit(at + 2, next))
    }
    assert.deepStrictEqual(enters(1_040), [], "the dead reader stands until then")
    assert.deepStrictEqual(enters(1_100), ["idle"])
  })
})

describe("the checker, of jobs", () => {
  const event = (at: number, what: "began" | "counted", slot: number, who = "w0.0"): Line => ({
    t: "job",
    key: "job",
    slot,
    what,
    at,
    who,
    arrived: at
  })
  it("finds a run that began after one counted for its slot or a later one", () => {
    assert.deepStrictEqual(found(event(0, "counted", 3), event(1, "began", 4, "w1.0")), [])
    assert.deepStrictEqual(found(event(0, "counted", 3), event(1, "began", 3, "w1.0")), ["repeated"])
    assert.deepStrictEqual(found(event(0, "counted", 4), event(1, "began", 3, "w1.0")), ["repeated"])
    assert.deepStrictEqual(found(event(0, "began", 3), event(1, "counted", 3)), [])
  })

  it("excuses a server that may have forgotten the record", () => {
    const forgot = fault(1, 2, { forgets: "all" })
    assert.deepStrictEqual(found(event(0, "counted", 3), ...forgot, event(3, "began", 3, "w1.0")), [])
  })
})

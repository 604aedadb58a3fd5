// The rules about operators, leaders and observers find what breaks them.
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import type { HeldLease } from "../../packages/dlock/src/internal/lease/heldLease.ts"
import { Checker } from "../src/checker.ts"
import type { Dimension } from "../src/dimensions.ts"
import { mutex } from "../src/lockShape.ts"
import { Log } from "../src/log.ts"
import { Observer } from "../src/observer.ts"
import type { Plan } from "../src/plan.ts"
import * as Plans from "../src/planning.ts"
import { Process } from "../src/process.ts"
import { Section } from "../src/section.ts"
import { ServerLog } from "../src/serverLog.ts"
import { millis, Timeline } from "../src/timeline.ts"

const lock = "dlock:k0"
const asking = { by: "ops", why: "a deploy", grace: 200 }

const world = (dimension: Dimension, some: Partial<Plan> = {}) => {
  const plan: Plan = {
    ...Plans.make(1, "redis"),
    dimensions: new Set([dimension]),
    kind: "mutex",
    keys: ["k0"],
    messageFaultRate: 0,
    notificationFaultRate: 0,
    neverNotified: false,
    longestTtl: 1_000,
    healedAt: 0,
    incidents: [],
    isFaultFree: true,
    ...some
  }
  const timeline = new Timeline()
  const checker = new Checker(timeline, undefined)
  const serverLog = new ServerLog(timeline, plan, checker)
  const observer = new Observer(timeline, new Log(timeline, false), plan, checker, serverLog)
  observer.server = { hasClaim: () => true }
  const process = new Process(timeline, 1, 0, false)
  const own = plan.processes[0]![0]![0]!
  /** A section that has entered with this token. */
  const enters = (token: bigint, id = `claim-${token}`): Section => {
    const section = new Section(process, { ...own, key: "k0", shape: mutex, form: "section", timeout: undefined })
    const claim = { id, guardGap: Duration.millis(100) }
    const ttl = Duration.seconds(1)
    const lease = { state: "held", deadline: process.monotonic() / 1_000 + 60_000, claim, fencingToken: token, ttl }
    section.lease = lease as unknown as HeldLease
    serverLog.confirmUntil(id, Infinity)
    observer.recordRequest(section)
    observer.recordEntry(section)
    return section
  }
  const pass = (ms: number) => {
    timeline.pass(timeline.now + millis(ms))
    observer.checkAll()
  }
  const rule = () => checker.violation?.rule
  return { enters, observer, pass, process, revoked: serverLog.revoked, rule, serverLog, timeline }
}

/** A holder that somebody has asked to leave. */
const marked = (some: Partial<Plan> = {}) => {
  const made = world("revocations", some)
  const section = made.enters(1n)
  made.observer.recordAct(lock, 1n, asking)
  made.revoked.recordMark(lock, section.id!, 1n, made.timeline.now + millis(200))
  return { ...made, section }
}

const lose = ({ lease }: Section, revocation: object | undefined) =>
  Object.assign(lease!, { state: "lost", loss: { reason: "Revoked", revocation } })

describe("S19: a holder is asked to leave rightly and in time", () => {
  it("of whom somebody has named the hold", () => {
    const { observer, revoked, rule } = world("revocations")
    observer.recordAct(lock, 1n, asking)
    revoked.recordMark(lock, "one", 1n, 0)
    assert.isUndefined(rule())
    revoked.recordMark(lock, "two", 2n, 0)
    assert.strictEqual(rule(), "S19")
  })

  it("and a hold that nobody has is not revoked", () => {
    const { observer, rule } = world("revocations")
    observer.checkNothingRevoked(lock, 1n, "released")
    assert.strictEqual(rule(), "S19")
  })

  it.each([[true, "S19"], [false, undefined]] as const)(
    "has ended if the operator is told so: stands %s",
    (stands, expected) => {
      const { observer, revoked, rule } = marked()
      revoked.around = { hasClaim: () => stands, longestLife: () => 0, resumedAt: () => 0 }
      observer.checkRevoked(lock, 1n, "running")
      assert.isUndefined(rule())
      observer.checkRevoked(lock, 1n, "released")
      assert.strictEqual(rule(), expected)
    }
  )

  it("is told at once", () => {
    const { pass, rule } = marked()
    pass(50)
    assert.isUndefined(rule())
    pass(1)
    assert.strictEqual(rule(), "S19")
  })

  it.each([["ops", undefined], ["somebody", "S19"]] as const)("is told by whom: %s", (by, expected) => {
    const { observer, rule, section } = marked()
    observer.recordRevocation(section, { by, why: "a deploy", grace: Duration.millis(200) })
    assert.strictEqual(rule(), expected)
  })

  it("is interrupted at the end of its grace", () => {
    const { observer, pass, rule, section } = marked({ isFaultFree: false })
    observer.recordRevocation(section, { ...asking, grace: Duration.millis(200) })
    pass(203)
    assert.isUndefined(rule())
    pass(3)
    assert.strictEqual(rule(), "S19")
  })

  it.each([
    { after: 201, revocation: asking, expected: undefined },
    { after: 100, revocation: asking, expected: "S19" },
    { after: 201, revocation: undefined, expected: "S19" },
    { after: 201, revocation: { ...asking, by: "me" }, expected: "S19" }
  ])("is lost not before, and says why: $after ms, $revocation", ({ after, expected, revocation }) => {
    const { observer, pass, rule, section, timeline } = marked({ isFaultFree: false })
    timeline.pass(millis(after))
    observer.recordRevocation(section, { ...asking, grace: Duration.millis(200) })
    lose(section, revocation)
    pass(1)
    assert.strictEqual(rule(), expected)
  })
})

describe("S20: a claim whose holder had to leave", () => {
  it("is not extended", () => {
    const { revoked, rule, section } = marked()
    revoked.reportExtension(section.id!, 0)
    assert.strictEqual(rule(), "S20")
  })

  it.each([["stands", true, "S20"], ["has ended", false, undefined]] as const)("ends: it %s", (_, stands, expected) => {
    const { observer, pass, revoked, rule, section } = marked({ isFaultFree: false })
    revoked.around = { hasClaim: () => stands, longestLife: () => millis(1_100), resumedAt: () => 0 }
    lose(section, undefined)
    Object.assign(section.lease!.loss!, { revocation: asking })
    Object.assign(section, { lossSeen: true })
    observer.recordExit(section)
    pass(1_300)
    assert.isUndefined(rule())
    pass(20)
    assert.strictEqual(rule(), expected)
  })
})

describe("S21: a leadership", () => {
  it.each([["held", "S1"], ["released", "S21"]] as const)(
    "is not granted while a program goes on: %s",
    (state, expected) => {
      const { enters, rule, serverLog } = world("leaders", { isFaultFree: false })
      Object.assign(enters(1n).lease!, { state })
      serverLog.recordGrant(lock, "other", 2n)
      assert.strictEqual(rule(), expected)
    }
  )

  it("does not stay empty while somebody stands", () => {
    const { enters, observer, pass, rule } = world("leaders", { isFaultFree: false })
    const section = enters(1n)
    const candidate = observer.leaders.stand(section)
    pass(100)
    Object.assign(section.lease!, { state: "released" })
    observer.recordExit(section)
    candidate.coolFor(2_000)
    pass(6_500)
    assert.isUndefined(rule())
    pass(500)
    assert.strictEqual(rule(), "S21")
  })
})

describe("S22: an observer", () => {
  const sees = (term: bigint | undefined, truth: bigint | undefined) => {
    const made = world("leaders", { isFaultFree: false })
    made.observer.leaders.holderOf = () => truth
    made.observer.leaders.stand(made.enters(1n)).leave()
    made.observer.leaders.recordSighting(lock, made.process, term)
    made.pass(0)
    return made
  }

  it("tells that nobody leads for a second", () => {
    const { pass, rule } = sees(1n, undefined)
    pass(1_500)
    assert.isUndefined(rule())
    pass(1)
    assert.strictEqual(rule(), "S22")
  })

  it.each([[1n, 2n], [undefined, 2n]])("that tells of %s equals the truth in the end", (term, truth) => {
    const { pass, rule } = sees(term, truth)
    pass(6_500)
    assert.isUndefined(rule())
    pass(1)
    assert.strictEqual(rule(), "S22")
  })

  it("is right, or stands still", () => {
    const { pass, rule } = sees(2n, 2n)
    pass(20_000)
    assert.isUndefined(rule())
    const still = sees(1n, undefined)
    still.process.pause(millis(9_000))
    still.pass(8_000)
    assert.isUndefined(still.rule())
  })
})

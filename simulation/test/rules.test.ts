// Each rule finds what breaks it. These worlds are made by hand, with one thing in each.
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Scripts from "../../packages/dlock-redis/src/internal/protocol/index.ts"
import { keysOf } from "../../packages/dlock-redis/src/internal/protocol/keys.ts"
import type { HeldLease } from "../../packages/dlock/src/internal/lease/heldLease.ts"
import { Checker } from "../src/checker.ts"
import type { Dimension } from "../src/dimensions.ts"
import { Log } from "../src/log.ts"
import { type LockState, Observer } from "../src/observer.ts"
import type { Plan, SectionPlan } from "../src/plan.ts"
import * as Plans from "../src/planning.ts"
import { Process } from "../src/process.ts"
import { RedisServer } from "../src/redis/server.ts"
import { search } from "../src/search.ts"
import { Section } from "../src/section.ts"
import { ServerLog } from "../src/serverLog.ts"
import { millis, Timeline } from "../src/timeline.ts"
import type { Variant } from "../src/variants.ts"

const world = (dimension: Dimension, some: Partial<Plan> = {}) => {
  const plan: Plan = {
    ...Plans.make(1, "redis"),
    dimensions: new Set([dimension]),
    capacity: 1,
    keys: ["k0"],
    messageFaultRate: 0,
    notificationFaultRate: 0,
    ...some
  }
  const timeline = new Timeline()
  const checker = new Checker(timeline, undefined)
  const serverLog = new ServerLog(timeline, plan, checker)
  const observer = new Observer(timeline, new Log(timeline, false), plan, checker, serverLog)
  const process = new Process(timeline, 1, 0, false)
  const section = (some: Partial<SectionPlan> = {}) =>
    new Section(process, { ...plan.processes[0]![0]![0]!, key: "k0", form: "section", timeout: undefined, ...some })
  const pass = (ms: number) => {
    timeline.pass(timeline.now + millis(ms))
    observer.checkAll()
  }
  return { checker, serverLog, pass, process, section, timeline, observer }
}

const ruleOf = ({ violation }: Checker) => violation?.rule

describe("S10: no lock is idle although somebody waits", () => {
  const free: LockState = { holder: undefined, process: undefined, since: 0 }
  const waits = (state: LockState) => {
    const made = world("crowds")
    made.observer.server = { hasClaim: () => true, stateOf: () => state }
    made.observer.recordRequest(made.section())
    return made
  }

  it("which is free", () => {
    const { checker, pass } = waits(free)
    pass(199)
    assert.isUndefined(ruleOf(checker))
    pass(2)
    assert.strictEqual(ruleOf(checker), "S10")
  })

  it("which was granted to a claim that does not know", () => {
    const { checker, pass } = waits({ holder: "x", process: 1, since: 0 })
    pass(201)
    assert.strictEqual(ruleOf(checker), "S10")
  })

  it("but for the time that a dead process has it", () => {
    const { checker, pass, process, observer } = waits({ holder: "x", process: 1, since: 0 })
    observer.recordCrash(Object.assign(Object.create(process), { index: 1 }) as Process)
    pass(5_000)
    assert.isUndefined(ruleOf(checker))
  })

  it("for longer than two seconds, where messages are lost", () => {
    const { checker, pass, section, observer } = world("notifications", { notificationFaultRate: 0.1 })
    observer.server = { hasClaim: () => true, stateOf: () => ({ holder: "x", process: 0, since: 0 }) }
    observer.recordRequest(section())
    pass(2_099)
    assert.isUndefined(ruleOf(checker))
    pass(2)
    assert.strictEqual(ruleOf(checker), "S10")
  })

  it("counted from the end of a pause of the waiting process", () => {
    const { checker, pass, process } = waits(free)
    process.pause(millis(1_000))
    pass(1_100)
    assert.isUndefined(ruleOf(checker))
    pass(101)
    assert.strictEqual(ruleOf(checker), "S10")
  })
})

describe("S11: no call fails while server and network are healthy", () => {
  it("with an error of the backend", () => {
    const { checker, section, observer } = world("stalls", { isHealthy: true })
    const one = section()
    observer.recordRequest(one)
    observer.recordEnd(one, "backend failed")
    assert.strictEqual(ruleOf(checker), "S11")
  })

  it("but it may be out of time, or busy", () => {
    const { checker, section, observer } = world("stalls", { isHealthy: true })
    for (const outcome of ["timed out", "busy", "interrupted", "lost", "done"] as const) {
      const one = section()
      observer.recordRequest(one)
      observer.recordEnd(one, outcome)
    }
    assert.isUndefined(ruleOf(checker))
  })

  it("or the server may have refused something since the request", () => {
    const { checker, pass, section, observer } = world("refusals", { isHealthy: true })
    const refusedAt = 0
    observer.server = { hasClaim: () => true, hasRefusedSince: (since) => since <= refusedAt }
    const one = section()
    observer.recordRequest(one)
    observer.recordEnd(one, "backend failed")
    assert.isUndefined(ruleOf(checker))
    pass(100)
    const other = section()
    observer.recordRequest(other)
    observer.recordEnd(other, "backend failed")
    assert.strictEqual(ruleOf(checker), "S11")
  })
})

describe("S7: no healthy lock is given up", () => {
  it.each([["Unreachable", "S7"], ["Expired", "S7"], ["Revoked", undefined]] as const)(
    "without a fault: %s",
    (reason, rule) => {
      const { checker, pass, section, observer } = world("refusals", { isHealthy: true, backend: "etcd" })
      const one = section()
      const claim = { id: "mine", guardGap: Duration.seconds(1) }
      const ttl = Duration.seconds(2)
      const lease = { state: "held", deadline: 1_000_000, claim, fencingToken: 1n, ttl }
      one.lease = lease as unknown as HeldLease
      observer.server = { hasClaim: () => false, hasRefusedSince: () => false }
      observer.recordRequest(one)
      observer.recordEntry(one)
      Object.assign(lease, { state: "lost", loss: { reason } })
      pass(1)
      assert.strictEqual(ruleOf(checker), rule)
    }
  )
})

describe("S12: a program that loses its lock has the guard gap to end before the next holder is inside", () => {
  const loses = (reason: "Revoked" | "Expired") => {
    const made = world("closing")
    const one = made.section()
    const claim = { id: "mine", guardGap: Duration.seconds(1) }
    const lease = { state: "held", deadline: 1_000_000, claim, fencingToken: 1n }
    one.lease = lease as HeldLease
    made.observer.recordRequest(one)
    made.observer.recordEntry(one)
    Object.assign(lease, { state: "lost", loss: { reason } })
    made.pass(1)
    return made
  }

  it("where its locker was closed", () => {
    const { checker, serverLog, pass } = loses("Revoked")
    pass(790)
    serverLog.recordGrant("dlock:k0", "other", 2n)
    assert.strictEqual(ruleOf(checker), "S12")
  })

  it("and no longer", () => {
    const { checker, serverLog, pass } = loses("Revoked")
    pass(810)
    serverLog.recordGrant("dlock:k0", "other", 2n)
    assert.isUndefined(ruleOf(checker))
  })

  it("unless the server has dropped the claim", () => {
    const { checker, serverLog } = loses("Expired")
    serverLog.recordGrant("dlock:k0", "other", 2n)
    assert.isUndefined(ruleOf(checker))
  })
})

describe("S13: a caller gets its answer within its time limit", () => {
  const ends = (some: Partial<SectionPlan>, ms: number, interruptedAt?: number) => {
    const { checker, pass, section, observer } = world("time-limits")
    const one = section({ ttl: 60_000, ...some })
    observer.recordRequest(one)
    if (interruptedAt !== undefined) {
      pass(interruptedAt)
      one.interrupted = true
      one.expectAnswerFromNow()
    }
    pass(ms)
    observer.recordEnd(one, "backend failed")
    return ruleOf(checker)
  }

  it.each(
    [
      ["a timeout", { timeout: 500 }, 599, undefined, undefined],
      ["a timeout", { timeout: 500 }, 601, undefined, "S13"],
      ["a try", { form: "trySection" }, 1_099, undefined, undefined],
      ["a try", { form: "tryScope" }, 1_101, undefined, "S13"],
      ["an interrupt", {}, 99, 3_000, undefined],
      ["an interrupt", {}, 101, 3_000, "S13"],
      ["no limit", {}, 10_000, undefined, undefined]
    ] as const
  )("%s %j after %d ms", (_, some, ms, interruptedAt, rule) => {
    assert.strictEqual(ends(some, ms, interruptedAt), rule)
  })

  it("does not count a pause", () => {
    const { checker, pass, process, section, observer } = world("time-limits")
    const one = section({ timeout: 500, ttl: 60_000 })
    observer.recordRequest(one)
    process.pause(millis(5_000))
    pass(5_550)
    observer.recordEnd(one, "timed out")
    assert.isUndefined(ruleOf(checker))
  })
})

describe("S4: nothing is left at the server", () => {
  it("nor a tombstone of a claim on etcd that was refused", () => {
    const { checker, serverLog } = world("refusals")
    serverLog.recordSent("mine")
    serverLog.recordTombstone("mine")
    assert.isUndefined(ruleOf(checker))
    serverLog.recordAnswer("mine", 5)
    serverLog.recordTombstone("mine")
    assert.strictEqual(ruleOf(checker), "S4")
  })

  it("nor a tombstone of a claim without an unanswered request", () => {
    const { checker, serverLog, timeline } = world("tombstones")
    const server = new RedisServer(timeline, serverLog, {})
    const keys = keysOf("dlock:k0")!
    const call = Scripts.release.encode({ keys, id: "mine", capacity: 1, tombstone: true, interop: false })
    server.execute("eval", Scripts.release.lua, call.keys, call.args)
    assert.deepStrictEqual(server.needlessTombstones(), ["a tombstone of mine on dlock:k0"])
    serverLog.recordSent("mine")
    assert.isEmpty(server.needlessTombstones())
    serverLog.recordAnswer("mine", 51)
    assert.isEmpty(server.needlessTombstones())
    serverLog.recordAnswer("mine", 49)
    assert.isNotEmpty(server.needlessTombstones())
    assert.isUndefined(ruleOf(checker))
  })
})

describe("a server that refuses a process for a while", () => {
  it("ends no lock early: a store that takes a refusal for an expiry is caught", () => {
    const hasty: Variant = {
      name: "refusal-taken-for-expiry",
      store: (store) => ({
        ...store,
        renew: (held) =>
          Effect.map(
            store.renew(held),
            (answers) =>
              answers.map((answer) => answer._tag === "Unknown" && !answer.error.retryable ? { _tag: "Gone" } : answer)
          )
      })
    }
    const extra = new Set(["handshakes"] as const)
    const limits = { from: 1, seeds: 1_000, seconds: 60 }
    const { rule, seeds } = search(hasty, "redis", limits, undefined, extra)
    assert.strictEqual(rule, "S7", `after ${seeds} seeds`)
    console.log(`a refusal taken for an expiry: S7 after ${seeds} seeds`)
  })
})

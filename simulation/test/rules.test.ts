// Each rule finds what breaks it: here in worlds that are made up, one thing at a time.
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Scripts from "../../packages/dlock-redis/src/internal/protocol/index.ts"
import { keysOf } from "../../packages/dlock-redis/src/internal/protocol/keys.ts"
import type { HeldLease } from "../../packages/dlock/src/internal/lease/heldLease.ts"
import type { Dimension } from "../src/dimensions.ts"
import { hunt } from "../src/hunt.ts"
import { Judge } from "../src/judge.ts"
import { Ledger } from "../src/ledger.ts"
import { Log } from "../src/log.ts"
import type { Plan, SectionPlan } from "../src/plan.ts"
import * as Plans from "../src/planning.ts"
import { Process } from "../src/process.ts"
import { RedisServer } from "../src/redis/server.ts"
import { Section } from "../src/section.ts"
import { millis, Timeline } from "../src/timeline.ts"
import type { Variant } from "../src/variants.ts"
import { type Stand, Witness } from "../src/witness.ts"

const world = (dimension: Dimension, some: Partial<Plan> = {}) => {
  const plan: Plan = {
    ...Plans.make(1, "redis"),
    has: new Set([dimension]),
    capacity: 1,
    keys: ["k0"],
    often: 0,
    oftenPushes: 0,
    ...some
  }
  const timeline = new Timeline()
  const judge = new Judge(timeline, undefined)
  const ledger = new Ledger(timeline, plan, judge)
  const witness = new Witness(timeline, new Log(timeline, false), plan, judge, ledger)
  const process = new Process(timeline, 1, 0, false)
  const section = (some: Partial<SectionPlan> = {}) =>
    new Section(process, { ...plan.processes[0]![0]![0]!, key: "k0", form: "section", timeout: undefined, ...some })
  const pass = (ms: number) => {
    timeline.pass(timeline.now + millis(ms))
    witness.look()
  }
  return { judge, ledger, pass, process, section, timeline, witness }
}

const ruleOf = ({ violation }: Judge) => violation?.rule

describe("S10: no lock is idle although somebody waits", () => {
  const free: Stand = { holder: undefined, process: undefined, since: 0 }
  const waits = (stand: Stand) => {
    const made = world("crowds")
    made.witness.server = { knows: () => true, stand: () => stand }
    made.witness.asks(made.section())
    return made
  }

  it("which is free", () => {
    const { judge, pass } = waits(free)
    pass(199)
    assert.isUndefined(ruleOf(judge))
    pass(2)
    assert.strictEqual(ruleOf(judge), "S10")
  })

  it("which was granted to one who has not heard of it", () => {
    const { judge, pass } = waits({ holder: "x", process: 1, since: 0 })
    pass(201)
    assert.strictEqual(ruleOf(judge), "S10")
  })

  it("but for the time that a dead process has it", () => {
    const { judge, pass, process, witness } = waits({ holder: "x", process: 1, since: 0 })
    witness.crashes(Object.assign(Object.create(process), { index: 1 }) as Process)
    pass(5_000)
    assert.isUndefined(ruleOf(judge))
  })

  it("for longer than two seconds, where messages are lost", () => {
    const { judge, pass, section, witness } = world("pushes", { oftenPushes: 0.1 })
    witness.server = { knows: () => true, stand: () => ({ holder: "x", process: 0, since: 0 }) }
    witness.asks(section())
    pass(2_099)
    assert.isUndefined(ruleOf(judge))
    pass(2)
    assert.strictEqual(ruleOf(judge), "S10")
  })

  it("counted from when the process that waits woke", () => {
    const { judge, pass, process } = waits(free)
    process.pause(millis(1_000))
    pass(1_100)
    assert.isUndefined(ruleOf(judge))
    pass(101)
    assert.strictEqual(ruleOf(judge), "S10")
  })
})

describe("S11: no call fails on a server and a network that are whole", () => {
  it("with an error of the backend", () => {
    const { judge, section, witness } = world("sockets", { isWhole: true })
    const one = section()
    witness.asks(one)
    witness.ends(one, "backend failed")
    assert.strictEqual(ruleOf(judge), "S11")
  })

  it("but it may be out of time, or busy", () => {
    const { judge, section, witness } = world("sockets", { isWhole: true })
    for (const outcome of ["timed out", "busy", "interrupted", "lost", "done"] as const) {
      const one = section()
      witness.asks(one)
      witness.ends(one, outcome)
    }
    assert.isUndefined(ruleOf(judge))
  })

  it("or have met what the server refuses, since it asked", () => {
    const { judge, pass, section, witness } = world("refusals", { isWhole: true })
    const refusedAt = 0
    witness.server = { knows: () => true, excuses: (since) => since <= refusedAt }
    const one = section()
    witness.asks(one)
    witness.ends(one, "backend failed")
    assert.isUndefined(ruleOf(judge))
    pass(100)
    const other = section()
    witness.asks(other)
    witness.ends(other, "backend failed")
    assert.strictEqual(ruleOf(judge), "S11")
  })
})

describe("S7: no good lock is thrown away", () => {
  it.each([["Unreachable", "S7"], ["Expired", "S7"], ["Revoked", undefined]] as const)(
    "where nothing is wrong: %s",
    (reason, rule) => {
      const { judge, pass, section, witness } = world("refusals", { isWhole: true, backend: "etcd" })
      const one = section()
      const claim = { id: "mine", guardGap: Duration.seconds(1) }
      const ttl = Duration.seconds(2)
      const holding = { state: "held", deadline: 1_000_000, claim, fencingToken: 1n, ttl }
      one.holding = holding as unknown as HeldLease
      witness.server = { knows: () => false, excuses: () => false }
      witness.asks(one)
      witness.enters(one)
      Object.assign(holding, { state: "lost", loss: { reason } })
      pass(1)
      assert.strictEqual(ruleOf(judge), rule)
    }
  )
})

describe("S12: whoever loses a lock has the guard gap to end before the next is in", () => {
  const loses = (reason: "Revoked" | "Expired") => {
    const made = world("closing")
    const one = made.section()
    const claim = { id: "mine", guardGap: Duration.seconds(1) }
    const holding = { state: "held", deadline: 1_000_000, claim, fencingToken: 1n }
    one.holding = holding as HeldLease
    made.witness.asks(one)
    made.witness.enters(one)
    Object.assign(holding, { state: "lost", loss: { reason } })
    made.pass(1)
    return made
  }

  it("where its locker was closed", () => {
    const { judge, ledger, pass } = loses("Revoked")
    pass(790)
    ledger.serverGranted("dlock:k0", "other", 2n)
    assert.strictEqual(ruleOf(judge), "S12")
  })

  it("and no longer", () => {
    const { judge, ledger, pass } = loses("Revoked")
    pass(810)
    ledger.serverGranted("dlock:k0", "other", 2n)
    assert.isUndefined(ruleOf(judge))
  })

  it("unless the server has let go of it", () => {
    const { judge, ledger } = loses("Expired")
    ledger.serverGranted("dlock:k0", "other", 2n)
    assert.isUndefined(ruleOf(judge))
  })
})

describe("S13: whoever asks is answered within the time that it gave", () => {
  const ends = (some: Partial<SectionPlan>, ms: number, interruptedAt?: number) => {
    const { judge, pass, section, witness } = world("callers")
    const one = section({ ttl: 60_000, ...some })
    witness.asks(one)
    if (interruptedAt !== undefined) {
      pass(interruptedAt)
      one.interrupted = true
      one.mustBeAnswered()
    }
    pass(ms)
    witness.ends(one, "backend failed")
    return ruleOf(judge)
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
    const { judge, pass, process, section, witness } = world("callers")
    const one = section({ timeout: 500, ttl: 60_000 })
    witness.asks(one)
    process.pause(millis(5_000))
    pass(5_550)
    witness.ends(one, "timed out")
    assert.isUndefined(ruleOf(judge))
  })
})

describe("S4: nothing is left at the server", () => {
  it("nor a mark of a claim on etcd that was refused", () => {
    const { judge, ledger } = world("refusals")
    ledger.doubts("mine")
    ledger.marked("mine")
    assert.isUndefined(ruleOf(judge))
    ledger.answered("mine", 5)
    ledger.marked("mine")
    assert.strictEqual(ruleOf(judge), "S4")
  })

  it("nor a mark of a claim that is not in doubt", () => {
    const { judge, ledger, timeline } = world("marks")
    const server = new RedisServer(timeline, ledger, {})
    const keys = keysOf("dlock:k0")!
    const call = Scripts.release.encode({ keys, id: "mine", capacity: 1, tombstone: true, interop: false })
    server.execute("eval", Scripts.release.lua, call.keys, call.args)
    assert.deepStrictEqual(server.needlessTombstones(), ["a mark of mine on dlock:k0"])
    ledger.doubts("mine")
    assert.isEmpty(server.needlessTombstones())
    ledger.answered("mine", 51)
    assert.isEmpty(server.needlessTombstones())
    ledger.answered("mine", 49)
    assert.isNotEmpty(server.needlessTombstones())
    assert.isUndefined(ruleOf(judge))
  })
})

describe("a server that refuses a process for a while", () => {
  it("ends no lock before its time: who takes a refusal for an end is caught", () => {
    const hasty: Variant = {
      name: "refusal-is-end",
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
    const besides = new Set(["greetings"] as const)
    const limits = { from: 1, seeds: 1_000, seconds: 60 }
    const { rule, seeds } = hunt(hasty, "redis", limits, undefined, besides)
    assert.strictEqual(rule, "S7", `after ${seeds} seeds`)
    console.log(`a refusal taken for an end: S7 after ${seeds} seeds`)
  })
})

// Each rule finds what breaks it. These worlds are made by hand, with one thing in each.
import { assert, describe, it } from "@effect/vitest"
import { type Claim, readWriteCapacity } from "effect-dlock/LockStore"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Scripts from "../../packages/dlock-redis/src/internal/protocol/index.ts"
import { keysOf } from "../../packages/dlock-redis/src/internal/protocol/keys.ts"
import type { HeldLease } from "../../packages/dlock/src/internal/lease/heldLease.ts"
import { Checker } from "../src/checker.ts"
import type { Dimension } from "../src/dimensions.ts"
import type { LockShape } from "../src/lockShape.ts"
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
    kind: "mutex",
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

describe("S18: a section is interrupted at its cap, and others are in after its end or at the bound", () => {
  const caps = (some: Partial<Plan> = {}) => {
    const made = world("caps", { incidents: [], isHealthy: true, ...some })
    const one = made.section({ maxHold: 1_000 })
    const claim = { id: "mine", guardGap: Duration.seconds(1) }
    // Clocks of processes do not begin at 0.
    const deadline = made.process.monotonic() / 1_000 + 10_000
    const lease = { state: "held", isKept: false, deadline, claim, fencingToken: 1n, ttl: Duration.seconds(10) }
    one.lease = lease as unknown as HeldLease
    made.observer.server = { hasClaim: () => true }
    made.serverLog.confirmUntil("mine", millis(deadline))
    made.observer.recordRequest(one)
    made.observer.recordEntry(one)
    const outstay = (isKept: boolean) => Object.assign(lease, { state: "lost", loss: { reason: "MaxHold" }, isKept })
    return { ...made, outstay, rule: () => ruleOf(made.checker) }
  }

  it("which is not interrupted", () => {
    const { pass, rule } = caps()
    pass(1_003)
    assert.isUndefined(rule())
    pass(2)
    assert.strictEqual(rule(), "S18")
  })

  it("which is interrupted too early", () => {
    const { outstay, pass, rule } = caps()
    outstay(true)
    pass(999)
    assert.strictEqual(rule(), "S18")
  })

  it.each([[true, "S1"], [false, "S18"]] as const)(
    "where another is in before its end, and its claim is kept: %s",
    (isKept, broken) => {
      const { outstay, pass, rule, serverLog } = caps()
      pass(1_000)
      outstay(isKept)
      pass(8_000)
      serverLog.recordGrant("dlock:k0", "other", 2n)
      assert.strictEqual(rule(), broken)
    }
  )

  it("and not where its claim has run out", () => {
    const { outstay, pass, rule, serverLog } = caps()
    pass(1_000)
    outstay(false)
    pass(9_810)
    serverLog.recordGrant("dlock:k0", "other", 2n)
    assert.isUndefined(rule())
  })

  it("which keeps its claim for longer than its bound, where nothing is wrong", () => {
    for (const isHealthy of [true, false]) {
      const { outstay, pass, rule } = caps({ isHealthy })
      pass(1_000)
      outstay(false)
      pass(12_499)
      assert.isUndefined(rule())
      pass(2)
      assert.strictEqual(rule(), isHealthy ? "S18" : undefined)
    }
  })
})

describe("S13: a caller gets its answer within its time limit", () => {
  const ends = (some: Partial<SectionPlan>, ms: number, interruptedAt?: number) => {
    const { checker, pass, section, observer } = world("time-limits")
    const one = section({ ttl: 60_000, ...some })
    observer.recordRequest(one)
    if (interruptedAt !== undefined) {
      pass(interruptedAt)
      one.interrupt()
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
    const call = Scripts.release.encode({ keys, id: "mine", kind: "mutex", tombstone: true, interop: false })
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

describe("locks that several hold", () => {
  const reader = { kind: "readWrite", permits: 1, capacity: readWriteCapacity } as const
  const writer = { ...reader, permits: readWriteCapacity }
  const permits = (permits: number, capacity: number): LockShape => ({ kind: "semaphore", permits, capacity })
  const shared = (kind: "semaphore" | "readWrite", some: Partial<Plan> = {}) => {
    const made = world("tombstones", { kind, isFaultFree: false, ...some })
    const asks = (id: string, shape: LockShape) => {
      const claim = { id, ...shape, guardGap: Duration.seconds(1) } as unknown as Claim
      made.serverLog.recordShape(claim)
      made.serverLog.recordArrival("dlock:k0", id, true)
      return claim
    }
    const enters = (id: string, shape: LockShape, token: bigint) => {
      const claim = asks(id, shape)
      const one = made.section({ shape })
      made.observer.recordRequest(one)
      made.serverLog.recordGrant("dlock:k0", id, token)
      one.lease = { state: "held", deadline: 1_000_000, claim, fencingToken: token } as unknown as HeldLease
      made.observer.recordEntry(one)
      return one
    }
    return { ...made, asks, enters, rule: () => ruleOf(made.checker) }
  }

  it("S1: have as many permits inside as there are, and no more", () => {
    const { enters, rule } = shared("semaphore")
    enters("a", permits(2, 3), 1n)
    enters("b", permits(1, 3), 2n)
    assert.isUndefined(rule())
    enters("c", permits(1, 3), 3n)
    assert.strictEqual(rule(), "S1")
  })

  it.each([[permits(2, 4), permits(1, 2)], [permits(1, 2), permits(2, 4)]] as const)(
    "S1: the smallest capacity of those inside counts, %j before %j",
    (first, second) => {
      const { enters, rule } = shared("semaphore")
      enters("a", first, 1n)
      assert.isUndefined(rule())
      enters("b", second, 2n)
      assert.strictEqual(rule(), "S1")
    }
  )

  it("S1: two that were granted before either was inside are counted when they enter", () => {
    const { asks, checker, observer, rule, section, serverLog } = shared("semaphore")
    const [first, second] = ["a", "b"].map((id) => {
      const claim = asks(id, permits(2, 3))
      const one = section({ shape: permits(2, 3) })
      observer.recordRequest(one)
      one.lease = { state: "held", deadline: 1_000_000, claim, fencingToken: id === "a" ? 1n : 2n } as HeldLease
      return one
    }) as [Section, Section]
    serverLog.recordGrant("dlock:k0", "a", 1n)
    serverLog.recordGrant("dlock:k0", "b", 2n)
    observer.recordEntry(first)
    assert.isUndefined(checker.violation)
    observer.recordEntry(second)
    assert.strictEqual(rule(), "S1")
  })

  it("S1: a writer is beside nobody, readers are beside each other", () => {
    const { enters, rule } = shared("readWrite")
    enters("a", reader, 1n)
    enters("b", reader, 2n)
    assert.isUndefined(rule())
    enters("c", writer, 3n)
    assert.strictEqual(rule(), "S1")
  })

  it("S1: a writer that lets readers in still keeps writers out", () => {
    const { enters, observer, rule } = shared("readWrite")
    const first = enters("a", writer, 1n)
    observer.recordDowngrade(first)
    enters("b", reader, 2n)
    observer.recordStep(first)
    assert.isUndefined(rule())
    enters("c", writer, 3n)
    assert.strictEqual(rule(), "S1")
  })

  it("S1: a reader that takes a step after a later writer is found", () => {
    const { enters, observer, rule } = shared("readWrite")
    const first = enters("a", reader, 1n)
    observer.recordStep(first)
    const second = enters("b", reader, 3n)
    // Let in as a reader, it works as a writer.
    Object.assign(second, { plan: { ...second.plan, shape: writer } })
    observer.recordStep(second)
    assert.isUndefined(rule())
    observer.recordStep(first)
    assert.strictEqual(rule(), "S1")
  })

  it.each([[reader, 5n, writer, 4n], [writer, 5n, reader, 4n], [reader, 5n, reader, 5n]] as const)(
    "S2: %j enters with %d, then %j with %d",
    (first, earlier, second, later) => {
      const { enters, observer, rule } = shared("readWrite")
      observer.recordExit(enters("a", first, earlier))
      enters("b", second, later)
      assert.strictEqual(rule(), "S2")
    }
  )

  it("S9: no claim is granted while an earlier one waits, unless the server does not reach its process", () => {
    const grant = (waits: boolean) => {
      const { asks, rule, serverLog } = shared("readWrite")
      asks("writer", writer)
      asks("reader", reader)
      serverLog.recordGrant("dlock:k0", "reader", 1n, () => waits)
      return rule()
    }
    assert.strictEqual(grant(true), "S9")
    assert.isUndefined(grant(false))
  })

  it("S9: without faults who was granted is inside at once", () => {
    const enter = (ms: number) => {
      const { asks, observer, pass, rule, section, serverLog } = shared("semaphore", { isFaultFree: true })
      const claim = asks("a", permits(1, 3))
      const one = section({ shape: permits(1, 3) })
      observer.recordRequest(one)
      serverLog.recordGrant("dlock:k0", "a", 1n)
      pass(ms)
      one.lease = { state: "held", deadline: 1_000_000, claim, fencingToken: 1n } as HeldLease
      observer.recordEntry(one)
      return rule()
    }
    assert.isUndefined(enter(29))
    assert.strictEqual(enter(31), "S9")
  })

  it("S10: no permits are free that the first waiter is content with", () => {
    const waits = (isIdle: (ms: number) => boolean, pausedFor = 0) => {
      const { observer, pass, process, rule, section, timeline } = shared("semaphore", { isFaultFree: true })
      const idleWaiterOf = () => isIdle(timeline.now / 1_000) ? { id: "a", process: 0 } : undefined
      observer.server = { hasClaim: () => true, idleWaiterOf }
      observer.recordRequest(section({ shape: permits(1, 3) }))
      if (pausedFor > 0) process.pause(millis(pausedFor))
      for (let ms = 0; ms < 300; ms += 10) pass(10)
      return rule()
    }
    assert.strictEqual(waits(() => true), "S10")
    assert.isUndefined(waits((ms) => ms % 150 > 20))
    assert.isUndefined(waits(() => true, 200))
  })

  it("S10: where processes stand still, the next waiter finds free permits after two seconds at most", () => {
    const { checker, observer, pass, section } = shared("semaphore", { dimensions: new Set(["stalls"]) })
    observer.server = { hasClaim: () => true, idleWaiterOf: () => ({ id: "a", process: 0 }) }
    observer.recordRequest(section({ shape: permits(1, 3) }))
    pass(1)
    pass(2_100)
    assert.isUndefined(ruleOf(checker))
    pass(2)
    assert.strictEqual(ruleOf(checker), "S10")
  })

  it("S14: the server counts the permits of its holders", () => {
    const { rule, serverLog } = shared("semaphore")
    serverLog.checkSum("dlock:k0", 3, 3)
    serverLog.checkSum("dlock:k0", undefined, 3)
    assert.isUndefined(rule())
    serverLog.checkSum("dlock:k0", 3, 2)
    assert.strictEqual(rule(), "S14")
  })
})

describe("S16: a program that re-enters shares the lease of its section", () => {
  it("and has no other, nor one of its own", () => {
    const { checker, observer, section } = world("re-entries")
    const [lease, other] = [{}, {}] as ReadonlyArray<unknown> as [HeldLease, HeldLease]
    const one = section()
    one.lease = lease
    observer.recordReentry(one, lease)
    assert.isUndefined(ruleOf(checker))
    observer.recordReentry(one, other)
    assert.strictEqual(ruleOf(checker), "S16")
    assert.strictEqual(checker.counts.reentries, 2)
  })
})

import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Exit, Fiber } from "effect"
import * as Ioredis from "ioredis"
import { closed, connectionLost, notSent, silent } from "../../src/internal/client/failure.ts"
import type { CallFailure, Reply } from "../../src/internal/client/port.ts"
import { Window } from "../../src/internal/client/window/window.ts"
import { Windows } from "../../src/internal/client/window/windows.ts"
import * as Scripts from "../../src/internal/protocol/index.ts"
import { keysOf } from "../../src/internal/protocol/keys.ts"
import { TrackedClaim } from "../../src/internal/store/trackedClaim.ts"
import { plainClaim, plainTelemetry } from "../model/port.ts"

interface Sent {
  readonly name: string
  readonly id: string
  readonly reply: (raw: unknown) => void
}

/**
 * A window of calls that take at most 1 second, over a client whose replies the test sends, on a clock that the test
 * moves.
 */
const setting = (kind: "server" | "cluster" = "server") => {
  let now = 0
  const state = { ready: true, silences: 0, doubts: 0, whyNot: notSent, reading: () => {} }
  const timers = new Set<{ readonly at: number; readonly run: () => void }>()
  const sent: Array<Sent> = []
  const nameOf = (program: string) =>
    [Scripts.renew, Scripts.release, Scripts.acquire].find(({ lua, sha }) => sha === program || lua === program)!.name
  const clock = { monotonicTimeNanosUnsafe: () => BigInt(now) * 1_000_000n } as Clock.Clock
  const window = new Window({
    isReady: () => state.ready,
    whyNotReady: () => state.whyNot,
    send: (_command, program, call) => {
      const { promise, resolve } = Promise.withResolvers<unknown>()
      sent.push({ name: nameOf(program), id: call.args[0]!, reply: resolve })
      return promise
    }
  }, {
    telemetry: plainTelemetry,
    clock,
    longest: 1_000,
    ...(kind === "server" ? { onSilence: () => state.silences++ } : { onDoubt: () => state.doubts++ }),
    timers: {
      now: () => now,
      after: (millis, run) => {
        const timer = { at: now + millis, run }
        timers.add(timer)
        return () => void timers.delete(timer)
      },
      afterReading: (run) => {
        state.reading()
        const immediate = setImmediate(run)
        return () => clearImmediate(immediate)
      }
    }
  })
  const lock = keysOf("k")!
  const run = (name: "acquire" | "release" | "renew", id: string, limit?: number) => {
    const call: Effect.Effect<Reply<unknown>, CallFailure> = name === "renew"
      ? window.run(
        Scripts.renew,
        {
          claims: [{ keys: lock, id, token: 1n, ttl: 1, guard: 1, kind: "mutex", permits: 1, capacity: 1 }]
        },
        undefined,
        limit
      )
      : name === "release"
      ? window.run(
        Scripts.release,
        { keys: lock, id, kind: "mutex", tombstone: false, interop: false },
        undefined,
        limit
      )
      : window.run(
        Scripts.acquire,
        {
          keys: lock,
          id,
          inbox: "",
          ttl: 1,
          guard: 1,
          kind: "mutex",
          permits: 1,
          capacity: 1,
          mode: "queue",
          label: ""
        },
        undefined,
        limit
      )
    return Effect.runFork(call)
  }
  return {
    window,
    lock,
    sent,
    state,
    run,
    crowd: (count: number) => Array.from({ length: count }, (_, index) => run("acquire", `a${index}`)),
    timers: () => timers.size,
    turnTo: async (at: number) => {
      for (; now < at; now++) {
        for (const timer of Array.from(timers)) {
          if (timer.at > now || !timers.delete(timer)) continue
          timer.run()
          for (let turn = 0; turn < 10; turn++) await settled()
        }
      }
    },
    /** The thread is busy until then: no timer fires, and nothing is read. */
    jumpTo: (at: number) => {
      now = at
    }
  }
}

const settled = () => new Promise((resolve) => setImmediate(resolve))

const failureOf = (fiber: Fiber.Fiber<unknown, CallFailure>): CallFailure | undefined => {
  const exit = fiber.pollUnsafe()
  return exit !== undefined && Exit.isFailure(exit)
    ? (exit.cause.reasons[0] as { error: CallFailure }).error
    : undefined
}

describe("a window", () => {
  it("lets renewals pass a crowd, and releases before acquires", async () => {
    const { crowd, run, sent } = setting()
    crowd(1_000)
    assert.strictEqual(sent.length, 256)
    run("release", "released")
    run("renew", "renewed")
    assert.strictEqual(sent.length, 257)
    assert.strictEqual(sent.at(-1)!.name, "renew")
    // With the renewal, one call more than the width of the window is in flight. So the first reply makes no room, and
    // the second does.
    sent[0]!.reply("1")
    sent[1]!.reply("1")
    await settled()
    assert.deepStrictEqual(sent.slice(257).map(({ id }) => id), ["released"])
    sent[2]!.reply("1")
    await settled()
    assert.strictEqual(sent.at(-1)!.id, "a256")
  })

  it("counts limits from the sending: what waits does not fail, and a late answer counts from when it was asked", async () => {
    const { crowd, sent, turnTo } = setting()
    const fibers = crowd(257)
    await turnTo(900)
    sent[0]!.reply("1")
    await settled()
    assert.strictEqual(sent.length, 257)
    for (const { reply } of sent.slice(1, 256)) reply("1")
    await settled()
    await turnTo(1_800)
    assert.isUndefined(fibers[256]!.pollUnsafe())
    sent[256]!.reply("1")
    await settled()
    const last = await Effect.runPromise(Fiber.join(fibers[256]!))
    assert.strictEqual(last.sentAt, 900_000_000n)
  })

  it("knows when it last had a reply, which is no silence and no loss of the connection", async () => {
    const { crowd, sent, turnTo, window } = setting()
    assert.isUndefined(window.heardAt)
    const fibers = crowd(2)
    await turnTo(100)
    sent[0]!.reply("1")
    await settled()
    await turnTo(1_200)
    await Promise.all(fibers.map((fiber) => Effect.runPromise(Effect.exit(Fiber.join(fiber)))))
    window.lose()
    assert.strictEqual(window.heardAt, 100_000_000n)
  })

  it("never sends what was interrupted before its turn", async () => {
    const { crowd, sent } = setting()
    const fibers = crowd(300)
    await Effect.runPromise(Fiber.interruptAll(fibers.slice(256, 299)))
    for (const { reply } of sent.slice()) reply("1")
    await settled()
    assert.deepStrictEqual(sent.slice(256).map(({ id }) => id), ["a299"])
  })

  it("never sends what is of a claim that is being withdrawn", async () => {
    const { crowd, lock, sent, window } = setting()
    crowd(256)
    const tracked = new TrackedClaim({ ...plainClaim, id: "late" }, lock, plainTelemetry)
    const claim = { keys: lock, id: "late", kind: "mutex", permits: 1, capacity: 1 } as const
    const args = { ...claim, inbox: "", ttl: 1, guard: 1, label: "" } as const
    const late = Effect.runFork(window.run(Scripts.acquire, { ...args, mode: "queue" }, tracked))
    tracked.state = "withdrawing"
    for (const { reply } of sent.slice()) reply("1")
    await settled()
    assert.strictEqual(sent.length, 256)
    assert.strictEqual(failureOf(late), notSent)
    assert.isTrue(tracked.isUnheardOf)
  })

  it("calls nothing silent before its socket was read", async () => {
    const { jumpTo, run, sent, state, turnTo } = setting()
    const fiber = run("acquire", "a")
    await turnTo(1)
    // The thread was busy for three seconds. The reply has been in the socket for long.
    state.reading = () => sent[0]!.reply("7")
    jumpTo(3_000)
    await turnTo(3_001)
    await settled()
    const reply = await Effect.runPromise(Fiber.join(fiber))
    assert.deepStrictEqual(reply.value, {
      _tag: "Granted",
      token: 7n,
      isContended: false,
      otherCapacity: undefined,
      more: false
    })
    assert.strictEqual(state.silences, 0)
  })

  it("calls nothing silent whose limit passes between the timer and the reading", async () => {
    const { jumpTo, run, sent, state, turnTo } = setting("cluster")
    const first = run("acquire", "a", 300)
    await turnTo(10)
    const second = run("acquire", "b", 300)
    state.reading = () => {
      state.reading = () => sent[1]!.reply("7")
      jumpTo(3_000)
    }
    await turnTo(302)
    assert.strictEqual(failureOf(first), silent)
    await turnTo(3_002)
    assert.deepStrictEqual((await Effect.runPromise(Fiber.join(second))).value, {
      _tag: "Granted",
      token: 7n,
      isContended: false,
      otherCapacity: undefined,
      more: false
    })
  })

  it("fails each after its limit, by one timer", async () => {
    const { run, timers, turnTo } = setting("cluster")
    const fibers = Array.from({ length: 20 }, (_, index) => run("acquire", "a", index % 2 === 0 ? 300 : undefined))
    assert.strictEqual(timers(), 1)
    await turnTo(302)
    assert.deepStrictEqual(fibers.map(failureOf), fibers.map((_, index) => index % 2 === 0 ? silent : undefined))
    await turnTo(1_002)
    assert.deepStrictEqual(fibers.map(failureOf), fibers.map(() => silent))
  })

  it("without a connection holds calls for their limits, and sends them when there is one", async () => {
    const { run, sent, state, turnTo, window } = setting()
    state.ready = false
    const [soon, later] = [run("acquire", "a", 300), run("acquire", "b")]
    await turnTo(400)
    assert.strictEqual(failureOf(soon), notSent)
    state.ready = true
    window.open()
    assert.deepStrictEqual(sent.map(({ id }) => id), ["b"])
    assert.isUndefined(later.pollUnsafe())
  })

  it("without a connection fails renewals at once, which the core tries again", async () => {
    const { run, sent, state } = setting()
    state.ready = false
    const renewal = run("renew", "a", 300)
    await settled()
    assert.strictEqual(failureOf(renewal), notSent)
    assert.deepStrictEqual(sent, [])
  })

  it("tells at once where no connection is to be had", async () => {
    const { run, state, window } = setting()
    const waiting = run("acquire", "a")
    state.ready = false
    state.whyNot = { ...notSent, retryable: false, cause: new Error("WRONGPASS") }
    const refused = run("acquire", "b")
    window.lose()
    await settled()
    assert.strictEqual(failureOf(waiting), connectionLost)
    assert.strictEqual(failureOf(refused), state.whyNot)
  })

  it("has one limit for its connection and its answer, and the time of an answer at least", async () => {
    const { run, sent, state, turnTo, window } = setting()
    state.ready = false
    const early = run("acquire", "a", 300)
    const late = run("acquire", "b", 210)
    await turnTo(200)
    state.ready = true
    window.open()
    assert.strictEqual(sent.length, 2)
    await turnTo(249)
    assert.isUndefined(late.pollUnsafe())
    await turnTo(252)
    assert.strictEqual(failureOf(late), silent)
    assert.isUndefined(early.pollUnsafe())
    await turnTo(302)
    assert.strictEqual(failureOf(early), silent)
  })

  it("has one limit where its script is not known", async () => {
    const { run, sent, turnTo } = setting()
    const call = run("acquire", "a", 300)
    await turnTo(200)
    sent[0]!.reply(Promise.reject(Object.assign(new Error("NOSCRIPT No matching script."), { name: "ReplyError" })))
    await settled()
    assert.strictEqual(sent.length, 2)
    await turnTo(299)
    assert.isUndefined(call.pollUnsafe())
    await turnTo(302)
    assert.strictEqual(failureOf(call), silent)
  })

  it("fails what goes on and what comes once it is closed", async () => {
    const { run, sent, state, window } = setting()
    const underWay = run("acquire", "a")
    state.ready = false
    const waiting = run("release", "b")
    window.close()
    const later = run("release", "c")
    await settled()
    for (const call of [underWay, waiting, later]) assert.strictEqual(failureOf(call), closed)
    assert.strictEqual(sent.length, 1)
  })

  it("leaves no timer once it is closed", async () => {
    const { run, timers, window } = setting()
    run("acquire", "a")
    window.close()
    assert.strictEqual(timers(), 0)
  })
})

describe("a connection", () => {
  it("is called silent when nothing was heard for half of the longest limit", async () => {
    const { run, state, turnTo } = setting()
    await turnTo(100)
    run("acquire", "a", 300)
    run("acquire", "b")
    await turnTo(600)
    assert.strictEqual(state.silences, 0)
    await turnTo(602)
    assert.strictEqual(state.silences, 1)
  })

  it("is not called silent where any reply has come meanwhile, even one that is too late", async () => {
    const { run, sent, state, turnTo } = setting()
    run("acquire", "a", 300)
    await turnTo(400)
    sent[0]!.reply("1")
    await settled()
    await turnTo(3_000)
    assert.strictEqual(state.silences, 0)
  })

  it("of a cluster is in doubt after half a second without a reply, and again while there is none", async () => {
    const { run, state, turnTo } = setting("cluster")
    run("acquire", "a")
    await turnTo(499)
    assert.strictEqual(state.doubts, 0)
    await turnTo(502)
    assert.strictEqual(state.doubts, 1)
    await turnTo(755)
    assert.strictEqual(state.doubts, 2)
  })
})

/** The windows of a cluster whose slots are all on one node, which never answers. */
const clusterOfOneNode = Effect.gen(function*() {
  const clock = yield* Clock.clockWith(Effect.succeed)
  const sent: Array<string> = []
  const cluster = { slots: Array.from({ length: 16_384 }, () => ["127.0.0.1:7000"]) }
  const windows = new Windows(cluster as unknown as Ioredis.Cluster, Ioredis, () =>
    new Window({
      isReady: () => true,
      whyNotReady: () => notSent,
      send: (_command, _program, call) => {
        sent.push(call.keys[0]!)
        return new Promise(() => {})
      }
    }, { telemetry: plainTelemetry, clock, longest: 60_000 }))
  const release = windows.run(Scripts.release, {
    keys: keysOf("k")!,
    id: "",
    kind: "mutex" as const,
    tombstone: false,
    interop: false
  })
  return { release, sent, windows }
})

describe("the windows of a cluster", () => {
  it.live("fail, once they are closed, a call to a node that was never asked before, and send nothing", () =>
    Effect.gen(function*() {
      const { release, sent, windows } = yield* clusterOfOneNode
      windows.close()
      assert.deepStrictEqual(yield* Effect.flip(release).pipe(Effect.timeout("2 seconds")), closed)
      assert.deepStrictEqual(sent, [])
    }))
})

import { assert, describe, it } from "@effect/vitest"
import { Clock, Deferred, Effect, Fiber, Logger } from "effect"
import type { Claim } from "effect-dlock/LockStore"
import { TestClock } from "effect/testing"
import { silent } from "../../src/internal/client/failure.ts"
import type { CallFailure, Port } from "../../src/internal/client/port.ts"
import type * as Scripts from "../../src/internal/protocol/index.ts"
import { claimsPerCall, sharedClaimWeight } from "../../src/internal/store/queueGroup.ts"
import * as Store from "../../src/internal/store/store.ts"
import { plainClaim, plainSettings, silentPort } from "../model/port.ts"

const holder: Scripts.Holder = { label: "somebody", remaining: 60_000, foreign: false }

const queued: Scripts.Queued = { _tag: "Queued", floor: 7n, place: 0, length: 1, holder }

// Found by the simulation: a lock that was handed over without a queue stayed free until the next refresh.
describe("a notification to ask at once", () => {
  const wokenDuring = (name: "acquire" | "refresh") =>
    Effect.gen(function*() {
      const clock = yield* Clock.clockWith(Effect.succeed)
      const answered = yield* Deferred.make<void>()
      const sent: Array<string> = []
      let hear: (message: string) => void = () => {}
      const port: Port = {
        ...silentPort,
        onMessage: (listener) => void (hear = listener),
        run: (script) =>
          Effect.suspend(() => {
            sent.push(script.name)
            const first = sent.filter((other) => other === script.name).length === 1
            const sentAt = clock.monotonicTimeNanosUnsafe()
            const answers: Record<string, unknown> = {
              acquire: queued,
              peek: [],
              refresh: [{ _tag: "Refreshed", claims: [queued], more: false }]
            }
            const value = answers[script.name] as never
            return Effect.as(script.name === name && first ? Deferred.await(answered) : Effect.void, { sentAt, value })
          })
      }
      yield* TestClock.adjust("1 minute")
      const store = yield* Store.make(port, plainSettings)
      const asking = yield* Effect.forkChild(store.request(plainClaim, "queue"), { startImmediately: true })
      if (name === "refresh") {
        yield* Fiber.join(asking)
        yield* TestClock.adjust("10 seconds")
      }
      const before = sent.filter((other) => other === "refresh").length
      yield* TestClock.adjust("1 millis")
      // The server sent this answer before the lock was released.
      hear("w:k")
      yield* TestClock.adjust("1 millis")
      yield* Deferred.succeed(answered, undefined)
      yield* TestClock.adjust("2 millis")
      assert.strictEqual(sent.filter((other) => other === "refresh").length, before + 1)
    }).pipe(Effect.scoped)

  it.effect("is not settled by the answer to a refresh that was sent before", () => wokenDuring("refresh"))
  it.effect("is not settled by the answer to the request that was sent before", () => wokenDuring("acquire"))
})

/** A store whose calls the test answers, except releases, in the order in which they came. */
const answering = Effect.gen(function*() {
  const clock = yield* Clock.clockWith(Effect.succeed)
  const calls: Array<{ readonly name: string; readonly args: unknown; readonly answer: (value: unknown) => void }> = []
  let hear: (message: string) => void = () => {}
  let leaveServer: () => void = () => {}
  let reconnect: () => void = () => {}
  const port: Port = {
    ...silentPort,
    onMessage: (listener) => void (hear = listener),
    onReconnect: (listener) => void (reconnect = listener),
    onServerLeft: (listener) => void (leaveServer = listener),
    run: (script, args, tally) =>
      Effect.callback((resume) => {
        const sentAt = clock.monotonicTimeNanosUnsafe()
        tally?.noteSent(sentAt)
        const answer = (value: unknown) => {
          tally?.noteAnswered(true)
          tally?.noteEnded()
          resume(Effect.succeed({ sentAt, value: value as never }))
        }
        calls.push({ name: script.name, args, answer })
        if (script.name === "release") answer({ _tag: "Released", more: false })
      })
  }
  const store = yield* Store.make(port, plainSettings)
  return {
    store,
    calls,
    hear: (message: string) => hear(message),
    leaveServer: () => leaveServer(),
    reconnect: () => reconnect(),
    /** The claims of each refresh from the call `first` on. */
    asked: (first = 0) =>
      calls.slice(first).filter(({ name }) => name === "refresh").map(({ args }) =>
        (args as Scripts.RefreshArgs).locks.flatMap(({ claims }) => claims.map(({ id }) => id))
      )
  }
})

// The simulation found both.
describe("a notification", () => {
  it.effect("for a claim that was given up before its answer is no late grant: no tombstone is left for it", () =>
    Effect.gen(function*() {
      const { calls, hear, store } = yield* answering
      const asking = yield* Effect.forkChild(store.request(plainClaim, "queue"), { startImmediately: true })
      asking.interruptUnsafe()
      const withdrawing = yield* Effect.forkChild(store.withdraw(plainClaim), { startImmediately: true })
      calls[0]!.answer(queued)
      yield* Fiber.join(withdrawing)
      hear(`g:${plainClaim.id}:8:k`)
      assert.deepStrictEqual(calls.map(({ name }) => name), ["acquire", "release"])
    }).pipe(Effect.scoped))

  it.effect("that may not be believed has its claim ask, whichever claims of the process are before it", () =>
    Effect.gen(function*() {
      const { calls, hear, leaveServer, store } = yield* answering
      const ids = ["a", "b"].map((letter) => letter.repeat(22))
      for (const id of ids) {
        yield* Effect.forkChild(store.request({ ...plainClaim, id }, "queue"), { startImmediately: true })
      }
      calls[0]!.answer({ ...queued, place: 1, length: 2 })
      leaveServer()
      hear(`g:${ids[1]}:8:k`)
      calls[1]!.answer(queued)
      yield* TestClock.adjust("2 millis")
      const asked = calls.slice(2).flatMap(({ args }) => (args as Scripts.RefreshArgs).locks[0]!.claims)
      assert.include(asked.map(({ id }) => id), ids[1])
    }).pipe(Effect.scoped))
})

describe("what is told while the places of all are refreshed", () => {
  const ids = ["a", "b", "c", "d"].map((letter) => letter.repeat(22))

  /** Tells the store something between the requests and their answers, and returns which claims then ask once more. */
  const askedAgainAfter = (tell: (told: Effect.Success<typeof answering>) => void) =>
    Effect.gen(function*() {
      const told = yield* answering
      const { asked, calls, store } = told
      for (const [place, id] of ids.entries()) {
        yield* Effect.forkChild(store.request({ ...plainClaim, id }, "queue"), { startImmediately: true })
        calls.at(-1)!.answer({ ...queued, place, length: place + 1 })
      }
      yield* TestClock.adjust("10 seconds")
      assert.sameMembers(asked().flat(), ids)
      const before = calls.length
      yield* TestClock.adjust("1 millis")
      tell(told)
      yield* TestClock.adjust("1 millis")
      for (const { args, answer, name } of calls.slice(0, before)) {
        if (name !== "refresh") continue
        const [lock] = (args as Scripts.RefreshArgs).locks
        const claims = lock!.claims.map(({ id }) => ({ ...queued, place: ids.indexOf(id), length: ids.length }))
        answer([{ _tag: "Refreshed", claims, more: false }])
      }
      yield* TestClock.adjust("2 millis")
      return asked(before).flat()
    }).pipe(Effect.scoped)

  // On a busy machine the answers come late. Five hundred waiters asked up to five times for each answer that they needed.
  it.effect("makes the foremost alone ask once more where the queue may have moved", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* askedAgainAfter(({ hear }) => hear("w:k")), ids.slice(0, 1))
    }))

  it.effect("makes a claim ask once more whose notification may not be believed", () =>
    Effect.gen(function*() {
      const again = yield* askedAgainAfter(({ hear, leaveServer }) => {
        leaveServer()
        hear(`g:${ids[2]}:8:k`)
      })
      assert.deepStrictEqual(again, [ids[0], ids[2]])
    }))

  it.effect("makes all of them ask once more after a new subscription", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* askedAgainAfter(({ reconnect }) => reconnect()), ids)
    }))
})

describe("many claims that wait for a semaphore", () => {
  it.effect("ask in calls that the server answers in one go", () =>
    Effect.gen(function*() {
      const { asked, calls, reconnect, store } = yield* answering
      const ids = Array.from({ length: 240 }, (_, place) => `${place}`.padStart(22, "a"))
      for (const [place, id] of ids.entries()) {
        const claim = { ...plainClaim, id, kind: "semaphore", capacity: 2 } as const
        yield* Effect.forkChild(store.request(claim, "queue"), { startImmediately: true })
        calls.at(-1)!.answer({ ...queued, place, length: place + 1 })
      }
      reconnect()
      yield* TestClock.adjust("2 millis")
      const [foremost, ...rest] = asked()
      assert.deepStrictEqual(foremost, ids.slice(0, 1))
      assert.sameMembers(rest.flat(), ids.slice(1))
      for (const call of rest) assert.isAtMost(call.length, claimsPerCall / sharedClaimWeight)
    }).pipe(Effect.scoped))
})

describe("an observer that throws where its claim is granted by an answer", () => {
  it.effect("keeps no other claim of the process from asking", () =>
    Effect.gen(function*() {
      const { calls, hear, store } = yield* answering
      const ids = ["a", "b"].map((letter) => letter.repeat(22))
      const fibers = []
      for (const id of ids) {
        const asking = yield* Effect.forkChild(store.request({ ...plainClaim, id }, "queue"), {
          startImmediately: true
        })
        calls.at(-1)!.answer({ ...queued, place: fibers.length, length: fibers.length + 1 })
        const answer = yield* Fiber.join(asking)
        assert(answer._tag === "Queued")
        fibers.push(yield* Effect.forkChild(answer.granted, { startImmediately: true }))
      }
      fibers[0]!.addObserver(() => {
        throw new Error("on purpose")
      })
      hear("w:k")
      yield* TestClock.adjust("2 millis")
      const refreshes = () => calls.filter(({ name }) => name === "refresh")
      assert.strictEqual(refreshes().length, 1)
      refreshes()[0]!.answer([{ _tag: "Refreshed", claims: [{ _tag: "Granted", token: 8n }], more: false }])
      yield* TestClock.adjust("3 seconds")
      const asked = refreshes().slice(1).flatMap(({ args }) => (args as Scripts.RefreshArgs).locks[0]!.claims)
      assert.include(asked.map(({ id }) => id), ids[1])
    }).pipe(Effect.scoped, Effect.provide(Logger.layer([]))))
})

describe("the connection that listens", () => {
  it.effect("is asked whether it still hears every five seconds in which somebody waits, however short the waits", () =>
    Effect.gen(function*() {
      const clock = yield* Clock.clockWith(Effect.succeed)
      let probes = 0
      const queued = { _tag: "Queued", floor: 7n, place: 0, length: 1, holder: undefined }
      const port: Port = {
        ...silentPort,
        probe: Effect.sync(() => void probes++),
        run: (script) =>
          Effect.sync(() => ({
            sentAt: clock.monotonicTimeNanosUnsafe(),
            value: (script.name === "release" ? { _tag: "Cancelled", length: 0 } : queued) as never
          }))
      }
      const store = yield* Store.make(port, plainSettings)
      for (let wait = 0; wait < 40; wait++) {
        const mine = { ...plainClaim, id: `claim-${wait}` }
        yield* store.request(mine, "queue")
        yield* TestClock.adjust("400 millis")
        yield* store.withdraw(mine)
        yield* TestClock.adjust("100 millis")
      }
      assert.strictEqual(probes, 3)
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(probes, 3, "nobody waits")
    }).pipe(Effect.scoped))
})

describe("a claim that waits behind a holder of ours", () => {
  const holder = { label: "somebody", remaining: 60_000, foreign: false }
  const queued = { _tag: "Queued", floor: 7n, place: 0, length: 1, holder }
  const waiting = (peeked: () => Effect.Effect<unknown, CallFailure>, claim: Partial<Claim> = {}) =>
    Effect.gen(function*() {
      const clock = yield* Clock.clockWith(Effect.succeed)
      const sent: Array<string> = []
      const answers: Record<string, () => Effect.Effect<unknown, CallFailure>> = {
        acquire: () => Effect.succeed(queued),
        peek: peeked,
        refresh: () => Effect.succeed([{ _tag: "Refreshed", claims: [queued], more: false }]),
        release: () => Effect.succeed({ _tag: "Cancelled", length: 0 })
      }
      const port: Port = {
        ...silentPort,
        run: (script) => {
          const at = Math.round(Number(clock.monotonicTimeNanosUnsafe()) / 1e6)
          sent.push(`${script.name} ${at}`)
          return Effect.map(
            answers[script.name]!(),
            (value) => ({ sentAt: BigInt(at) * 1_000_000n, value: value as never })
          )
        }
      }
      const store = yield* Store.make(port, plainSettings)
      yield* store.request({ ...plainClaim, ...claim }, "queue")
      return sent
    })

  it.effect("looks every two seconds whether the holder is still there, and asks at a third of its ttl", () =>
    Effect.gen(function*() {
      const sent = yield* waiting(() => Effect.succeed([]))
      yield* TestClock.adjust("12 seconds")
      assert.deepStrictEqual(
        sent,
        ["acquire 0", "peek 2000", "peek 4000", "peek 6000", "peek 8000", "refresh 10000", "peek 12000"]
      )
    }).pipe(Effect.scoped))

  it.effect("asks at once where the holder is gone, or nothing is known about it", () =>
    Effect.gen(function*() {
      const failures = [Effect.succeed([1]), Effect.fail(silent)]
      for (const failure of failures) {
        const sent = yield* waiting(() => failure)
        yield* TestClock.adjust("2001 millis")
        assert.deepStrictEqual(sent.map((call) => call.replace(/ .*/, "")), ["acquire", "peek", "refresh"])
      }
    }).pipe(Effect.scoped))

  it.effect("asks every two seconds where a look would not tell: of a semaphore", () =>
    Effect.gen(function*() {
      const sent = yield* waiting(() => Effect.succeed([]), { kind: "semaphore", capacity: 2 })
      yield* TestClock.adjust("4 seconds")
      assert.deepStrictEqual(sent, ["acquire 0", "refresh 2000", "refresh 4000"])
    }).pipe(Effect.scoped))
})

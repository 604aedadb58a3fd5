import { assert, describe, it } from "@effect/vitest"
import { Clock, Deferred, Effect, Fiber, Logger } from "effect"
import { TestClock } from "effect/testing"
import type { Port } from "../src/internal/client/port.ts"
import type * as Scripts from "../src/internal/protocol/index.ts"
import * as Store from "../src/internal/store/store.ts"
import { plainClaim, plainSettings, silentPort } from "./model/port.ts"

const holder: Scripts.Holder = { label: "somebody", remaining: 60_000, foreign: false }
const queued: Scripts.Queued = { _tag: "Queued", floor: 7n, place: 0, length: 1, holder }

// Found by the simulation: a lock that was handed on without a queue stood free until the next refresh.
describe("a call to ask at once", () => {
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
      // What the server has answered, it answered before the lock came free.
      hear("w:k")
      yield* TestClock.adjust("1 millis")
      yield* Deferred.succeed(answered, undefined)
      yield* TestClock.adjust("2 millis")
      assert.strictEqual(sent.filter((other) => other === "refresh").length, before + 1)
    }).pipe(Effect.scoped)

  it.effect("is not settled by the answer to a refresh that was sent before", () => wokenDuring("refresh"))
  it.effect("is not settled by the answer to the request that was sent before", () => wokenDuring("acquire"))
})

/** A store whose calls the test answers, but for releases, in the order in which they came. */
const answering = Effect.gen(function*() {
  const clock = yield* Clock.clockWith(Effect.succeed)
  const calls: Array<{ readonly name: string; readonly args: unknown; readonly answer: (value: unknown) => void }> = []
  let hear: (message: string) => void = () => {}
  let leaveServer: () => void = () => {}
  const port: Port = {
    ...silentPort,
    onMessage: (listener) => void (hear = listener),
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
  return { store, calls, hear: (message: string) => hear(message), leaveServer: () => leaveServer() }
})

// Both found by the simulation.
describe("a notification", () => {
  it.effect("that comes for a claim which was given up before its answer is no late grant: no tombstone is left for it", () =>
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

  it.effect("that may not be believed has its claim ask, whoever of the process is before it", () =>
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

describe("an observer that throws where its claim is granted by an answer", () => {
  it.effect("keeps nobody else of the process from asking on", () =>
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

import { assert, describe, it } from "@effect/vitest"
import { Clock, Duration, Effect, Fiber } from "effect"
import type { Claim } from "effect-dlock/LockStore"
import { TestClock } from "effect/testing"
import { silent } from "../src/internal/client/failure.ts"
import type { CallFailure, Port } from "../src/internal/client/port.ts"
import * as Store from "../src/internal/store/store.ts"
import { plainClaim, plainSettings, silentPort } from "./model/port.ts"

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

describe("who waits behind a holder of ours", () => {
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

  it.effect("looks every two seconds whether he is still there, and asks at a third of its ttl", () =>
    Effect.gen(function*() {
      const sent = yield* waiting(() => Effect.succeed([]))
      yield* TestClock.adjust("12 seconds")
      assert.deepStrictEqual(
        sent,
        ["acquire 0", "peek 2000", "peek 4000", "peek 6000", "peek 8000", "refresh 10000", "peek 12000"]
      )
    }).pipe(Effect.scoped))

  it.effect("asks at once where he is not, or nothing is known of him", () =>
    Effect.gen(function*() {
      const failures = [Effect.succeed([1]), Effect.fail(silent)]
      for (const failure of failures) {
        const sent = yield* waiting(() => failure)
        yield* TestClock.adjust("2001 millis")
        assert.deepStrictEqual(sent.map((call) => call.replace(/ .*/, "")), ["acquire", "peek", "refresh"])
      }
    }).pipe(Effect.scoped))

  it.effect("asks every two seconds where a look would not tell: with a greater capacity", () =>
    Effect.gen(function*() {
      const sent = yield* waiting(() => Effect.succeed([]), { capacity: 2 })
      yield* TestClock.adjust("4 seconds")
      assert.deepStrictEqual(sent, ["acquire 0", "refresh 2000", "refresh 4000"])
    }).pipe(Effect.scoped))
})

describe("a renewal", () => {
  it.effect("is left to the port to limit, which knows whether its answer lies in the socket", () =>
    Effect.gen(function*() {
      const clock = yield* Clock.clockWith(Effect.succeed)
      const limits: Array<number | undefined> = []
      const port: Port = {
        ...silentPort,
        run: (_script, _args, _tally, limit) => {
          limits.push(limit)
          const sentAt = clock.monotonicTimeNanosUnsafe()
          return Effect.delay(Effect.succeed({ sentAt, value: ["ok", "ok"] as never }), "5 seconds")
        }
      }
      const store = yield* Store.make(port, plainSettings)
      const held = [24, 32].map((seconds) => ({
        claim: { ...plainClaim, id: `claim-${seconds}`, ttl: Duration.seconds(seconds) },
        fencingToken: 1n
      }))
      const renewing = yield* Effect.forkChild(store.renew(held), { startImmediately: true })
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual((yield* Fiber.join(renewing)).map(({ _tag }) => _tag), ["Confirmed", "Confirmed"])
      assert.deepStrictEqual(limits, [3_000])
    }).pipe(Effect.scoped))
})

import { assert, describe, it } from "@effect/vitest"
import { Clock, Deferred, Effect, Fiber } from "effect"
import { TestClock } from "effect/testing"
import type { Port } from "../src/internal/port.ts"
import type * as Scripts from "../src/internal/scripts.ts"
import * as Store from "../src/internal/store.ts"
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
            const value =
              (script.name === "refresh" ? [{ _tag: "Refreshed", claims: [queued], more: false }] : queued) as never
            return Effect.as(script.name === name && first ? Deferred.await(answered) : Effect.void, { sentAt, value })
          })
      }
      yield* TestClock.adjust("1 minute")
      const store = yield* Store.make(port, plainSettings)
      const asking = yield* Effect.forkChild(store.request(plainClaim, "queue"), { startImmediately: true })
      if (name === "refresh") {
        yield* Fiber.join(asking)
        yield* TestClock.adjust("2 seconds")
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

import { assert, describe, it } from "@effect/vitest"
import { Clock, Duration, Effect, Fiber, Layer } from "effect"
import { Locker, LockStore } from "effect-dlock"
import { TestClock } from "effect/testing"
import type { Port } from "../src/internal/client/port.ts"
import type * as Scripts from "../src/internal/protocol/index.ts"
import * as Store from "../src/internal/store/store.ts"
import { plainSettings, silentPort } from "./model/port.ts"

const holder: Scripts.Holder = { label: "somebody", remaining: 60_000, foreign: false }
const queued: Scripts.Queued = { _tag: "Queued", floor: 7n, place: 0, length: 1, holder }

describe("a grant that is read too late to be believed", () => {
  it.effect("is asked for once more, and does not answer for the place in the queue that it then gets", () =>
    Effect.gen(function*() {
      const clock = yield* Clock.clockWith(Effect.succeed)
      const sent: Array<string> = []
      const replies = (name: string): unknown => {
        if (name === "refresh") return [{ _tag: "Refreshed", claims: [queued], more: false }]
        if (name === "release") return { _tag: "Cancelled", length: 0, holder }
        return sent.length === 1 ? { _tag: "Granted", token: 7n } : queued
      }
      const port: Port = {
        ...silentPort,
        run: (script) =>
          Effect.suspend(() => {
            const now = clock.monotonicTimeNanosUnsafe()
            sent.push(script.name)
            // The first answer lay in the socket while the event loop was blocked.
            const sentAt = sent.length === 1 ? now - Duration.toNanosUnsafe("3 seconds") : now
            const reply = Effect.succeed({ sentAt, value: replies(script.name) as never })
            return sent.length < 100 ? reply : Effect.never
          })
      }
      yield* TestClock.adjust("1 minute")
      const store = yield* Store.make(port, plainSettings)
      const locker = Locker.layer().pipe(Layer.provide(Layer.succeed(LockStore, store)))
      const waiting = yield* Effect.forkChild(
        Effect.flip(
          Locker.use((locker) => locker.withLock("k", Effect.void, { ttl: "2 seconds", timeout: "900 millis" }))
        )
          .pipe(Effect.provide(locker)),
        { startImmediately: true }
      )
      yield* TestClock.adjust("100 millis")
      assert.deepStrictEqual(sent.filter((name) => name === "acquire").length, 2)
      yield* TestClock.adjust("800 millis")
      assert.strictEqual((yield* Fiber.join(waiting))._tag, "LockTimeout")
    }))
})

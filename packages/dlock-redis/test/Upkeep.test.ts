import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect } from "effect"
import { TestClock } from "effect/testing"
import type { Port } from "../src/internal/port.ts"
import * as Store from "../src/internal/store.ts"
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
            value: (script.name === "leave" ? { _tag: "Cancelled", length: 0 } : queued) as never
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

import { assert, describe, it } from "@effect/vitest"
import { Clock, Duration, Effect } from "effect"
import type { Held, Period } from "effect-dlock/LockStore"
import { TestClock } from "effect/testing"
import { make } from "../src/internal/memory/runs.ts"

describe("memoryRuns", () => {
  it.effect("forgets what has expired, whatever is kept for longer", () =>
    Effect.gen(function*() {
      const clock = yield* Clock.clockWith(Effect.succeed)
      const entries = new Map<string, unknown>()
      const runs = make(clock, () => true, entries as any)
      const record = (key: string, period: Period) =>
        runs.begin({ claim: { id: key, key, holder: "" } } as unknown as Held, period, "start")
      yield* record("slots", { _tag: "Slot", slot: 1n })
      for (let index = 0; index < 1_000; index++) {
        yield* record(String(index), { _tag: "Interval", interval: Duration.seconds(1) })
        yield* TestClock.adjust("1 second")
      }
      assert.isBelow(entries.size, 100)
      assert.isTrue(entries.has("slots"))
    }))
})

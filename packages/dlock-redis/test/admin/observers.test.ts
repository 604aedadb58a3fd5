import { assert, describe, it } from "@effect/vitest"
import { Effect, Stream } from "effect"
import { TestClock } from "effect/testing"
import * as Observers from "../../src/internal/admin/observers.ts"
import type { Port } from "../../src/internal/client/port.ts"
import { keysOf } from "../../src/internal/protocol/keys.ts"
import { silentPort } from "../model/port.ts"

describe("an observer", () => {
  it.effect.each([
    { takes: 5, hears: 0 },
    { takes: 20, hears: 1 }
  ])(
    "takes everything as changed where the server told nothing for a while: $takes s",
    ({ hears, takes }) =>
      Effect.gen(function*() {
        let registrations = 0
        const port: Port = {
          ...silentPort,
          // The answer to the second registration comes late, as after a pause of this process.
          run: () =>
            Effect.suspend(() =>
              Effect.as(++registrations === 2 ? Effect.sleep(takes * 1_000) : Effect.void, { sentAt: 0n, value: true })
            ) as never
        }
        const observers = yield* Observers.make(port)
        let heard = 0
        const hear = Effect.sync(() => void heard++)
        yield* Effect.forkScoped(Stream.runForEach(observers.changes(keysOf("dlock:k")), () => hear))
        yield* TestClock.adjust("4 seconds")
        assert.deepStrictEqual([registrations, heard], [1, 0])
        yield* TestClock.adjust("6 seconds")
        yield* TestClock.adjust("16 seconds")
        assert.strictEqual(heard, hears)
      }).pipe(Effect.scoped)
  )
})

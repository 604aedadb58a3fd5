import { assert, describe, it } from "@effect/vitest"
import { Clock, Deferred, Effect, Fiber } from "effect"
import type { Port } from "../src/internal/client/port.ts"
import * as Store from "../src/internal/store/store.ts"
import { plainClaim, plainSettings, replied, silentPort } from "./model/port.ts"

describe("an answer that a notification has overtaken", () => {
  it.effect("still says what stood before the claim, while replicas are asked about its grant", () =>
    Effect.gen(function*() {
      const clock = yield* Clock.clockWith(Effect.succeed)
      const answered = yield* Deferred.make<void>()
      let notify = (_message: string) => {}
      const holder = { label: "somebody", remaining: 60_000, foreign: false }
      const port: Port = {
        ...silentPort,
        onMessage: (listener) => void (notify = listener),
        replicated: () => Effect.never,
        run: (script, _args, tally) =>
          script.name === "acquire"
            ? Effect.suspend(() => {
              const value = { _tag: "Queued", floor: 7n, place: 2, length: 3, holder, more: false }
              const reply = replied(clock, tally, value as never)
              return Effect.as(Deferred.await(answered), reply)
            })
            : Effect.sync(() => replied(clock, tally, { _tag: "Released", more: false } as never))
      }
      const store = yield* Store.make(port, { ...plainSettings, waitReplicas: 1 })
      const asking = yield* Effect.forkChild(store.request(plainClaim, "queue"), { startImmediately: true })
      notify(`g:${plainClaim.id}:9:k`)
      yield* Deferred.succeed(answered, undefined)
      const queued = yield* Fiber.join(asking)
      assert(queued._tag === "Queued")
      assert.deepStrictEqual(queued.ahead(), { holder: "somebody", place: 2, waiting: 3 })
    }).pipe(Effect.scoped))
})

import { assert, describe, it } from "@effect/vitest"
import { Clock, Duration, Effect, Stream } from "effect"
import { TestClock } from "effect/testing"
import type { Port } from "../../src/internal/client/port.ts"
import * as Store from "../../src/internal/store/store.ts"
import { plainClaim, plainSettings, replied, silentPort } from "../model/port.ts"

/** A store whose request is answered after 300 ms, and what it tells of a message that arrives after 100 ms. */
const toldOf = Effect.fnUntraced(function*(answer: object) {
  const clock = yield* Clock.clockWith(Effect.succeed)
  let hear: (message: string) => void = () => {}
  const port: Port = {
    ...silentPort,
    onMessage: (listener) => void (hear = listener),
    run: (script, _, tally) =>
      Effect.map(
        script.name === "acquire" ? Effect.sleep("300 millis") : Effect.void,
        () => replied(clock, tally, (script.name === "acquire" ? answer : { _tag: "Released", more: false }) as never)
      )
  }
  const store = yield* Store.make(port, plainSettings)
  const told: Array<object> = []
  yield* Effect.forkScoped(Stream.runForEach(store.losses, (news) => Effect.sync(() => void told.push(news))))
  yield* Effect.forkScoped(store.request(plainClaim, "queue"), { startImmediately: true })
  yield* TestClock.adjust("100 millis")
  hear(`r:${plainClaim.id}:5000:["ops","a deploy"]`)
  yield* TestClock.adjust("190 millis")
  assert.deepStrictEqual(told, [])
  yield* TestClock.adjust("40 millis")
  return told
})

describe("a holder that is asked to leave before it knows that it holds the lock", () => {
  // Found by the simulation: it heard only with the answer to its first renewal.
  it.effect("hears when it knows", () =>
    Effect.gen(function*() {
      // The time since it was asked is no part of its grace.
      const revocation = { by: "ops", why: "a deploy", grace: Duration.millis(4_800) }
      const [first, ...others] = yield* toldOf({ _tag: "Granted", token: 7n })
      assert.deepStrictEqual([first, ...others], [{ id: plainClaim.id, revocation }])
    }).pipe(Effect.scoped))

  it.effect("hears nothing if it was granted nothing", () =>
    Effect.map(toldOf({ _tag: "Cancelled" }), (told) => assert.deepStrictEqual(told, [])).pipe(Effect.scoped))
})

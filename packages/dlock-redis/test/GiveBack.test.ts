import { assert, describe, it } from "@effect/vitest"
import { Clock, Deferred, Effect, Fiber, Layer } from "effect"
import { Locker, LockStore } from "effect-dlock"
import { TestClock } from "effect/testing"
import { notConnectedNow } from "../src/internal/client/failure.ts"
import type { Port } from "../src/internal/client/port.ts"
import * as Store from "../src/internal/store/store.ts"
import { plainClaim, plainSettings, replied, silentPort } from "./model/port.ts"

const refused = notConnectedNow(new Error("WRONGPASS invalid username-password pair or user is disabled."), true)

/** A server that grants everything, and replicas of which none has anything for a while. */
const setting = Effect.gen(function*() {
  const clock = yield* Clock.clockWith(Effect.succeed)
  const released = yield* Deferred.make<void>()
  const replicas = { present: 0, isPresent: true }
  const credentials = { refused: false }
  const ids: { readonly acquire: Array<string>; readonly release: Array<string> } = { acquire: [], release: [] }
  const port: Port = {
    ...silentPort,
    run: (script, args, tally) =>
      Effect.suspend(() => {
        const { id } = args as { readonly id: string }
        if (script.name === "acquire") ids.acquire.push(id)
        if (script.name === "release") ids.release.push(id)
        if (script.name === "release" && credentials.refused) return Effect.fail(refused)
        const value = script.name === "release" ? { _tag: "Released", more: false } : { _tag: "Granted", token: 7n }
        // A release that is stuck in the network: it may run at any later time.
        return Effect.as(
          script.name === "release" ? Deferred.await(released) : Effect.void,
          replied(clock, tally, value as never)
        )
      }),
    replicated: () => Effect.sync(() => ({ value: replicas.isPresent as never, replicas: replicas.present }))
  }
  const store = yield* Store.make(port, { ...plainSettings, waitReplicas: 1 })
  return { store, ids, credentials, released, replicas }
})

describe("a grant that too few replicas have", () => {
  it.effect("is asked for again under a fresh id, since its release may run late", () =>
    Effect.gen(function*() {
      const { ids, released, replicas, store } = yield* setting
      const locker = Locker.layer().pipe(Layer.provide(Layer.succeed(LockStore, store)))
      const taking = yield* Effect.forkChild(
        Locker.use((locker) => locker.withLock("k", Effect.succeed("in"))).pipe(Effect.provide(locker)),
        { startImmediately: true }
      )
      yield* TestClock.adjust("150 millis")
      replicas.present = 1
      yield* TestClock.adjust("1 second")
      assert.isAtLeast(ids.release.length, 2)
      yield* Deferred.succeed(released, undefined)
      assert.strictEqual(yield* Fiber.join(taking), "in")
      assert.strictEqual(new Set(ids.acquire).size, ids.acquire.length)
      // The last was held, and released.
      assert.deepStrictEqual(ids.release, ids.acquire)
    }).pipe(Effect.scoped))

  it.effect("is not asked for again under its id before its release has been answered, nor granted by it", () =>
    Effect.gen(function*() {
      const { ids, released, replicas, store } = yield* setting
      const first = yield* store.request(plainClaim, "queue")
      assert(first._tag === "Gone")
      assert.include(first.error?.message, "fewer than 1 replicas")
      replicas.present = 1
      assert.deepStrictEqual(yield* store.request(plainClaim, "queue"), { _tag: "Gone" })
      assert.deepStrictEqual(ids, { acquire: [plainClaim.id], release: [plainClaim.id] })
      yield* Deferred.succeed(released, undefined)
    }).pipe(Effect.scoped))

  it.effect("is no failure of theirs where it had ended by then", () =>
    Effect.gen(function*() {
      const { ids, replicas, store } = yield* setting
      replicas.isPresent = false
      assert.deepStrictEqual(yield* store.request(plainClaim, "queue"), { _tag: "Gone" })
      assert.deepStrictEqual(ids.release, [])
    }).pipe(Effect.scoped))

  it.effect("is given back when the credentials are accepted again that were refused meanwhile", () =>
    Effect.gen(function*() {
      const { ids, credentials, released, store } = yield* setting
      credentials.refused = true
      yield* Deferred.succeed(released, undefined)
      const first = yield* store.request(plainClaim, "queue")
      assert(first._tag === "Gone")
      yield* TestClock.adjust("1 second")
      assert.isAtLeast(ids.release.length, 2)
      assert.isAtMost(ids.release.length, 12)
      credentials.refused = false
      yield* TestClock.adjust("1 second")
      const asked = ids.release.length
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(ids.release.length, asked)
    }).pipe(Effect.scoped))
})

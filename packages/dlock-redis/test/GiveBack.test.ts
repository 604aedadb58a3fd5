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
  const left = yield* Deferred.make<void>()
  const replicas = { present: 0, stamped: true }
  const isRefused = { now: false }
  const ids: { readonly acquire: Array<string>; readonly leave: Array<string> } = { acquire: [], leave: [] }
  const port: Port = {
    ...silentPort,
    run: (script, args, tally) =>
      Effect.suspend(() => {
        const { id } = args as { readonly id: string }
        if (script.name === "acquire") ids.acquire.push(id)
        if (script.name === "leave") ids.leave.push(id)
        if (script.name === "leave" && isRefused.now) return Effect.fail(refused)
        const value = script.name === "leave" ? { _tag: "Released", more: false } : { _tag: "Granted", token: 7n }
        // A leave that is stuck in the network: it may run at any later time.
        return Effect.as(
          script.name === "leave" ? Deferred.await(left) : Effect.void,
          replied(clock, tally, value as never)
        )
      }),
    replicated: () => Effect.sync(() => ({ value: replicas.stamped as never, replicas: replicas.present }))
  }
  const store = yield* Store.make(port, { ...plainSettings, waitReplicas: 1 })
  return { store, ids, isRefused, left, replicas }
})

describe("a grant that too few replicas have", () => {
  it.effect("is asked for again under a fresh id, since its leave may run late", () =>
    Effect.gen(function*() {
      const { ids, left, replicas, store } = yield* setting
      const locker = Locker.layer().pipe(Layer.provide(Layer.succeed(LockStore, store)))
      const taking = yield* Effect.forkChild(
        Locker.use((locker) => locker.withLock("k", Effect.succeed("in"))).pipe(Effect.provide(locker)),
        { startImmediately: true }
      )
      yield* TestClock.adjust("150 millis")
      replicas.present = 1
      yield* TestClock.adjust("1 second")
      assert.isAtLeast(ids.leave.length, 2)
      yield* Deferred.succeed(left, undefined)
      assert.strictEqual(yield* Fiber.join(taking), "in")
      assert.strictEqual(new Set(ids.acquire).size, ids.acquire.length)
      // The last was held, and released.
      assert.deepStrictEqual(ids.leave, ids.acquire)
    }).pipe(Effect.scoped))

  it.effect("is not asked for again under its id before its leave has been answered, nor granted by it", () =>
    Effect.gen(function*() {
      const { ids, left, replicas, store } = yield* setting
      const first = yield* store.request(plainClaim, "queue")
      assert(first._tag === "Gone")
      assert.include(first.error?.message, "fewer than 1 replicas")
      replicas.present = 1
      assert.deepStrictEqual(yield* store.request(plainClaim, "queue"), { _tag: "Gone" })
      assert.deepStrictEqual(ids, { acquire: [plainClaim.id], leave: [plainClaim.id] })
      yield* Deferred.succeed(left, undefined)
    }).pipe(Effect.scoped))

  it.effect("is no failure of theirs where it had ended by then", () =>
    Effect.gen(function*() {
      const { ids, replicas, store } = yield* setting
      replicas.stamped = false
      assert.deepStrictEqual(yield* store.request(plainClaim, "queue"), { _tag: "Gone" })
      assert.deepStrictEqual(ids.leave, [])
    }).pipe(Effect.scoped))

  it.effect("is given back when the credentials are accepted again that were refused meanwhile", () =>
    Effect.gen(function*() {
      const { ids, isRefused, left, store } = yield* setting
      isRefused.now = true
      yield* Deferred.succeed(left, undefined)
      const first = yield* store.request(plainClaim, "queue")
      assert(first._tag === "Gone")
      yield* TestClock.adjust("1 second")
      assert.isAtLeast(ids.leave.length, 2)
      assert.isAtMost(ids.leave.length, 12)
      isRefused.now = false
      yield* TestClock.adjust("1 second")
      const asked = ids.leave.length
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(ids.leave.length, asked)
    }).pipe(Effect.scoped))
})

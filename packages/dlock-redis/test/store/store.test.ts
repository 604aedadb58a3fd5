import { assert, describe, it } from "@effect/vitest"
import { Clock, Deferred, Duration, Effect, Fiber, Layer } from "effect"
import { Locker, LockStore } from "effect-dlock"
import { TestClock } from "effect/testing"
import { notConnectedNow } from "../../src/internal/client/failure.ts"
import type { Port } from "../../src/internal/client/port.ts"
import type * as Scripts from "../../src/internal/protocol/index.ts"
import * as Store from "../../src/internal/store/store.ts"
import { plainClaim, plainSettings, replied, silentPort } from "../model/port.ts"

const refused = notConnectedNow(new Error("WRONGPASS invalid username-password pair or user is disabled."), true)

/** A server that grants everything, with replicas that receive nothing for a while. */
const withoutReplicas = Effect.gen(function*() {
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
        // A release that is stuck in the network and may run at any later time.
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
      const { ids, released, replicas, store } = yield* withoutReplicas
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
      // The last claim was held, and then released.
      assert.deepStrictEqual(ids.release, ids.acquire)
    }).pipe(Effect.scoped))

  it.effect("is not asked for again under its id before its release has been answered, nor granted by it", () =>
    Effect.gen(function*() {
      const { ids, released, replicas, store } = yield* withoutReplicas
      const first = yield* store.request(plainClaim, "queue")
      assert(first._tag === "Gone")
      assert.include(first.error?.message, "fewer than 1 replicas")
      replicas.present = 1
      assert.deepStrictEqual(yield* store.request(plainClaim, "queue"), { _tag: "Gone" })
      assert.deepStrictEqual(ids, { acquire: [plainClaim.id], release: [plainClaim.id] })
      yield* Deferred.succeed(released, undefined)
    }).pipe(Effect.scoped))

  it.effect("is no failure of the replicas where the grant had ended by then", () =>
    Effect.gen(function*() {
      const { ids, replicas, store } = yield* withoutReplicas
      replicas.isPresent = false
      assert.deepStrictEqual(yield* store.request(plainClaim, "queue"), { _tag: "Gone" })
      assert.deepStrictEqual(ids.release, [])
    }).pipe(Effect.scoped))

  it.effect("is given back when the credentials are accepted again that were refused meanwhile", () =>
    Effect.gen(function*() {
      const { ids, credentials, released, store } = yield* withoutReplicas
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
            // The first answer was in the socket while the event loop was blocked.
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

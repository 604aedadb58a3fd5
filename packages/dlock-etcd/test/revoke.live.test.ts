import { assert, describe, it } from "@effect/vitest"
import { startWorker } from "dlock-testing"
import { Duration, Effect, Fiber, Option, Stream } from "effect"
import type { OwnershipLost } from "effect-dlock"
import * as Path from "node:path"
import { lag, locker, setting } from "./support.ts"

const tokenOf = (other: { readonly inspect: (key: string) => Effect.Effect<unknown, unknown> }) =>
  Effect.map(
    other.inspect("k") as Effect.Effect<{ readonly holders: ReadonlyArray<{ readonly token: bigint }> }>,
    ({ holders: [holder] }) => holder!.token
  )

describe("a lock on etcd that is taken away from its holder", () => {
  it.live("is asked for, interrupted after the grace, and handed over when the program has ended", () =>
    Effect.gen(function*() {
      const { another, withLock } = yield* setting({ holder: "one" })
      const other = yield* another
      const recorded = yield* lag
      const at = { told: 0, interrupted: 0, ended: 0, next: 0 }
      const held = yield* Effect.forkChild(
        Effect.flip(withLock("k", (lease) =>
          Effect.andThen(
            Effect.map(lease.revocation, ({ by }) => {
              at.told = performance.now()
              assert.strictEqual(by, "one")
            }),
            Effect.never
          ).pipe(Effect.onInterrupt(() =>
            Effect.gen(function*() {
              at.interrupted = performance.now()
              yield* Effect.sleep("300 millis")
              at.ended = performance.now()
            })
          )))),
        { startImmediately: true }
      )
      yield* Effect.sleep("200 millis")
      const token = yield* tokenOf(other)
      const next = yield* Effect.forkChild(
        other.withLock("k", () => Effect.sync(() => void (at.next = performance.now()))),
        { startImmediately: true }
      )
      yield* Effect.sleep("100 millis")
      const [took] = yield* Effect.timed(other.inspect("k"))
      // The mark is put within a few calls like that one.
      const asking = 6 * Duration.toMillis(took)
      const began = performance.now()
      assert.strictEqual(yield* other.revoke("k", { token, grace: "500 millis", why: "a test" }), "released")
      const error = (yield* Fiber.join(held)) as OwnershipLost
      yield* Fiber.join(next)
      assert.deepStrictEqual(
        [error._tag, error.reason, error.revocation],
        ["OwnershipLost", "Revoked", { by: "one", why: "a test" }]
      )
      assert.isBelow(at.told - began, 100 + asking + recorded.max())
      assert.isAtLeast(at.interrupted - at.told, 490 - recorded.max())
      assert.isAtMost(at.interrupted - at.told, 550 + recorded.max())
      assert.isAtLeast(at.next, at.ended)
      assert.isAtMost(at.next - at.ended, 250 + recorded.max())
      assert.strictEqual(yield* other.revoke("k", { token }), "notHeld")
      yield* Effect.log(
        `told after ${(at.told - began).toFixed(1)} ms, the next is in ${(at.next - at.ended).toFixed(1)} ms after`
      )
    }).pipe(Effect.scoped))

  it.live(
    "runs out when its program does not end, while the lease goes on for another lock",
    () =>
      Effect.gen(function*() {
        const { another, scoped, withLock } = yield* setting({ guardGap: "500 millis" })
        const other = yield* another
        const recorded = yield* lag
        const ttl = "2 seconds"
        const neighbour = yield* scoped("neighbour", { ttl })
        let ended = false
        const held = yield* Effect.forkChild(
          Effect.flip(withLock(
            "k",
            () =>
              Effect.uninterruptible(Effect.andThen(Effect.sleep("8 seconds"), Effect.sync(() => void (ended = true)))),
            { ttl }
          )),
          { startImmediately: true }
        )
        yield* Effect.sleep("200 millis")
        const token = yield* tokenOf(other)
        const began = performance.now()
        const revoked = yield* Effect.forkChild(other.revoke("k", { token }), { startImmediately: true })
        yield* other.withLock("k", () => Effect.void)
        const took = performance.now() - began
        assert.isFalse(ended)
        assert.strictEqual(yield* Fiber.join(revoked), "running")
        // The lease has three whole seconds, and the last renewal was at most two thirds of a second before.
        assert.isAtLeast(took, 3_000 - 700 - 100)
        assert.isAtMost(took, 3_000 + 300 + recorded.max())
        yield* neighbour.ensureHeld
        yield* Effect.log(`the next is in after ${took.toFixed(0)} ms`)
        assert.strictEqual(((yield* Fiber.join(held)) as OwnershipLost).reason, "Revoked")
      }).pipe(Effect.scoped),
    20_000
  )

  it.live("ends with its lease when its process is frozen", () =>
    Effect.gen(function*() {
      const { etcd } = yield* setting()
      const other = yield* locker({ hosts: etcd.url })
      const recorded = yield* lag
      const worker = yield* Effect.acquireRelease(
        Effect.sync(() =>
          startWorker<{ readonly held: string }>(Path.join(import.meta.dirname, "programs/holder.ts"), {
            args: [etcd.url, "k", "2000"]
          })
        ),
        (worker) => Effect.promise(() => worker.kill())
      )
      const { held } = yield* Effect.promise(() => worker.waitFor(({ held }) => held !== undefined))
      yield* Effect.sleep("200 millis")
      worker.signal("SIGSTOP")
      const began = performance.now()
      const revoked = yield* Effect.forkChild(other.revoke("k", { token: BigInt(held), grace: "1 second" }), {
        startImmediately: true
      })
      yield* other.withLock("k", () => Effect.void)
      const took = performance.now() - began
      yield* Fiber.join(revoked)
      // A lease of three seconds, after which the server looks twice a second.
      assert.isAtLeast(took, 2_000)
      assert.isAtMost(took, 3_000 + 1_250 + recorded.max())
      yield* Effect.log(`the next is in after ${took.toFixed(0)} ms`)
    }).pipe(Effect.scoped), 20_000)

  it.live("is seen from outside all the time", () =>
    Effect.gen(function*() {
      const { another, withLock } = yield* setting({ holder: "one" })
      const other = yield* another
      const seen: Array<ReadonlyArray<string | boolean>> = []
      yield* Effect.forkScoped(
        Stream.runForEach(other.watchKey("k"), ({ holders }) =>
          Effect.sync(() => void seen.push(holders.flatMap(({ holder, revoked }) => [holder, revoked])))),
        { startImmediately: true }
      )
      yield* Effect.sleep("300 millis")
      const held = yield* Effect.forkChild(
        withLock("k", (lease) =>
          lease.revocation),
        { startImmediately: true }
      )
      yield* Effect.sleep("300 millis")
      const info = yield* other.inspect("k")
      assert.isTrue(Option.isNone(info.holders[0]!.since))
      assert.isAtLeast(Duration.toMillis(Option.getOrThrow(info.holders[0]!.expiresIn)), 29_000)
      const listed = yield* Stream.runCollect(other.list())
      assert.deepStrictEqual(listed.map(({ key }) => key), ["k"])
      assert.strictEqual(yield* other.revoke("k", { token: info.holders[0]!.token, grace: "1 minute" }), "released")
      yield* Fiber.join(held)
      yield* Effect.sleep("300 millis")
      const states = seen.map((one) => one.join(" ")).filter((one, index, all) => one !== all[index - 1])
      assert.strictEqual(states[0], "")
      assert.include(states, "one false")
      assert.strictEqual(states[states.length - 1], "")
    }).pipe(Effect.scoped))
})

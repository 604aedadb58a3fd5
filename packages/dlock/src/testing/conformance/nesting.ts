import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type { Lease } from "../../Lease.ts"
import { type Body, equal, expect, type LockerService } from "./bench.ts"

/** Tests for stores that recognize one caller through several clients. */
export const nesting: ReadonlyArray<readonly [name: string, body: Body]> = [
  ["asking through another client, inside what holds the key, fails at once", (bench) =>
    Effect.gen(function*() {
      const [one, two, third] = yield* Effect.all([
        Effect.flatMap(bench.client, bench.locker),
        Effect.flatMap(bench.client, bench.locker),
        bench.client
      ])
      const key = bench.key()
      const again = (locker: LockerService) => Effect.flip(locker.withLock(key, Effect.void))
      const body = (lease: Lease) =>
        Effect.gen(function*() {
          const seen = [
            yield* again(two),
            yield* Effect.flip(two.withLockIfAvailable(key, Effect.void)),
            yield* Effect.flip(Effect.scoped(two.scoped(key))),
            // The other client has no lease of its own to enter.
            yield* Effect.flip(two.withLock(key, Effect.void, { reentrant: true })),
            yield* Effect.flatMap(Effect.forkChild(again(two)), Fiber.join),
            // Through nested sections of both lockers.
            yield* two.withLock(bench.key(), again(two)),
            yield* one.withLock(bench.key(), again(two)),
            yield* two.withLock(bench.key(), again(one))
          ]
          for (const error of seen) {
            if (error._tag !== "LockAlreadyHeld") return expect(false, `LockAlreadyHeld, but it was ${error._tag}`)
            equal(error.fencingToken, lease.fencingToken, "the token that LockAlreadyHeld names")
          }
          // None of these requests is left in the queue.
          const next = bench.claim(key)
          equal((yield* bench.queue(third, next)).ahead().waiting, 1, "the number of claims that wait")
          yield* third.withdraw(next)
        })
      const section = yield* bench.fork(one.withLock(key, body))
      yield* bench.drive(section, "nested requests to fail at once")
      yield* bench.expectFree(third, key, "after the section")
    })],

  ["a claim that another holds is waited for, whatever the asker holds besides", (bench) =>
    Effect.gen(function*() {
      const [client, one, two] = yield* Effect.all([
        bench.client,
        Effect.flatMap(bench.client, bench.locker),
        Effect.flatMap(bench.client, bench.locker)
      ])
      const key = bench.key()
      const held = yield* bench.hold(client, bench.claim(key))
      const waiting = yield* bench.fork(one.withLock(bench.key(), two.withLock(key, Effect.succeed("in"))))
      yield* bench.advance(30)
      expect(waiting.pollUnsafe() === undefined, "the nested request to wait")
      yield* client.withdraw(held.claim)
      equal(yield* bench.drive(waiting, "the nested request to be granted"), "in", "its result")
    })]
]

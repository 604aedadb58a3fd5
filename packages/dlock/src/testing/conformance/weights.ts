import * as Effect from "effect/Effect"
import { type Body, equal, expect, expectGranted } from "./bench.ts"

/** Tests of claims with several permits, for stores that offer more than mutexes. */
export const weights: ReadonlyArray<readonly [name: string, body: Body]> = [
  ["n of n permits are granted, and not one more", (bench) =>
    Effect.gen(function*() {
      const [client, other] = yield* Effect.all([bench.client, bench.client])
      const key = bench.key()
      const claims = Array.from({ length: 4 }, () => bench.lasting(key, { capacity: 3 }))
      for (const [index, claim] of claims.entries()) {
        const answer = yield* (index % 2 === 0 ? client : other).request(claim, "try")
        equal(answer._tag, index < 3 ? "Granted" : "Busy", `the answer to claim ${index + 1} of 3 permits`)
      }
      yield* client.withdraw(claims[0]!)
      expectGranted(yield* other.request(bench.lasting(key, { capacity: 3 }), "try"), "a claim after one was withdrawn")
      equal(
        (yield* other.request(bench.lasting(key, { capacity: 3 }), "try"))._tag,
        "Busy",
        "the answer to one claim more"
      )
    })],

  ["the largest capacity is granted to its last permit, and not one more", (bench) =>
    Effect.gen(function*() {
      const [client, other] = yield* Effect.all([bench.client, bench.client])
      const key = bench.key()
      const capacity = 2 ** 31 - 1
      const claim = (permits: number) => bench.lasting(key, { capacity, permits })
      const almostAll = yield* bench.hold(client, claim(capacity - 1))
      equal((yield* other.request(claim(2), "try"))._tag, "Busy", "the answer to a try of one permit too many")
      const last = yield* bench.hold(other, claim(1))
      equal((yield* other.request(claim(1), "try"))._tag, "Busy", "the answer to a try with nothing left")
      const all = claim(capacity)
      const queued = yield* bench.queue(other, all)
      yield* client.withdraw(almostAll.claim)
      yield* other.withdraw(last.claim)
      yield* bench.granted(queued, "all permits at once")
      equal((yield* client.request(claim(1), "try"))._tag, "Busy", "the answer to a try while all are held")
      yield* other.withdraw(all)
    })],

  ["a large claim is not overtaken by later small ones", (bench) =>
    Effect.gen(function*() {
      const [client, other] = yield* Effect.all([bench.client, bench.client])
      const key = bench.key()
      const small = () => bench.lasting(key, { capacity: 3 })
      const one = yield* bench.hold(client, small())
      const two = yield* bench.hold(other, small())
      const large = bench.lasting(key, { capacity: 3, permits: 3 })
      const queuedLarge = yield* bench.queue(client, large)
      equal((yield* other.request(small(), "try"))._tag, "Busy", "a small try behind a large claim that waits")
      const later = small()
      const queuedLater = yield* bench.queue(other, later)
      const waiting = yield* Effect.forkScoped(queuedLater.granted, { startImmediately: true })
      yield* client.withdraw(one.claim)
      yield* bench.advance(30)
      expect(waiting.pollUnsafe() === undefined, "a later small claim to wait though it would fit")
      yield* other.withdraw(two.claim)
      yield* bench.granted(queuedLarge, "the large claim")
      expect(waiting.pollUnsafe() === undefined, "a later small claim to wait while the large one is held")
      yield* client.withdraw(large)
      expectGranted(yield* bench.drive(waiting, "the later small claim"), "the later small claim")
    })],

  ["a large claim that gives up lets those behind it in", (bench) =>
    Effect.gen(function*() {
      const client = yield* bench.client
      const key = bench.key()
      yield* bench.hold(client, bench.lasting(key, { capacity: 3 }))
      const large = bench.lasting(key, { capacity: 3, permits: 3 })
      yield* bench.queue(client, large)
      const small = yield* bench.queue(client, bench.lasting(key, { capacity: 3 }))
      yield* client.withdraw(large)
      yield* bench.granted(small, "the small claim behind one that gave up")
    })],

  ["one release lets in as many as fit", (bench) =>
    Effect.gen(function*() {
      const client = yield* bench.client
      const key = bench.key()
      const large = bench.lasting(key, { capacity: 3, permits: 3 })
      yield* bench.hold(client, large)
      const waiting = []
      for (let i = 0; i < 4; i++) {
        const queued = yield* bench.queue(client, bench.lasting(key, { capacity: 3 }))
        waiting.push(yield* Effect.forkScoped(queued.granted, { startImmediately: true }))
      }
      yield* client.withdraw(large)
      for (const fiber of waiting.slice(0, 3)) yield* bench.drive(fiber, "three small claims to be granted together")
      yield* bench.advance(30)
      expect(waiting[3]!.pollUnsafe() === undefined, "the fourth small claim to wait")
    })],

  ["another capacity is a mismatch, while the key is in use", (bench) =>
    Effect.gen(function*() {
      const [client, other] = yield* Effect.all([bench.client, bench.client])
      const key = bench.key()
      const held = yield* bench.hold(client, bench.lasting(key, { capacity: 3 }))
      for (const mode of ["queue", "try"] as const) {
        const answer = yield* other.request(bench.lasting(key, { capacity: 2 }), mode)
        equal(answer._tag, "CapacityMismatch", `the answer to a ${mode} request with another capacity`)
        const mutex = yield* other.request(bench.lasting(key), mode)
        equal(mutex._tag, "CapacityMismatch", `the answer to a ${mode} request for a mutex`)
      }
      const locker = yield* bench.locker(other)
      const refused = yield* Effect.flip(locker.withLock(key, Effect.void))
      equal(refused._tag, "InvalidLockRequest", "the error of a lock on a key that is used as a semaphore")
      yield* client.withdraw(held.claim)
      const anew = yield* bench.hold(other, bench.lasting(key, { capacity: 2 }))
      yield* other.withdraw(anew.claim)
      yield* bench.expectFree(client, key, "after everything was withdrawn")
    })],

  ["a permit that nobody renews comes free, the others stay", (bench) =>
    Effect.gen(function*() {
      const client = yield* bench.client
      const key = bench.key()
      const kept = yield* bench.hold(client, bench.claim(key, { capacity: 2 }))
      yield* bench.hold(client, bench.claim(key, { capacity: 2 }))
      const queued = yield* bench.queue(client, bench.claim(key, { capacity: 2 }))
      const waiting = yield* Effect.forkScoped(queued.granted, { startImmediately: true })
      const end = (yield* bench.now) + bench.freeAfter + bench.soon
      while (waiting.pollUnsafe() === undefined && (yield* bench.now) < end) {
        yield* bench.advance(bench.ttl / 5)
        equal((yield* bench.renewOne(client, kept))._tag, "Confirmed", "the renewal of the permit that is kept")
      }
      expectGranted(yield* bench.drive(waiting, "the waiter to get the abandoned permit"), "the waiter")
    })]
]

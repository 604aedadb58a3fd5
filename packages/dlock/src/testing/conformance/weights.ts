import * as Effect from "effect/Effect"
import type { LockBackendError, LockKind } from "../../LockError.ts"
import { type Answer, type Claim, readWriteCapacity } from "../../LockStore.ts"
import { type Bench, type Body, equal, expect, expectGranted } from "./bench.ts"

type Refusable = Effect.Effect<never, LockBackendError>

const ofKind = (bench: Bench, key: string, kind: LockKind, permits = 1): Claim =>
  bench.lasting(key, { kind, permits, capacity: { mutex: 1, semaphore: 3, readWrite: readWriteCapacity }[kind] })

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

  ["another kind of lock is a mismatch, while the key is in use", (bench) =>
    Effect.gen(function*() {
      const [client, other] = yield* Effect.all([bench.client, bench.client])
      const key = bench.key()
      const mismatch = (kind: LockKind, inUse: number) => ({ _tag: "CapacityMismatch", kind, inUse }) as const
      const expectMismatch = (kinds: ReadonlyArray<LockKind>, expected: Answer) =>
        Effect.gen(function*() {
          for (const mode of ["queue", "try"] as const) {
            for (const kind of kinds) {
              const answer = yield* other.request(ofKind(bench, key, kind), mode)
              equal(answer, expected, `the answer to a ${mode} request of the kind ${kind}`)
            }
          }
        })
      const semaphore = yield* bench.hold(client, bench.lasting(key, { capacity: 3 }))
      yield* expectMismatch(["mutex", "readWrite"], mismatch("semaphore", 3))
      const locker = yield* bench.locker(other)
      const refused = yield* Effect.flip(locker.withLock(key, Effect.void))
      equal(refused._tag, "CapacityMismatch", "the error of a lock on a key that is used as a semaphore")
      yield* client.withdraw(semaphore.claim)
      const mutex = yield* bench.hold(client, bench.lasting(key))
      yield* expectMismatch(["semaphore", "readWrite"], mismatch("mutex", 1))
      yield* client.withdraw(mutex.claim)
      const reader = yield* bench.hold(client, ofKind(bench, key, "readWrite"))
      yield* expectMismatch(["semaphore", "mutex"], mismatch("readWrite", readWriteCapacity))
      yield* client.withdraw(reader.claim)
      const anew = yield* bench.hold(other, bench.lasting(key, { capacity: 2 }))
      yield* other.withdraw(anew.claim)
      yield* bench.expectFree(client, key, "after everything was withdrawn")
    })],

  ["a semaphore of 1 is no mutex, and grows to 2", (bench) =>
    Effect.gen(function*() {
      const [client, other] = yield* Effect.all([bench.client, bench.client])
      const key = bench.key()
      const one = yield* bench.hold(client, bench.lasting(key, { capacity: 1 }))
      const mutex = yield* other.request(bench.lasting(key), "try")
      equal(mutex, { _tag: "CapacityMismatch", kind: "semaphore", inUse: 1 }, "the answer to a mutex")
      const two = yield* bench.queue(other, bench.lasting(key, { capacity: 2 }))
      equal(two.capacityInUse, 1, "the capacity in use, as a waiter of a larger one learns it")
      yield* client.withdraw(one.claim)
      yield* bench.granted(two, "the waiter of the larger capacity")
      expectGranted(yield* client.request(bench.lasting(key, { capacity: 2 }), "try"), "the second of two permits")
    })],

  ["of two capacities the smaller one rules, while a claim with it is held", (bench) =>
    Effect.gen(function*() {
      const [client, other] = yield* Effect.all([bench.client, bench.client])
      const key = bench.key()
      const old = (permits = 1) => bench.lasting(key, { capacity: 2, permits })
      const grown = (permits = 1) => bench.lasting(key, { capacity: 4, permits })
      const held = yield* bench.hold(client, old())
      const first = expectGranted(yield* other.request(grown(), "try"), "a claim of 4 beside one of 2")
      equal(first.capacityInUse, 2, "the capacity in use, as the claim of 4 learns it")
      equal((yield* other.request(grown(), "try"))._tag, "Busy", "the answer to a third claim while one of 2 is held")
      const queued = yield* bench.queue(other, grown(3))
      yield* client.withdraw(held.claim)
      const three = yield* bench.granted(queued, "3 of 4, once no claim of 2 is held")
      equal(three.capacityInUse, undefined, "the capacity in use, where all agree")
      const smaller = bench.lasting(key, { capacity: 2 })
      equal((yield* client.request(smaller, "try"))._tag, "Busy", "the answer to a claim of 2 while 4 are held")
    })],

  ["a smaller capacity drains, and starves nobody", (bench) =>
    Effect.gen(function*() {
      const [client, other] = yield* Effect.all([bench.client, bench.client])
      const key = bench.key()
      const large = Array.from({ length: 4 }, () => bench.lasting(key, { capacity: 4 }))
      for (const claim of large) yield* bench.hold(client, claim)
      const smaller = bench.lasting(key, { capacity: 2 })
      const queued = yield* bench.queue(other, smaller)
      equal(queued.capacityInUse, 4, "the capacity in use, as a claim of 2 learns it")
      const behind = yield* bench.queue(client, bench.lasting(key, { capacity: 4 }))
      const waiting = yield* Effect.forkScoped(queued.granted, { startImmediately: true })
      const later = yield* Effect.forkScoped(behind.granted, { startImmediately: true })
      for (const claim of large.slice(0, 2)) yield* client.withdraw(claim)
      yield* bench.advance(30)
      expect(waiting.pollUnsafe() === undefined, "a claim of 2 to wait while 2 of 4 are held")
      expect(later.pollUnsafe() === undefined, "a claim of 4 to wait behind the claim of 2, though it would fit")
      yield* client.withdraw(large[2]!)
      expectGranted(yield* bench.drive(waiting, "the claim of 2 beside one of 4"), "the claim of 2")
      yield* bench.advance(30)
      expect(later.pollUnsafe() === undefined, "a claim of 4 to wait while 2 are held and a claim of 2 is among them")
      yield* client.withdraw(large[3]!)
      expectGranted(yield* bench.drive(later, "the claim of 4 beside the claim of 2"), "the claim of 4")
    })],

  ["a claim that wants to fail when the capacity differs does, and others do not", (bench) =>
    Effect.gen(function*() {
      const [client, other] = yield* Effect.all([bench.client, bench.client])
      const key = bench.key()
      const held = yield* bench.hold(client, bench.lasting(key, { capacity: 3 }))
      for (const mode of ["queue", "try"] as const) {
        const strict = bench.lasting(key, { capacity: 2, onCapacityChange: "fail" })
        const answer = yield* other.request(strict, mode)
        equal(
          answer,
          { _tag: "CapacityMismatch", kind: "semaphore", inUse: 3 },
          `the answer to a strict ${mode} request`
        )
      }
      const same = yield* bench.hold(other, bench.lasting(key, { capacity: 3, onCapacityChange: "fail" }))
      for (const { claim } of [held, same]) yield* client.withdraw(claim)
      yield* bench.hold(other, bench.lasting(key, { capacity: 2, onCapacityChange: "fail" }))
    })],

  ["a claim that its kind cannot have fails before anything is written", (bench) =>
    Effect.gen(function*() {
      const client = yield* bench.client
      const key = bench.key()
      const capacity = readWriteCapacity
      const impossible: ReadonlyArray<Partial<Claim>> = [
        { kind: "mutex", capacity: 2 },
        { kind: "semaphore", capacity: 2, permits: 3 },
        { kind: "semaphore", capacity: 2, permits: 0 },
        { kind: "readWrite", capacity: 2 },
        { kind: "readWrite", capacity, permits: 2 }
      ]
      for (const options of impossible) {
        const refused = yield* Effect.flip(client.request(bench.lasting(key, options), "queue") as Refusable)
        equal(refused.retryable, false, `whether it helps to repeat a claim of ${JSON.stringify(options)}`)
      }
      yield* bench.expectFree(client, key, "after claims that cannot be granted")
    })],

  [
    "readers share, a writer waits for all of them, and later readers wait for the writer",
    (bench) =>
      Effect.gen(function*() {
        const [client, other] = yield* Effect.all([bench.client, bench.client])
        const key = bench.key()
        const reader = () => ofKind(bench, key, "readWrite")
        const writer = () => ofKind(bench, key, "readWrite", readWriteCapacity)
        const first = yield* bench.hold(client, reader())
        const second = yield* bench.hold(other, reader())
        const writing = writer()
        const queued = yield* bench.queue(other, writing)
        equal(
          (yield* client.request(reader(), "try"))._tag,
          "Busy",
          "the answer to a reader behind a writer that waits"
        )
        const late = yield* Effect.forEach([reader(), reader()], (claim) => bench.queue(client, claim))
        yield* client.withdraw(first.claim)
        yield* other.withdraw(second.claim)
        const granted = yield* bench.granted(queued, "the writer after the last reader")
        expect(
          granted.fencingToken > second.fencingToken,
          "the token of a writer to be above those of all readers before"
        )
        equal((yield* client.request(writer(), "try"))._tag, "Busy", "the answer to a second writer")
        yield* other.withdraw(writing)
        for (const one of late) yield* bench.granted(one, "the readers together after the writer")
      })
  ],

  ["a store that counts permits counts those that are held", (bench) =>
    Effect.gen(function*() {
      const [client, other] = yield* Effect.all([bench.client, bench.client])
      const { used } = client
      if (used === undefined) return
      const key = bench.key()
      const asked = bench.lasting(key, { capacity: 8 })
      equal(yield* used(asked), 0, "the permits on a key that nobody holds")
      const held = yield* bench.hold(client, bench.lasting(key, { capacity: 8, permits: 3 }))
      yield* bench.hold(other, bench.lasting(key, { capacity: 8, permits: 2 }))
      yield* bench.queue(other, bench.lasting(key, { capacity: 8, permits: 8 }))
      equal(yield* used(asked), 5, "the permits of two claims, beside one that waits")
      yield* client.withdraw(held.claim)
      equal(yield* used(asked), 2, "the permits after one was withdrawn")
      const mutex = bench.lasting(bench.key())
      equal(yield* used(mutex), 0, "the permits of a free mutex")
      yield* bench.hold(other, mutex)
      equal(yield* used(mutex), 1, "the permits of a mutex that is held")
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

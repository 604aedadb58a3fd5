import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import { type Claim, type Held, readWriteCapacity } from "../../LockStore.ts"
import { type Bench, type Body, equal, expect, expectGranted, type Store } from "./bench.ts"

/** Waits until the claim is contended. */
const watch = ({ contended }: Store, held: Held): Effect.Effect<Fiber.Fiber<void>, never, Scope.Scope> =>
  contended === undefined
    ? expect(false, "the store to have `contended`; a store without it sets the option `contended` to false")
    : Effect.forkScoped(contended(held), { startImmediately: true })

/** Long enough for a message that should not come. Each test has a moment at which one of these may be underway. */
const aWhile = 100

const expectSilence = (bench: Bench, watching: ReadonlyArray<Fiber.Fiber<void>>, when: string) =>
  Effect.map(bench.advance(aWhile), () => {
    for (const one of watching) expect(one.pollUnsafe() === undefined, `no contention ${when}`)
  })

const reader = (bench: Bench, key: string): Claim =>
  bench.lasting(key, { kind: "readWrite", capacity: readWriteCapacity })

const writer = (bench: Bench, key: string): Claim => ({ ...reader(bench, key), permits: readWriteCapacity })

/** Tests of holders that are told that others wait, for stores that offer it. */
export const contention: ReadonlyArray<readonly [name: string, body: Body]> = [
  ["a holder is told when another waits, and not of one that only tries", (bench) =>
    Effect.gen(function*() {
      const [client, other] = yield* Effect.all([bench.client, bench.client])
      for (const waiter of [other, client]) {
        const key = bench.key()
        const held = yield* bench.hold(client, bench.lasting(key))
        const watching = yield* watch(client, held)
        yield* expectSilence(bench, [watching], "while nobody else is there")
        yield* bench.expectHeld(other, key, "while the key is held")
        yield* expectSilence(bench, [watching], "after a try that found the key held")
        yield* bench.queue(waiter, bench.lasting(key))
        yield* bench.drive(watching, "the holder to be told that another waits")
      }
    })],

  ["a holder that asks while another waits is told at once, as often as it asks", (bench) =>
    Effect.gen(function*() {
      const [client, other] = yield* Effect.all([bench.client, bench.client])
      const key = bench.key()
      const held = yield* bench.hold(client, bench.lasting(key))
      yield* bench.queue(other, bench.lasting(key))
      // What the backend sends by itself is in.
      yield* bench.advance(aWhile)
      for (let time = 0; time < 2; time++) {
        yield* bench.drive(yield* watch(client, held), "the holder to be told that another waits")
      }
    })],

  ["a claim that is granted while others wait is contended", (bench) =>
    Effect.gen(function*() {
      const [client, other] = yield* Effect.all([bench.client, bench.client])
      const key = bench.key()
      const held = yield* bench.hold(client, bench.lasting(key))
      const next = bench.lasting(key)
      const queued = yield* bench.queue(other, next)
      yield* bench.queue(client, bench.lasting(key))
      yield* client.withdraw(held.claim)
      const { fencingToken } = yield* bench.granted(queued, "the next in the queue")
      const watching = yield* watch(other, { claim: next, fencingToken })
      yield* bench.drive(watching, "the holder to be told of those who waited before its grant")
    })],

  ["a claim that is granted after others have left the queue is not contended", (bench) =>
    Effect.gen(function*() {
      const [client, other] = yield* Effect.all([bench.client, bench.client])
      const key = bench.key()
      const held = yield* bench.hold(client, bench.lasting(key))
      const next = bench.lasting(key)
      const last = bench.lasting(key)
      const queued = yield* bench.queue(other, next)
      yield* bench.queue(client, last)
      equal(yield* client.withdraw(last), "cancelled", "the withdrawal of a claim that waits")
      yield* client.withdraw(held.claim)
      const { fencingToken } = yield* bench.granted(queued, "the next in the queue")
      const watching = yield* watch(other, { claim: next, fencingToken })
      yield* expectSilence(bench, [watching], "when the one behind it has left")
      yield* bench.queue(client, bench.lasting(key))
      yield* bench.drive(watching, "the holder to be told of one that comes later")
    })],

  ["a wait for contention can be interrupted and repeated", (bench) =>
    Effect.gen(function*() {
      const [client, other] = yield* Effect.all([bench.client, bench.client])
      const key = bench.key()
      const held = yield* bench.hold(client, bench.lasting(key))
      for (let time = 0; time < 3; time++) {
        const watching = yield* watch(client, held)
        yield* bench.advance(10)
        watching.interruptUnsafe()
      }
      const watching = yield* watch(client, held)
      yield* bench.queue(other, bench.lasting(key))
      yield* bench.drive(watching, "the holder to be told after waits that were interrupted")
    })]
]

/** The same for semaphores and read-write locks. */
export const sharedContention: ReadonlyArray<readonly [name: string, body: Body]> = [
  [
    "holders of permits are told when a claim does not get its permits, and not of one that does",
    (bench) =>
      Effect.gen(function*() {
        const [client, other] = yield* Effect.all([bench.client, bench.client])
        const key = bench.key()
        const claim = (permits: number) => bench.lasting(key, { capacity: 3, permits })
        const first = yield* bench.hold(client, claim(1))
        const watching = [yield* watch(client, first)]
        watching.push(yield* watch(other, yield* bench.hold(other, claim(1))))
        expectGranted(yield* client.request(claim(1), "queue"), "the last permit")
        yield* expectSilence(bench, watching, "while all have their permits")
        equal((yield* other.request(claim(1), "try"))._tag, "Busy", "the answer to a try of one permit too many")
        yield* expectSilence(bench, watching, "after a try of one permit too many")
        yield* bench.queue(other, claim(2))
        for (const one of watching) yield* bench.drive(one, "each holder to be told that another waits")
      })
  ],

  ["readers are told of a writer and not of readers, and a writer is told of both", (bench) =>
    Effect.gen(function*() {
      const [client, other] = yield* Effect.all([bench.client, bench.client])
      const key = bench.key()
      const first = yield* bench.hold(client, reader(bench, key))
      const reading = [yield* watch(client, first)]
      const second = yield* bench.hold(other, reader(bench, key))
      reading.push(yield* watch(other, second))
      yield* expectSilence(bench, reading, "among readers")
      const next = writer(bench, key)
      const queued = yield* bench.queue(other, next)
      for (const one of reading) yield* bench.drive(one, "each reader to be told of a writer")
      yield* client.withdraw(first.claim)
      yield* other.withdraw(second.claim)
      const { fencingToken } = yield* bench.granted(queued, "the writer")
      const writing = yield* watch(other, { claim: next, fencingToken })
      yield* expectSilence(bench, [writing], "while the writer is alone")
      yield* bench.queue(client, reader(bench, key))
      yield* bench.drive(writing, "the writer to be told of a reader")
    })],

  ["a writer that became a reader is told of a writer and not of readers", (bench) =>
    Effect.gen(function*() {
      const [client, other] = yield* Effect.all([bench.client, bench.client])
      if (client.shrink === undefined) return
      const key = bench.key()
      const held = yield* bench.hold(client, writer(bench, key))
      const watching = yield* watch(client, held)
      yield* client.shrink(held, 1)
      yield* bench.hold(other, reader(bench, key))
      yield* expectSilence(bench, [watching], "among readers")
      yield* bench.queue(other, writer(bench, key))
      yield* bench.drive(watching, "the former writer to be told of a writer")
    })]
]

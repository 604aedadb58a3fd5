import * as Effect from "effect/Effect"
import { type Claim, readWriteCapacity } from "../../LockStore.ts"
import { type Bench, type Body, equal, expect, expectGranted, type Store } from "./bench.ts"

const reader = (bench: Bench, key: string): Claim =>
  bench.lasting(key, { kind: "readWrite", capacity: readWriteCapacity })

const writer = (bench: Bench, key: string): Claim => ({ ...reader(bench, key), permits: readWriteCapacity })

const shrink = ({ shrink }: Store): NonNullable<Store["shrink"]> =>
  shrink ?? expect(false, "the store to have `shrink`; a store without it sets the option `shrink` to false")

/** Tests of claims that give back some of their permits, for stores that offer it. */
export const shrinking: ReadonlyArray<readonly [name: string, body: Body]> = [
  ["a writer that becomes a reader lets readers in, and no writer", (bench) =>
    Effect.gen(function*() {
      const [client, other] = yield* Effect.all([bench.client, bench.client])
      const key = bench.key()
      const held = yield* bench.hold(client, writer(bench, key))
      const waiting = yield* Effect.forEach(
        [reader(bench, key), reader(bench, key)],
        (claim) => bench.queue(other, claim)
      )
      const next = writer(bench, key)
      const queued = yield* bench.queue(other, next)
      const writing = yield* Effect.forkScoped(queued.granted, { startImmediately: true })
      for (let time = 0; time < 2; time++) {
        equal((yield* shrink(client)(held, 1))._tag, "Confirmed", "the answer to a shrink, and to its repeat")
      }
      const readers = []
      for (const one of waiting) readers.push(yield* bench.granted(one, "a reader behind a writer that shrank"))
      for (const { fencingToken } of readers) {
        expect(fencingToken > held.fencingToken, "the tokens of later readers to be above the writer's")
      }
      yield* bench.advance(30)
      expect(writing.pollUnsafe() === undefined, "another writer to wait while the shrunk one is held")
      for (const claim of [held.claim, { ...held.claim, permits: 1 }]) {
        const answer = yield* bench.renewOne(client, { ...held, claim })
        equal(answer._tag, "Confirmed", "the renewal of a shrunk claim, under its old and its new number of permits")
      }
      yield* bench.advance(30)
      expect(writing.pollUnsafe() === undefined, "another writer to wait after renewals of the shrunk one")
      equal(yield* client.withdraw({ ...held.claim, permits: 1 }), "released", "the withdrawal of the shrunk claim")
    })],

  ["a writer may enter when the shrunk one and its readers have left", (bench) =>
    Effect.gen(function*() {
      const [client, other] = yield* Effect.all([bench.client, bench.client])
      const key = bench.key()
      const held = yield* bench.hold(client, writer(bench, key))
      yield* shrink(client)(held, 1)
      const beside = yield* bench.hold(other, reader(bench, key))
      const queued = yield* bench.queue(other, writer(bench, key))
      yield* client.withdraw(held.claim)
      yield* other.withdraw(beside.claim)
      const granted = yield* bench.granted(queued, "the next writer")
      expect(granted.fencingToken > beside.fencingToken, "the token of the next writer to be above the readers'")
    })],

  ["permits that a semaphore gives back serve those who wait", (bench) =>
    Effect.gen(function*() {
      const [client, other] = yield* Effect.all([bench.client, bench.client])
      const key = bench.key()
      const held = yield* bench.hold(client, bench.lasting(key, { capacity: 4, permits: 4 }))
      const two = yield* bench.queue(other, bench.lasting(key, { capacity: 4, permits: 2 }))
      yield* shrink(client)(held, 2)
      yield* bench.granted(two, "two permits that were given back")
      equal((yield* other.request(bench.lasting(key, { capacity: 4 }), "try"))._tag, "Busy", "the answer to one more")
      yield* client.withdraw(held.claim)
      for (let time = 0; time < 2; time++) {
        expectGranted(
          yield* other.request(bench.lasting(key, { capacity: 4 }), "try"),
          "the permits of the shrunk claim"
        )
      }
      equal((yield* other.request(bench.lasting(key, { capacity: 4 }), "try"))._tag, "Busy", "the answer to one more")
    })],

  ["a claim that is gone shrinks nothing", (bench) =>
    Effect.gen(function*() {
      const [client, other] = yield* Effect.all([bench.client, bench.client])
      const key = bench.key()
      const held = yield* bench.hold(client, writer(bench, key))
      yield* client.withdraw(held.claim)
      equal((yield* shrink(client)(held, 1))._tag, "Gone", "the answer to the shrink of a claim that was withdrawn")
      const next = yield* bench.hold(other, writer(bench, key))
      equal((yield* shrink(client)(held, 1))._tag, "Replaced", "the answer to the shrink of a claim that was replaced")
      equal(
        (yield* other.request(reader(bench, key), "try"))._tag,
        "Busy",
        "the answer to a reader beside the next writer"
      )
      equal((yield* bench.renewOne(other, next))._tag, "Confirmed", "the renewal of the next writer")
    })]
]

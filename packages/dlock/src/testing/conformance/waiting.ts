import * as Effect from "effect/Effect"
import { type Claim, readWriteCapacity } from "../../LockStore.ts"
import { type Bench, type Body, equal, expect, type Store } from "./bench.ts"

const waiting = ({ waiting }: Store): NonNullable<Store["waiting"]> =>
  waiting ?? expect(false, "the store to have `waiting`; a store without it sets the option `waiting` to false")

/** The holders that the store names as waiting, and their kinds. */
const waitingOn = (store: Store, claim: Claim, most = 64): Effect.Effect<string, unknown> =>
  Effect.map(waiting(store)(claim, most), (found) => found.map(({ holder, kind }) => `${holder} (${kind})`).join(", "))

/** Tests of the list of waiting claims, for stores that offer it. */
export const waitingClaims: ReadonlyArray<readonly [name: string, body: Body]> = [
  [
    "the claims that wait are listed in the order of the queue, without the one that holds the lock",
    (bench) =>
      Effect.gen(function*() {
        const [client, other] = yield* Effect.all([bench.client, bench.client])
        const key = bench.key()
        const named = (holder: string) => bench.lasting(key, { holder })
        const [holder, first, second, third] = [
          named("h"),
          named("1 {\"a\":\"|\"}\tholds [\"b\"]"),
          named("2"),
          named("3")
        ]
        equal(yield* waitingOn(other, holder), "", "the claims that wait on a free key")
        yield* bench.hold(client, holder)
        equal(yield* waitingOn(other, holder), "", "the claims that wait on a key that is held")
        yield* bench.queue(client, first)
        const queued = yield* bench.queue(other, second)
        yield* bench.queue(client, third)
        for (const store of [client, other]) {
          equal(
            yield* waitingOn(store, holder),
            `${first.holder} (mutex), 2 (mutex), 3 (mutex)`,
            "the claims that wait behind another"
          )
        }
        const two = yield* waitingOn(other, holder, 2)
        expect(two.startsWith(`${first.holder} (mutex)`) && !two.includes("3"), "at most two claims, from the first on")
        yield* client.withdraw(first)
        equal(yield* waitingOn(other, holder), "2 (mutex), 3 (mutex)", "the claims that wait after the first has left")
        yield* client.withdraw(holder)
        yield* bench.granted(queued, "the next one")
        equal(yield* waitingOn(client, holder), "3 (mutex)", "the claims that wait when the next one has the lock")
        yield* client.withdraw(third)
        yield* other.withdraw(second)
        yield* bench.expectFree(other, key, "after all have left")
      })
  ]
]

const reader = (bench: Bench, key: string, holder: string): Claim =>
  bench.lasting(key, { kind: "readWrite", capacity: readWriteCapacity, holder })

/** The same for locks that several claims can hold. */
export const sharedWaitingClaims: ReadonlyArray<readonly [name: string, body: Body]> = [
  ["the claims that wait for permits are listed, without those that have theirs", (bench) =>
    Effect.gen(function*() {
      const [client, other] = yield* Effect.all([bench.client, bench.client])
      const key = bench.key()
      const named = (holder: string, permits = 1) => bench.lasting(key, { capacity: 3, permits, holder })
      const [one, two] = [named("1"), named("2", 2)]
      yield* bench.hold(client, one)
      yield* bench.hold(other, two)
      yield* bench.queue(client, named("3", 2))
      yield* bench.queue(other, named("4"))
      equal(yield* waitingOn(client, one), "3 (semaphore), 4 (semaphore)", "the claims that wait")
      yield* client.withdraw(one)
      equal(yield* waitingOn(other, one), "3 (semaphore), 4 (semaphore)", "the claims that wait behind a large one")
    })],

  ["the readers and writers that wait are listed, without those that are inside", (bench) =>
    Effect.gen(function*() {
      const [client, other] = yield* Effect.all([bench.client, bench.client])
      const key = bench.key()
      const first = reader(bench, key, "1")
      yield* bench.hold(client, first)
      yield* bench.hold(other, reader(bench, key, "2"))
      equal(yield* waitingOn(other, first), "", "the claims that wait beside readers")
      yield* bench.queue(client, { ...reader(bench, key, "3"), permits: readWriteCapacity })
      yield* bench.queue(other, reader(bench, key, "4"))
      equal(yield* waitingOn(client, first), "3 (readWrite), 4 (readWrite)", "the claims that wait behind readers")
      const written = bench.key()
      const writer = { ...reader(bench, written, "1"), permits: readWriteCapacity }
      yield* bench.hold(client, writer)
      yield* bench.queue(other, reader(bench, written, "2"))
      equal(yield* waitingOn(client, writer), "2 (readWrite)", "the claims that wait behind a writer")
    })]
]

import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { type Claim, type Queued, readWriteCapacity } from "../../LockStore.ts"
import { type Bench, equal, expect, type Store } from "./bench.ts"

/** What a backend has done so far, for all its clients together. */
export interface Work {
  /** How many requests it has received. */
  readonly requests: number
  /** How many bytes it has sent. */
  readonly bytes?: number
  /** How long it has worked, in microseconds. */
  readonly micros?: number
}

type CostBody = (bench: Bench, work: Effect.Effect<Work>) => Effect.Effect<void, unknown, Scope.Scope>

/** The work for each of the `count` steps of an effect. */
const each = <E, R>(work: Effect.Effect<Work>, count: number, steps: Effect.Effect<void, E, R>) =>
  Effect.gen(function*() {
    const before = yield* work
    yield* steps
    const after = yield* work
    const part = (name: keyof Work): number => ((after[name] ?? 0) - (before[name] ?? 0)) / count
    return { requests: part("requests"), bytes: part("bytes"), micros: part("micros") }
  })

/**
 * Compares what a step costs at two sizes, after one round that nobody counts: a client's first step pays for what it
 * then has for good, such as a connection or a loaded script. Requests hardly vary. Bytes and times do, so only a cost
 * that grows with the size is found, which a factor of 10 between the sizes shows.
 */
const expectFlat = Effect.fnUntraced(function*<E, R>(
  what: string,
  costAt: (size: number) => Effect.Effect<Required<Work>, E, R>
) {
  yield* costAt(1)
  const [small, large] = [yield* costAt(25), yield* costAt(250)]
  const grows = (name: keyof Work, factor: number, slack: number): string | undefined =>
    large[name] > factor * small[name] + slack
      ? `${small[name].toFixed(1)} and ${large[name].toFixed(1)} ${name}`
      : undefined
  const found = [grows("requests", 1.5, 1), grows("bytes", 3, 500), grows("micros", 4, 50)]
    .filter((one) => one !== undefined)
  expect(found.length === 0, `${what} to cost the same at both sizes, but it costs ${found.join(", ")}`)
})

const queueAll = (bench: Bench, stores: ReadonlyArray<Store>, claims: ReadonlyArray<Claim>) =>
  Effect.forEach(claims, (claim, index) =>
    Effect.map(bench.queue(stores[index % stores.length]!, claim), (queued) => ({
      claim,
      queued,
      store: stores[index % stores.length]!
    })))

const grantedAll = (bench: Bench, all: ReadonlyArray<Queued>, what: string) =>
  Effect.forEach(all, (queued) => bench.granted(queued, what, 20_000), { concurrency: "unbounded", discard: true })

/** Tests of what a lock costs the backend at two sizes. */
export const costs: ReadonlyArray<readonly [name: string, body: CostBody]> = [
  ["a section costs the same beside few holders and beside many", (bench, work) =>
    Effect.gen(function*() {
      const [client, other] = yield* Effect.all([bench.client, bench.client])
      const capacity = 1_000_000
      const cost = Effect.fnUntraced(function*(holders: number) {
        const key = bench.key()
        for (let holder = 0; holder < holders; holder++) {
          yield* bench.hold(client, bench.lasting(key, { capacity, holder: `holder ${"x".repeat(100)}` }))
        }
        const sections = 40
        return yield* each(
          work,
          sections,
          Effect.gen(function*() {
            for (let section = 0; section < sections; section++) {
              const { claim } = yield* bench.hold(other, bench.lasting(key, { capacity }))
              equal(yield* other.withdraw(claim), "released", "the end of a section")
            }
          })
        )
      })
      yield* expectFlat("a section", cost)
    })],

  ["a hand-over costs the same before few waiters and before many", (bench, work) =>
    Effect.gen(function*() {
      const stores = yield* Effect.all([bench.client, bench.client])
      const capacity = 4
      const cost = Effect.fnUntraced(function*(waiters: number) {
        const key = bench.key()
        const claim = () => bench.lasting(key, { capacity })
        const held = yield* Effect.forEach([1, 2, 3, 4], () => bench.hold(stores[0], claim()))
        const waiting = yield* queueAll(bench, stores, Array.from({ length: waiters }, claim))
        const leaving = held.map((one) => ({ claim: one.claim, store: stores[0] }))
        // All of them, because a store may read many places of the queue at once, and not again for a while.
        return yield* each(
          work,
          waiters,
          Effect.gen(function*() {
            for (const next of waiting) {
              const { claim, store } = leaving.shift()!
              yield* store.withdraw(claim)
              yield* bench.granted(next.queued, "the next waiter", 10_000)
              leaving.push(next)
            }
          })
        )
      })
      yield* expectFlat("a hand-over", cost)
    })],

  ["a reader behind a writer costs the same among few and among many", (bench, work) =>
    Effect.gen(function*() {
      const [client, ...stores] = yield* Effect.all([bench.client, bench.client, bench.client])
      const capacity = readWriteCapacity
      const cost = Effect.fnUntraced(function*(readers: number) {
        const key = bench.key()
        const writer = yield* bench.hold(
          client,
          bench.lasting(key, { kind: "readWrite", permits: capacity, capacity })
        )
        const claims = Array.from({ length: readers }, () => bench.lasting(key, { kind: "readWrite", capacity }))
        const waiting = yield* queueAll(bench, stores, claims)
        return yield* each(
          work,
          readers,
          Effect.andThen(
            client.withdraw(writer.claim),
            grantedAll(bench, waiting.map(({ queued }) => queued), "a reader after the writer")
          )
        )
      })
      yield* expectFlat("a reader", cost)
    })],

  [
    "waiters of one client cost the same, however many they are, while nothing happens",
    (bench, work) =>
      Effect.gen(function*() {
        const [client, other] = yield* Effect.all([bench.client, bench.client])
        const cost = Effect.fnUntraced(function*(waiters: number) {
          const key = bench.key()
          const claim = () => bench.lasting(key, { capacity: 4 })
          const held = yield* bench.hold(client, { ...claim(), permits: 4 })
          const waiting = yield* queueAll(bench, [other], Array.from({ length: waiters }, claim))
          const seconds = 4
          const spent = yield* each(work, seconds, bench.advance(seconds * 1_000))
          for (const { claim } of waiting) yield* other.withdraw(claim)
          yield* client.withdraw(held.claim)
          return spent
        })
        yield* expectFlat("a second of waiting", cost)
      })
  ]
]

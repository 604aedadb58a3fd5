import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import type { Claim, Period, RunOutcome, RunStore } from "../../LockStore.ts"
import { type Bench, type Body, equal, expect, type Store } from "./bench.ts"

const runsOf = ({ runs }: Store): RunStore =>
  runs ?? expect(false, "the store to have `runs`; a store without it sets the option `runs` to false")

const slotOf = (slot: bigint): Period => ({ _tag: "Slot", slot })

/** Whether a run is due, as anybody sees it. */
const isDue = (store: Store, claim: Claim, period: Period): Effect.Effect<boolean, unknown> =>
  Effect.map(runsOf(store).find(claim, period), ({ isDue }) => isDue)

/** Takes the lock, makes a run under it, and gives the lock back. Returns whether the run was due. */
const run = (
  bench: Bench,
  store: Store,
  key: string,
  period: Period,
  counts: "start" | "success",
  outcome: RunOutcome | undefined
) =>
  Effect.gen(function*() {
    const held = yield* bench.hold(store, bench.lasting(key))
    const begun = yield* runsOf(store).begin(held, period, counts)
    if (begun === "due" && outcome !== undefined) {
      const ended = yield* runsOf(store).end(held, period, { counts, outcome, elapsed: 5 })
      equal(ended, "recorded", "the answer to the end of a run")
    }
    yield* store.withdraw(held.claim)
    return begun
  })

/** Tests of the records of runs, for stores that offer them. */
export const runs: ReadonlyArray<readonly [name: string, body: Body]> = [
  ["a run counts from its success, for its slot and for earlier ones", (bench) =>
    Effect.gen(function*() {
      const [client, other] = yield* Effect.all([bench.client, bench.client])
      const key = bench.key()
      const due = (slot: bigint) => isDue(other, bench.claim(key), slotOf(slot))
      expect(yield* due(0n), "the first slot to be due before any run")
      equal(yield* run(bench, client, key, slotOf(9n), "success", "failed"), "due", "the first run")
      equal(yield* run(bench, client, key, slotOf(9n), "success", "interrupted"), "due", "the run after a failure")
      equal(yield* run(bench, client, key, slotOf(9n), "success", undefined), "due", "the run after an interrupt")
      equal(yield* run(bench, other, key, slotOf(9n), "success", "succeeded"), "due", "the run after one that died")
      equal(yield* run(bench, client, key, slotOf(9n), "success", "succeeded"), "done", "the run after a success")
      equal(yield* run(bench, client, key, slotOf(8n), "success", "succeeded"), "done", "a run for an earlier slot")
      expect(!(yield* due(9n)), "a slot with a success not to be due")
      expect(yield* due(10n), "the next slot to be due, although it is smaller as a text")
      equal(yield* run(bench, other, key, slotOf(10n), "success", "failed"), "due", "a run for the next slot")
      expect(!(yield* due(9n)), "the earlier slot not to be due after a failure in the next one")
      const large = 2n ** 63n - 1n
      equal(yield* run(bench, client, key, slotOf(large - 1n), "success", "succeeded"), "due", "a run for a large slot")
      expect(yield* due(large), "the largest slot to be due")
    })],

  ["a run counts from its start, however it ends", (bench) =>
    Effect.gen(function*() {
      const [client, other] = yield* Effect.all([bench.client, bench.client])
      for (const outcome of ["failed", "interrupted", undefined] as const) {
        const key = bench.key()
        equal(yield* run(bench, client, key, slotOf(1n), "start", outcome), "due", "the first run")
        equal(yield* run(bench, other, key, slotOf(1n), "start", "succeeded"), "done", "the second run")
        const { last } = yield* runsOf(other).find(bench.claim(key), undefined)
        equal(last?.outcome, outcome, "the outcome in the record")
        equal(last?.endedAt === undefined, outcome === undefined, "whether the record has no end")
      }
    })],

  ["repeats change nothing", (bench) =>
    Effect.gen(function*() {
      const client = yield* bench.client
      const store = runsOf(client)
      for (const period of [slotOf(1n), { _tag: "Interval", interval: Duration.hours(1) }] as const) {
        const held = yield* bench.hold(client, bench.lasting(bench.key()))
        for (let time = 0; time < 2; time++) {
          equal(yield* store.begin(held, period, "start"), "due", "the answer to the start of a run, and to its repeat")
        }
        expect(!(yield* isDue(client, held.claim, period)), "a run that has begun to count")
        for (const outcome of ["failed", "succeeded"] as const) {
          const ended = yield* store.end(held, period, { counts: "start", outcome, elapsed: 5 })
          equal(ended, "recorded", "the answer to the end of a run, and to its repeat")
        }
        const { last } = yield* store.find(held.claim, undefined)
        equal([last?.outcome, last?.holder], ["failed", "conformance"], "the record")
      }
    })],

  ["only the holder of the lock records a run", (bench) =>
    Effect.gen(function*() {
      const [client, other] = yield* Effect.all([bench.client, bench.client])
      const key = bench.key()
      const first = yield* bench.hold(client, bench.lasting(key))
      const waiting = bench.lasting(key)
      yield* bench.queue(other, waiting)
      const waiter = { claim: waiting, fencingToken: first.fencingToken + 1n }
      const end = { counts: "success", outcome: "succeeded", elapsed: 5 } as const
      equal(yield* runsOf(other).begin(waiter, slotOf(1n), "start"), "notHeld", "the start of a run by one that waits")
      equal(yield* runsOf(other).end(waiter, slotOf(1n), end), "notHeld", "the end of a run by one that waits")
      yield* client.withdraw(first.claim)
      equal(yield* runsOf(client).begin(first, slotOf(1n), "start"), "notHeld", "the start of a run after the release")
      equal(yield* runsOf(client).end(first, slotOf(1n), end), "notHeld", "the end of a run after the release")
      expect(yield* isDue(other, waiting, slotOf(1n)), "the slot to be due all the same")
    })],

  ["an interval begins with the run that counts, and ends", (bench) =>
    Effect.gen(function*() {
      const [client, other] = yield* Effect.all([bench.client, bench.client])
      const period: Period = { _tag: "Interval", interval: Duration.millis(bench.ttl) }
      const keys = [["start", bench.key()], ["success", bench.key()]] as const
      const runAll = (store: Store, outcome: RunOutcome) =>
        Effect.forEach(keys, ([counts, key]) => run(bench, store, key, period, counts, outcome))
      for (const [, key] of keys) {
        equal(yield* run(bench, client, key, period, "success", "failed"), "due", "the first run")
      }
      yield* bench.advance(bench.ttl / 2)
      equal(yield* runAll(client, "succeeded"), ["due", "due"], "the runs after a failure")
      yield* bench.advance(bench.ttl * 0.7)
      equal(yield* runAll(other, "succeeded"), ["done", "done"], "the runs within the interval")
      yield* bench.advance(bench.ttl * 0.3 + 20 + bench.lateness)
      equal(yield* runAll(other, "succeeded"), ["due", "due"], "the runs after the interval")
    })],

  ["slots and intervals of one key count apart", (bench) =>
    Effect.gen(function*() {
      const client = yield* bench.client
      const key = bench.key()
      const interval: Period = { _tag: "Interval", interval: Duration.hours(1) }
      equal(yield* run(bench, client, key, slotOf(1n), "success", "succeeded"), "due", "the run for a slot")
      equal(yield* run(bench, client, key, interval, "success", "succeeded"), "due", "the run within an interval")
      equal(yield* run(bench, client, key, interval, "success", "succeeded"), "done", "the next run within it")
      equal(yield* run(bench, client, key, slotOf(1n), "success", "succeeded"), "done", "the next run for the slot")
      equal(yield* run(bench, client, key, slotOf(2n), "success", "succeeded"), "due", "a run for the next slot")
    })],

  ["a record outlives the client that wrote it", (bench) =>
    Effect.gen(function*() {
      const other = yield* bench.client
      const key = bench.key()
      const scope = yield* Scope.make()
      const client = yield* Scope.provide(bench.client, scope)
      const interval: Period = { _tag: "Interval", interval: Duration.hours(1) }
      equal(yield* run(bench, client, key, slotOf(3n), "success", "succeeded"), "due", "the run for a slot")
      equal(yield* run(bench, client, bench.key(), interval, "start", undefined), "due", "a run on another key")
      const held = yield* bench.hold(client, bench.lasting(bench.key()))
      equal(yield* runsOf(client).begin(held, interval, "start"), "due", "the run within an interval")
      yield* Scope.close(scope, Exit.void)
      expect(!(yield* isDue(other, bench.claim(key), slotOf(3n))), "the slot not to be due")
      expect(!(yield* isDue(other, held.claim, interval)), "the interval not to be over")
    })]
]

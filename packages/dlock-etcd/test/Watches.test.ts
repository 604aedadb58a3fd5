import { assert, describe, it } from "@effect/vitest"
import { Effect, FiberSet } from "effect"
import type { IWatchRequest, IWatchResponse } from "etcd3"
import type { Port } from "../src/internal/port.ts"
import { Watches } from "../src/internal/watches.ts"

/** Watches over a stream whose other end is the test's. */
const setting = Effect.gen(function*() {
  const fork = yield* FiberSet.makeRuntime<never>()
  const sent: Array<IWatchRequest> = []
  let hear: (response: IWatchResponse) => void = () => {}
  const port = {
    txn: () => Effect.succeed({ sentAt: 0n, value: {}, doubled: false }),
    watch: ({ onResponse }: Parameters<Port["watch"]>[0]) =>
      Effect.sync(() => {
        hear = onResponse
        return { send: (request: IWatchRequest) => void sent.push(request), close: () => {} }
      })
  } as unknown as Port
  const told: Array<string> = []
  const tell = (what: string) => () => void told.push(what)
  return {
    watches: new Watches(port, fork),
    told,
    tell,
    created: () => sent.flatMap(({ create_request }) => create_request ?? []),
    answer: (id: number, revision: number, deleted?: number) =>
      hear({
        watch_id: String(id),
        header: { revision: String(revision) },
        created: deleted === undefined,
        events: deleted === undefined ? [] : [{ type: "Delete", kv: { mod_revision: String(deleted) } }]
      } as never)
  }
})

const key = Buffer.from("k")

describe("a watch for a turn", () => {
  it.effect("begins now rather than in the past, and looks for itself where something has happened since", () =>
    Effect.gen(function*() {
      const { answer, created, tell, told, watches } = yield* setting
      watches.add({ key }, 7n, tell("deleted"), tell("doubt"), tell("late"))
      yield* Effect.yieldNow
      // From a revision that has passed the server would let it catch up, at its own slow pace.
      assert.isUndefined(created()[0]!.start_revision)
      answer(1, 9)
      assert.deepStrictEqual(told, ["late"])
      answer(1, 12, 12)
      assert.deepStrictEqual(told, ["late", "deleted"])
    }).pipe(Effect.scoped))

  it.effect("has nothing to look for where nothing has happened", () =>
    Effect.gen(function*() {
      const { answer, tell, told, watches } = yield* setting
      watches.add({ key }, 7n, tell("deleted"), tell("doubt"), tell("late"))
      yield* Effect.yieldNow
      answer(1, 7)
      assert.deepStrictEqual(told, [])
    }).pipe(Effect.scoped))
})

describe("a watch over a claim that is held", () => {
  it.effect("misses nothing since the revision that it knows", () =>
    Effect.gen(function*() {
      const { answer, created, tell, told, watches } = yield* setting
      watches.add({ key }, 7n, tell("deleted"), tell("doubt"))
      yield* Effect.yieldNow
      assert.strictEqual(String(created()[0]!.start_revision), "8")
      answer(1, 9)
      assert.deepStrictEqual(told, [])
      answer(1, 9, 8)
      assert.deepStrictEqual(told, ["deleted"])
    }).pipe(Effect.scoped))
})

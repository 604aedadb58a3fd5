import { assert, describe, it } from "@effect/vitest"
import { Effect, FiberSet } from "effect"
import { TestClock } from "effect/testing"
import type { IWatchRequest, IWatchResponse } from "etcd3"
import type { Port } from "../../src/internal/client/port.ts"
import { Watches } from "../../src/internal/client/watches.ts"

const key = Buffer.from("k")
const other = Buffer.from("other")

/** Watches over a stream whose server end belongs to the test. */
const setting = Effect.gen(function*() {
  const fork = yield* FiberSet.makeRuntime<never>()
  const sent: Array<IWatchRequest> = []
  let hear: (response: IWatchResponse) => void = () => {}
  let streams = 0
  const port = {
    longest: 2_000,
    txn: () => Effect.succeed({ sentAt: 0n, value: {}, doubled: false }),
    watch: ({ onResponse }: Parameters<Port["watch"]>[0]) =>
      Effect.sync(() => {
        hear = onResponse
        streams++
        return { send: (request: IWatchRequest) => void sent.push(request), close: () => {} }
      })
  } as unknown as Port
  const told: Array<string> = []
  const tell = (what: string) => () => void told.push(what)
  return {
    sent,
    watches: new Watches(port, fork),
    told,
    tell,
    streams: () => streams,
    created: () => sent.flatMap(({ create_request }) => create_request ?? []),
    /** The keys of the watches that were requested, in their order, on all streams. */
    requested: () =>
      sent.flatMap(({ create_request }) => create_request === undefined ? [] : String(create_request.key)),
    answer: (id: number, revision: number, deleted?: number, ofKey = key) =>
      hear({
        watch_id: String(id),
        header: { revision: String(revision) },
        created: deleted === undefined,
        canceled: false,
        events: deleted === undefined ? [] : [{ type: "Delete", kv: { key: ofKey, mod_revision: String(deleted) } }]
      } as never),
    refuse: (cancel_reason: string) =>
      hear(
        { watch_id: "-1", header: { revision: "9" }, created: true, canceled: true, cancel_reason, events: [] } as never
      )
  }
})

describe("a watch for a turn", () => {
  it.effect("begins now rather than in the past, and says since when", () =>
    Effect.gen(function*() {
      const { answer, created, tell, told, watches } = yield* setting
      watches.add({ key }, 7n, tell("deleted"), tell("doubt"), (revision) => told.push(`began after ${revision}`))
      yield* Effect.yieldNow
      // From a past revision, the server would let the watch catch up slowly.
      assert.isUndefined(created()[0]!.start_revision)
      answer(0, 9)
      assert.deepStrictEqual(told, ["began after 9"])
      answer(0, 12, 12)
      assert.deepStrictEqual(told, ["began after 9", "deleted"])
    }).pipe(Effect.scoped))
})

describe("a watch over a claim that is held", () => {
  it.effect("misses nothing since the revision that it knows", () =>
    Effect.gen(function*() {
      const { answer, created, tell, told, watches } = yield* setting
      watches.add({ key }, 7n, tell("deleted"), tell("doubt"))
      yield* Effect.yieldNow
      assert.strictEqual(String(created()[0]!.start_revision), "8")
      answer(0, 9)
      assert.deepStrictEqual(told, [])
      answer(0, 9, 8)
      assert.deepStrictEqual(told, ["deleted"])
    }).pipe(Effect.scoped))
})

describe("a server that names watches itself", () => {
  it.effect("is taken to answer in the order in which it was asked, whatever names it gives", () =>
    Effect.gen(function*() {
      const { answer, tell, told, watches } = yield* setting
      watches.add({ key }, 7n, tell("k deleted"), tell("doubt"))
      watches.add({ key: other }, 7n, tell("other deleted"), tell("doubt"))
      yield* Effect.yieldNow
      answer(41, 7)
      answer(17, 7)
      answer(17, 8, 8, other)
      answer(41, 9, 9)
      assert.deepStrictEqual(told, ["other deleted", "k deleted"])
    }).pipe(Effect.scoped))

  it.effect("is not believed where it tells a watch about a key of another watch", () =>
    Effect.gen(function*() {
      const { answer, tell, told, watches } = yield* setting
      watches.add({ key }, 7n, tell("k deleted"), tell("doubt"))
      yield* Effect.yieldNow
      answer(0, 7)
      answer(0, 8, 8, other)
      assert.deepStrictEqual(told, [])
      answer(0, 8, 8)
      assert.deepStrictEqual(told, ["k deleted"])
    }).pipe(Effect.scoped))

  it.effect("has an event told to the watch that it concerns, if it mixed the watches up", () =>
    Effect.gen(function*() {
      const { answer, sent, tell, told, watches } = yield* setting
      const stop = watches.add({ key }, 7n, tell("k deleted"), tell("doubt"))
      watches.add({ key: other }, 7n, tell("other deleted"), tell("doubt"))
      yield* Effect.yieldNow
      answer(1, 7)
      answer(0, 7)
      answer(1, 8, 8, other)
      assert.deepStrictEqual(told, ["other deleted"])
      answer(0, 7, 7, key)
      assert.deepStrictEqual(told, ["other deleted"], "what was before its beginning is no news")
      // The id belongs to the other watch.
      stop()
      assert.isUndefined(sent.at(-1)!.cancel_request)
      answer(1, 9, 9, other)
      assert.deepStrictEqual(told, ["other deleted", "other deleted"])
    }).pipe(Effect.scoped))

  it.effect("has an event told that came before the watch was named", () =>
    Effect.gen(function*() {
      const { answer, told, watches } = yield* setting
      watches.add({ key }, 7n, (deletions, areAstray) => {
        for (const { revision } of deletions) told.push(`${revision}${areAstray ? " astray" : ""}`)
      }, () => {})
      watches.add({ key: other }, 7n, () => {}, () => {})
      yield* Effect.yieldNow
      answer(0, 7)
      answer(1, 7)
      answer(1, 12, 12, key)
      answer(1, 12, 12, key)
      answer(0, 12, 9)
      answer(0, 12, 12)
      assert.deepStrictEqual(told, ["12 astray", "9 astray", "12 astray"])
    }).pipe(Effect.scoped))

  it.effect("is not believed to have told all that went before, even where an event fits its watch", () =>
    Effect.gen(function*() {
      const { answer, sent, told, watches } = yield* setting
      watches.add({ key }, 7n, (deletions, areAstray) => {
        for (const { revision } of deletions) told.push(`${revision}${areAstray ? " astray" : ""}`)
      }, () => {})
      yield* Effect.yieldNow
      answer(0, 7)
      answer(0, 12, 12)
      assert.deepStrictEqual(told, ["12 astray"])
      watches.add({ key: other }, 7n, (deletions, areAstray) => {
        for (const { revision } of deletions) told.push(`${revision}${areAstray ? " astray" : ""}`)
      }, () => {})
      assert.strictEqual((sent.at(-1)!.create_request as { readonly watch_id?: string }).watch_id, "1000000002")
    }).pipe(Effect.scoped))

  it.effect("has all deletions of one revision told, although one of them came astray before", () =>
    Effect.gen(function*() {
      const { answer, told, watches } = yield* setting
      const note = (deletions: ReadonlyArray<{ readonly key: string }>) =>
        void told.push(deletions.map(({ key }) => key).join())
      watches.add({ key: Buffer.from("k/"), rangeEnd: Buffer.from("k0") }, 7n, note, () => {})
      yield* Effect.yieldNow
      answer(41, 7)
      // What the watch of one of the keys should have got, and then its own event about two of them.
      answer(41, 8, 8, Buffer.from("k/a"))
      answer(41, 8, 8, Buffer.from("k/b"))
      assert.deepStrictEqual(told, ["k/a", "k/b"])
      answer(41, 9, 7, Buffer.from("k/c"))
      assert.deepStrictEqual(told, ["k/a", "k/b"], "an older one is of an earlier claim")
    }).pipe(Effect.scoped))

  it.effect("is believed where it takes the names that it is given", () =>
    Effect.gen(function*() {
      const { answer, told, watches } = yield* setting
      watches.add({ key }, 7n, (deletions, areAstray) => {
        for (const { revision } of deletions) told.push(`${revision}${areAstray ? " astray" : ""}`)
      }, () => {})
      yield* Effect.yieldNow
      answer(1_000_000_001, 7)
      answer(1_000_000_001, 12, 12)
      assert.deepStrictEqual(told, ["12"])
    }).pipe(Effect.scoped))

  it.effect("has a watch cancelled that nobody wants any more when it is named", () =>
    Effect.gen(function*() {
      const { answer, sent, tell, watches } = yield* setting
      const stop = watches.add({ key }, 7n, tell("deleted"), tell("doubt"))
      yield* Effect.yieldNow
      stop()
      assert.isUndefined(sent.at(-1)!.cancel_request)
      answer(5, 7)
      assert.deepStrictEqual(sent.at(-1), { cancel_request: { watch_id: "5" } } as never)
    }).pipe(Effect.scoped))
})

/** The id that this process requests for the watch with this number. */
const asked = (nth: number) => 1_000_000_000 + nth

describe("watches that begin in one moment", () => {
  const begin = (watches: Watches, ...names: ReadonlyArray<string>) =>
    names.map((name) => watches.add({ key: Buffer.from(name) }, 7n, () => {}, () => {}))

  it.effect("are requested together, once a server has shown that it uses the requested ids", () =>
    Effect.gen(function*() {
      const { answer, requested, watches } = yield* setting
      begin(watches, "a", "b", "c")
      yield* Effect.yieldNow
      assert.deepStrictEqual(requested(), ["a"])
      answer(asked(1), 7)
      assert.deepStrictEqual(requested(), ["a", "b", "c"])
      begin(watches, "d")
      assert.deepStrictEqual(requested(), ["a", "b", "c", "d"], "nobody waits for an answer any more")
    }).pipe(Effect.scoped))

  it.effect("are requested one after the other of a proxy, which answers in no order", () =>
    Effect.gen(function*() {
      const { answer, requested, watches } = yield* setting
      begin(watches, "a", "b", "c")
      yield* Effect.yieldNow
      answer(0, 7)
      assert.deepStrictEqual(requested(), ["a", "b"])
      answer(1, 7)
      assert.deepStrictEqual(requested(), ["a", "b", "c"])
      begin(watches, "d")
      assert.deepStrictEqual(requested(), ["a", "b", "c"])
      answer(2, 7)
      assert.deepStrictEqual(requested(), ["a", "b", "c", "d"])
    }).pipe(Effect.scoped))

  it.effect("let those go first that must report without delay", () =>
    Effect.gen(function*() {
      const { answer, requested, tell, watches } = yield* setting
      begin(watches, "a", "b", "c")
      yield* Effect.yieldNow
      watches.add({ key }, 7n, tell("deleted"), tell("doubt"), tell("begun"))
      answer(0, 7)
      answer(1, 7)
      assert.deepStrictEqual(requested(), ["a", "k", "b"])
    }).pipe(Effect.scoped))

  it.effect("are not requested if they have ended before it was their turn", () =>
    Effect.gen(function*() {
      const { answer, requested, sent, watches } = yield* setting
      const [, stop] = begin(watches, "a", "b", "c")
      yield* Effect.yieldNow
      stop!()
      answer(0, 7)
      assert.deepStrictEqual(requested(), ["a", "c"])
      assert.strictEqual(sent.length, 2)
    }).pipe(Effect.scoped))

  it.effect("go on when one of them is refused", () =>
    Effect.gen(function*() {
      const { answer, refuse, requested, watches } = yield* setting
      begin(watches, "a", "b", "c")
      yield* Effect.yieldNow
      answer(0, 7)
      refuse("")
      assert.deepStrictEqual(requested(), ["a", "b", "c"])
    }).pipe(Effect.scoped))

  it.effect("get a new stream when one of them has no answer in time", () =>
    Effect.gen(function*() {
      const { answer, requested, streams, watches } = yield* setting
      begin(watches, "a", "b", "c")
      yield* Effect.yieldNow
      yield* TestClock.adjust(1_900)
      answer(0, 7)
      yield* TestClock.adjust(1_900)
      assert.strictEqual(streams(), 1, "each has a time of its own")
      yield* TestClock.adjust(300)
      assert.strictEqual(streams(), 2)
      assert.deepStrictEqual(requested(), ["a", "b", "a"])
      for (const id of [0, 1, 2]) answer(id, 7)
      assert.deepStrictEqual(requested(), ["a", "b", "a", "b", "c"])
      yield* TestClock.adjust(10_000)
      assert.strictEqual(streams(), 2, "answered in time")
    }).pipe(Effect.scoped))
})

describe("a watch that is refused", () => {
  it.effect("is asked for once more on another stream, since the token of the first may have run out", () =>
    Effect.gen(function*() {
      const { answer, refuse, requested, streams, tell, told, watches } = yield* setting
      watches.add({ key }, 7n, tell("k deleted"), tell("doubt"))
      yield* Effect.yieldNow
      answer(0, 7)
      watches.add({ key: other }, 7n, tell("other deleted"), tell("doubt"))
      refuse("rpc error: code = Unauthenticated desc = etcdserver: invalid auth token")
      yield* Effect.yieldNow
      assert.strictEqual(streams(), 2)
      answer(0, 9)
      assert.deepStrictEqual(requested(), ["k", "other", "k", "other"])
      answer(1, 9)
      answer(1, 10, 10, other)
      assert.deepStrictEqual(told, ["other deleted"])
    }).pipe(Effect.scoped))

  it.effect("is given up at once where no token is at fault", () =>
    Effect.gen(function*() {
      const { refuse, streams, tell, told, watches } = yield* setting
      watches.add({ key }, 7n, tell("deleted"), tell("doubt"))
      yield* Effect.yieldNow
      refuse("")
      assert.deepStrictEqual(told, ["doubt"])
      assert.strictEqual(streams(), 1)
    }).pipe(Effect.scoped))

  it.effect("is given up where the second stream is refused too", () =>
    Effect.gen(function*() {
      const { refuse, streams, tell, told, watches } = yield* setting
      watches.add({ key }, 7n, tell("deleted"), tell("doubt"))
      yield* Effect.yieldNow
      refuse("etcdserver: permission denied")
      yield* Effect.yieldNow
      refuse("etcdserver: permission denied")
      assert.deepStrictEqual(told, ["doubt"])
      assert.strictEqual(streams(), 2)
    }).pipe(Effect.scoped))
})

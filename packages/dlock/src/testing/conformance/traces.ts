import * as Effect from "effect/Effect"
import * as Tracer from "effect/Tracer"
import { type Claim, readWriteCapacity } from "../../LockStore.ts"
import { type Bench, type Body, equal, expect, type Store } from "./bench.ts"

/** Runs an effect in a sampled trace of its own, and tells the spans `dlock.acquire` that it made. */
const traced = <A, E, R>(effect: Effect.Effect<A, E, R>) => {
  const acquires: Array<Tracer.Span> = []
  const tracer = Tracer.make({
    span: (options) => {
      const span = new Tracer.NativeSpan(options)
      if (options.name === "dlock.acquire") acquires.push(span)
      return span
    }
  })
  return { acquires, run: Effect.withTracer(Effect.withSpan(effect, "request", { root: true, sampled: true }), tracer) }
}

/** A caller that waits behind the holder in the trace finds that trace, and waits only for its own turn. */
const linked = (bench: Bench, key: string) =>
  Effect.gen(function*() {
    const [one, two] = yield* Effect.all([
      Effect.flatMap(bench.client, (store) => bench.locker(store, { holder: "one" })),
      Effect.flatMap(bench.client, (store) => bench.locker(store, { holder: "two" }))
    ])
    let isReleased = false
    const held = traced(one.withLock(
      key,
      Effect.suspend(() => bench.until("the release", () => isReleased, 60_000)),
      { metadata: { job: "|" } }
    ))
    const holder = yield* bench.fork(held.run)
    yield* bench.until("the first caller to have the lock", () => held.acquires[0]?.status._tag === "Ended")
    const waited = traced(two.withLock(key, Effect.void))
    const waiter = yield* bench.fork(waited.run)
    yield* bench.until("the second caller to be linked", () => (waited.acquires[0]?.links.length ?? 0) > 0)
    const [link] = waited.acquires[0]!.links
    equal(link!.span.spanId, held.acquires[0]!.spanId, "the span of the holder in the way")
    equal(link!.span.traceId, held.acquires[0]!.traceId, "the trace of the holder in the way")
    // A holder whose text has its trace in it is still known by its name.
    const late = yield* bench.fork(Effect.flip(two.withLock(key, Effect.void, { timeout: 200 })))
    const error = yield* bench.drive(late, "the third caller to time out")
    equal(
      error._tag === "LockTimeout" && [error.holder, error.metadata],
      ["one", { job: "|" }],
      "the holder of the lock"
    )
    isReleased = true
    yield* bench.drive(holder, "the holder to end")
    yield* bench.drive(waiter, "the waiter to be granted")
    equal(waited.acquires[0]!.status._tag, "Ended", "the state of the waiter's span")
  })

/** Tests that the trace of a holder reaches those who wait for it. */
export const traces: ReadonlyArray<readonly [name: string, body: Body]> = [
  [
    "a caller that waits for the lock of another client is linked to the trace of its holder",
    (bench) => linked(bench, bench.key())
  ]
]

/** The same for locks that several claims can hold: a store tells of one of the holders. */
export const sharedTraces: ReadonlyArray<readonly [name: string, body: Body]> = [
  [
    "a waiter is told the whole text or nothing of a holder of permits, and of a reader or a writer",
    (bench) =>
      Effect.gen(function*() {
        const [client, other] = yield* Effect.all([bench.client, bench.client])
        const kinds: ReadonlyArray<Partial<Claim>> = [
          { capacity: 1 },
          { kind: "readWrite", capacity: readWriteCapacity },
          { kind: "readWrite", capacity: readWriteCapacity, permits: readWriteCapacity }
        ]
        const holder = `h {"a":"|"}\ttrace 00-${"a".repeat(32)}-${"b".repeat(16)}-01\tholds ["k"]`
        for (const kind of kinds) yield* told(bench, client, other, kind, holder)
      })
  ]
]

const told = (bench: Bench, client: Store, other: Store, kind: Partial<Claim>, holder: string) =>
  Effect.gen(function*() {
    const key = bench.key()
    yield* bench.hold(client, bench.lasting(key, { ...kind, holder }))
    const all = kind.capacity ?? 1
    const queued = yield* bench.queue(other, bench.lasting(key, { ...kind, permits: all, holder: "w" }))
    // A store need not know who is inside, but must not make up a name.
    const found = queued.ahead().holder
    expect(found === undefined || found === holder, `the text of the holder, but it was ${found}`)
  })

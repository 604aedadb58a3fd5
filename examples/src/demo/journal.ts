import { Clock, Context, Deferred, Effect, Layer, Schema } from "effect"
import { LossReason } from "effect-dlock"

const stamped = {
  worker: Schema.String,
  /** Milliseconds on the monotonic clock, which all processes of a machine share. */
  at: Schema.Finite
}

/** What a worker tells of itself. */
export const Event = Schema.TaggedUnion({
  Asked: stamped,
  Entered: { ...stamped, token: Schema.optionalKey(Schema.BigIntFromString) },
  /** With this many pieces left, as the worker read it. */
  Paying: { ...stamped, left: Schema.Int },
  Sold: stamped,
  SoldOut: stamped,
  Refused: { ...stamped, wanted: Schema.Int, token: Schema.BigIntFromString, newest: Schema.BigIntFromString },
  Left: stamped,
  /** `at` is when the worker heard of it; by `endedAt` it knows that the lock was its own no longer. */
  Lost: { ...stamped, endedAt: Schema.Finite, reason: LossReason },
  /** `OwnershipLost` has arrived where it is handled. */
  Handled: { ...stamped, reason: LossReason },
  /** Of a worker that is a process: it has come up, and it has carried out its order. */
  Ready: stamped,
  Done: stamped
})
export type Event = typeof Event.Type

type Told<E> = E extends Event ? Omit<E, "worker" | "at"> : never

/** The current worker: set once for each worker. */
export const Worker = Context.Reference<string>("examples/Worker", { defaultValue: () => "somebody" })

/** Where workers write down what they do. */
export class Journal extends Context.Service<Journal, {
  readonly add: (event: Event) => Effect.Effect<void>
}>()("examples/Journal") {
  /** Adds an event of the current worker at the current time. */
  static readonly note = Effect.fnUntraced(function*(what: Told<Event>) {
    const journal = yield* Journal
    const worker = yield* Worker
    const at = yield* monotonicMillis
    yield* journal.add({ ...what, worker, at } as Event)
  })
}

export const monotonicMillis = Effect.map(Clock.monotonicTimeNanos, (nanos) => Number(nanos) / 1_000_000)

/** The journals of all workers on one desk. */
export class History extends Context.Service<History, {
  readonly add: (event: Event) => Effect.Effect<void>
  /** The first event that fits, past or to come. */
  readonly first: (fits: (event: Event) => boolean) => Effect.Effect<Event>
  /** Everything since the last time. */
  readonly take: Effect.Effect<ReadonlyArray<Event>>
}>()("examples/History") {
  static readonly layer = Layer.sync(History, () => {
    let events: Array<Event> = []
    const waiting = new Set<(event: Event) => void>()

    return History.of({
      add: (event) =>
        Effect.sync(() => {
          events.push(event)
          for (const hear of waiting) hear(event)
        }),
      first: (fits) =>
        Effect.suspend(() => {
          const past = events.find(fits)
          if (past !== undefined) return Effect.succeed(past)
          const found = Deferred.makeUnsafe<Event>()
          const hear = (event: Event) => {
            if (fits(event)) Deferred.doneUnsafe(found, Effect.succeed(event))
          }
          waiting.add(hear)
          return Effect.ensuring(Deferred.await(found), Effect.sync(() => waiting.delete(hear)))
        }),
      take: Effect.sync(() => {
        const taken = events.sort((a, b) => a.at - b.at)
        events = []
        return taken
      })
    })
  })

  /** The same, and a journal for workers of this very process. */
  static readonly layerJournal = Layer.effect(Journal, History.use(({ add }) => Effect.succeed({ add }))).pipe(
    Layer.provideMerge(History.layer)
  )
}

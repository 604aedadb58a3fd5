import { Locker } from "effect-dlock/Locker"
import type { InvalidLockRequest, LockBackendError } from "effect-dlock/LockError"
import * as Cache from "effect/Cache"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as RcRef from "effect/RcRef"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { Board } from "./board.ts"
import type { Details, HappeningKind } from "./page/protocol.ts"

export interface Polling {
  /** Messages for a page, as JSON of an `Update`: first everything, then what changes. */
  readonly updates: Stream.Stream<string>
  /** Reads one lock anew. `None` if the id is not known (any more). */
  readonly details: (id: number) => Effect.Effect<Option.Option<Details>, LockBackendError | InvalidLockRequest>
  readonly keyOf: (id: number) => string | undefined
  /** A hold is asked to leave from here. It is known by its token, also when it has left before the next reading. */
  readonly ask: (id: number, token: string) => Effect.Effect<void>
  readonly unask: (id: number, token: string) => Effect.Effect<void>
  readonly happened: (kind: HappeningKind, text: string, id: number) => Effect.Effect<void>
}

/**
 * Reads the list again and again while at least one page is open: once for all pages, at most once a second, for a
 * tenth of the time if that is every five seconds or more often, and never for more than half of it.
 */
export const make = Effect.fnUntraced(function*(
  within: string
): Effect.fn.Return<Polling, never, Locker | Scope.Scope> {
  const locker = yield* Locker
  const clock = yield* Clock.Clock
  const board = new Board()
  // People read wall time, but what was before what is told by the monotonic clock.
  const lead = clock.currentTimeMillisUnsafe() - Number(clock.monotonicTimeNanosUnsafe() / 1_000n) / 1_000
  const now = () => Math.round(lead + Number(clock.monotonicTimeNanosUnsafe() / 1_000n) / 1_000)

  const read = Effect.gen(function*() {
    const startedAt = now()
    board.begin()
    const pass = Stream.runForEach(locker.list(within), (info) => Effect.sync(() => board.see(info, now())))
    const result = yield* Effect.result(pass)
    const tookMs = now() - startedAt
    if (result._tag === "Failure") {
      board.fail(now(), result.failure.message)
      return Math.max(retryAfter, tookMs)
    }
    const everyMs = Math.max(readEvery, tookMs * 2, Math.min(tookMs * 10, longestPause))
    board.end(now(), { tookMs, everyMs })
    return everyMs - tookMs
  })

  const reading = yield* RcRef.make({
    acquire: Effect.suspend(() => {
      board.restart(now())
      return Effect.forkScoped(Effect.forever(Effect.flatMap(read, (pause) => Effect.sleep(pause))))
    }),
    // A page that is loaded again finds what it had.
    idleTimeToLive: "3 seconds"
  })

  /** One message for a page, as soon as there is news, and at most four a second. The page's own speed is the limit below. */
  const nextFor = (page: { version: number; toldAt: number; isBehind: boolean }): Effect.Effect<string> =>
    Effect.suspend(() => {
      const news = board.since(page.version, now())
      if (news !== undefined) {
        Object.assign(page, { version: news.version, toldAt: now(), isBehind: news.hasMore })
        return Effect.succeed(`data: ${news.json}\n\n`)
      }
      page.isBehind = false
      if (now() - page.toldAt < silence) return Effect.delay(nextFor(page), pace)
      page.toldAt = now()
      return Effect.succeed(`event: alive\ndata: ${now()}\n\n`)
    })

  const details = yield* Cache.make({
    lookup: (id: number) => {
      const key = board.keyOf(id)
      return key === undefined
        ? Effect.succeedNone
        : Effect.map(locker.inspect(key), (info) => Option.some(board.detailsOf(id, info, now())))
    },
    capacity: 64,
    // Several pages that look at one lock share what is read.
    timeToLive: "400 millis"
  })

  return {
    updates: Stream.unwrap(Effect.map(RcRef.get(reading), () => {
      const page = { version: 0, toldAt: now(), isBehind: true }
      return Stream.fromEffectRepeat(
        Effect.suspend(() => page.isBehind ? nextFor(page) : Effect.delay(nextFor(page), pace))
      )
    })),
    details: (id) => Cache.get(details, id),
    keyOf: (id) => board.keyOf(id),
    ask: (id, token) => Effect.sync(() => board.ask(id, token)),
    unask: (id, token) => Effect.sync(() => board.unask(id, token)),
    happened: (kind, text, id) => Effect.sync(() => board.happened(now(), kind, text, id))
  }
})

// Milliseconds.

const readEvery = 1_000
const longestPause = 5_000
const pace = 250
const retryAfter = 1_000
/** A page that hears nothing for much longer than this says so. */
const silence = 3_000

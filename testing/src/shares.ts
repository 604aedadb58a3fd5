import { Effect } from "effect"
import { onMessage, report } from "./report.ts"

/** What a process that shares a lock reports: first that it is ready, then how often it had the lock, and for how long. */
export type SharesReport = { readonly ready: true } | { readonly turns: number; readonly held: number }

/**
 * For programs that `startWorker` runs with a number of milliseconds: works under one lock in chunks of 5 ms, and gives
 * way after the chunk in which somebody waits; from the moment at which the test sends its first message.
 */
export const takeShare = <E, R>(
  millis: number,
  withLock: (
    key: string,
    body: (lease: { readonly contended: Effect.Effect<void> }) => Effect.Effect<void>
  ) => Effect.Effect<void, E, R>
): Effect.Effect<void, E, R> =>
  Effect.gen(function*() {
    let turns = 0
    let held = 0
    const chunk = Effect.uninterruptible(Effect.sleep(5))
    const turn = withLock("hot", (lease) =>
      Effect.suspend(() => {
        const entered = performance.now()
        return Effect.raceFirst(Effect.forever(chunk), lease.contended).pipe(
          Effect.ensuring(Effect.sync(() => {
            turns++
            held += performance.now() - entered
          }))
        )
      }))
    // The first section loads what the store needs.
    yield* withLock(`warm-${process.pid}`, () => Effect.void)
    const begin = new Promise<void>((resolve) => onMessage(() => resolve()))
    report({ ready: true })
    yield* Effect.promise(() => begin)
    yield* Effect.timeoutOption(Effect.forever(turn), millis)
    report({ turns, held } satisfies SharesReport)
  })

/** The most to the least of several numbers. */
export const spread = (numbers: ReadonlyArray<number>): number => Math.max(...numbers) / Math.min(...numbers)

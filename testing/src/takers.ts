/** Several processes that take several keys at once, as an effect; for tests only, since it loads the test runner. */
import { assert } from "@effect/vitest"
import { Effect } from "effect"
import { longestExcess, overlapsOf, recordAnswers, type TurnsReport } from "./turns.ts"
import { startWorker } from "./worker.ts"

export interface Takers {
  /** The program that takes turns: see `takeTurns`. */
  readonly program: string
  readonly url: string
  /** The sections of each of the eight processes. */
  readonly count: number
  /** Milliseconds for one hand-over. */
  readonly perTurn: number
  /** Sends the server something that it answers at once. */
  readonly ask: () => Promise<unknown>
}

/** Fails if two were inside one key, or if one waited longer than for those before it. */
export const takersTakeTurns = ({ ask, count, perTurn, program, url }: Takers): Effect.Effect<void> =>
  Effect.scoped(Effect.gen(function*() {
    const workers = yield* Effect.forEach(Array.from({ length: 8 }), (_, index) =>
      Effect.acquireRelease(
        Effect.sync(() => startWorker<TurnsReport>(program, { args: [url, `${count}`, `${index}`] })),
        (worker) => Effect.promise(() => worker.kill())
      ))
    yield* Effect.forEach(workers, (worker) => Effect.promise(() => worker.waitFor((one) => "ready" in one)))
    const ends = new AbortController()
    const answers = recordAnswers(ask, ends.signal)
    for (const worker of workers) worker.send({ begin: true })
    const isOver = (one: TurnsReport): one is Exclude<TurnsReport, { readonly ready: true }> => "turns" in one
    const reports = yield* Effect.forEach(workers, (worker) => Effect.promise(() => worker.waitFor(isOver, 150_000)))
    ends.abort()
    const turns = reports.flatMap((one) => one.turns)
    const late = [...reports.flatMap((one) => one.late), ...yield* Effect.promise(() => answers)]
    const waits = turns.map(({ asked, entered }) => entered - asked).toSorted((a, b) => a - b)
    const excess = longestExcess(turns, late, perTurn)
    yield* Effect.log(
      `median wait ${waits[waits.length >> 1]!.toFixed(1)} ms, longest ${waits.at(-1)!.toFixed(0)} ms, `
        + `${excess.toFixed(1)} ms more than those before it took`
    )
    assert.lengthOf(turns, 8 * count)
    assert.deepStrictEqual(overlapsOf(turns), [])
    // Who waits for a message that was lost waits for seconds.
    assert.isAtMost(excess, 250)
  }))

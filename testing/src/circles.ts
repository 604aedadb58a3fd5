/** Processes that wait for one another in a circle, as an effect; for tests only, since it loads the test runner. */
import { assert } from "@effect/vitest"
import { Effect } from "effect"
import type { CircleReport } from "./circle.ts"
import { startWorker } from "./worker.ts"

/** Milliseconds for which the first process waits. */
const timeout = 1_000

/**
 * Each process holds one lock and waits for that of the next, the last one for that of the first. `isOpen`: the last one
 * waits for a lock of nobody in the circle, so that there is no deadlock. The time of the first one ends.
 */
const timeoutOfFirst = (program: string, url: string, count: number, isOpen: boolean) =>
  Effect.gen(function*() {
    const circle = Math.random().toString(36).slice(2)
    const keyOf = (index: number) => `${circle}-${index}`
    const outsider = isOpen ? [{ holder: "outsider", holds: keyOf(count), wants: keyOf(count + 1) }] : []
    const callers = Array.from({ length: count }, (_, index) => ({
      holder: `caller-${index}`,
      holds: keyOf(index),
      wants: keyOf(isOpen || index + 1 < count ? index + 1 : 0)
    }))
    const workers = yield* Effect.forEach([...callers, ...outsider], (caller, index) =>
      Effect.acquireRelease(
        Effect.sync(() =>
          startWorker<CircleReport>(program, {
            args: [url, JSON.stringify({ ...caller, timeout: index === 0 ? timeout : undefined })]
          })
        ),
        (worker) => Effect.promise(() => worker.kill())
      ))
    yield* Effect.forEach(workers, (worker) => Effect.promise(() => worker.waitFor((one) => "held" in one, 20_000)))
    for (const worker of workers) worker.send({ wait: true })
    const hasEnded = (one: CircleReport): one is Extract<CircleReport, { readonly error: unknown }> => "error" in one
    return yield* Effect.promise(() => workers[0]!.waitFor(hasEnded, 20_000))
  }).pipe(Effect.scoped)

/** Fails if the first of so many processes does not learn that it was in a circle, or learns it late. */
export const circleIsTold = (program: string, url: string, count: number): Effect.Effect<void> =>
  Effect.gen(function*() {
    // A process that does not run for a moment has no time left to look for a circle, and one that stops several times is
    // later than its longest stop.
    for (let round = 1;; round++) {
      const { error, lag, waited } = yield* timeoutOfFirst(program, url, count, false)
      const isInTime = waited < timeout + 100 + lag
      if ((error.deadlock === undefined || !isInTime) && round < 5) continue
      assert.strictEqual(error._tag, "LockTimeout", error.message)
      assert.isBelow(waited, timeout + 100 + lag)
      assert.deepStrictEqual(
        error.deadlock?.map(({ holder }) => holder),
        [...Array.from({ length: count - 1 }, (_, index) => `caller-${index + 1}`), "caller-0"]
      )
      assert.include(error.message, ", held by this caller. Acquire these locks together with withLocks")
      return yield* Effect.log(`told in round ${round}, ${(waited - timeout).toFixed(1)} ms after the time`)
    }
  })

/** Fails if the first of two processes learns of a circle that is none: the second waits for somebody else. */
export const noCircleIsTold = (program: string, url: string): Effect.Effect<void> =>
  Effect.gen(function*() {
    const { error } = yield* timeoutOfFirst(program, url, 2, true)
    assert.deepStrictEqual([error._tag, error.holder, error.deadlock], ["LockTimeout", "caller-1", undefined])
  })

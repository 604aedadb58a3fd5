import { report } from "dlock-testing/report"
import { Effect, type Scope } from "effect"
import { now } from "./events.ts"
import type { Work } from "./sections.ts"

/** Sections as fast as may be, without faults: half of the fibers on keys that others want too. Tells of its heap. */
export const quick = (
  { random, sections, stopped, ttl }: Work,
  hot: ReadonlyArray<string>,
  names: ReadonlyArray<string>,
  fibers: number,
  count: number
): Effect.Effect<void, never, Scope.Scope> =>
  Effect.gen(function*() {
    const every = Math.max(100, Math.floor(count / 40))
    let nextSample = every
    const sample = () => {
      globalThis.gc?.()
      report({ heap: process.memoryUsage().heapUsed, sections: sections.count })
    }
    const fiber = (index: number) =>
      Effect.repeat(
        Effect.suspend(() => {
          if (stopped() || sections.count >= count) return Effect.succeed(true)
          if (sections.count >= nextSample) {
            nextSample += every
            sample()
          }
          const key = index % 2 === 0 ? random.pick(hot) : random.pick(names)
          return Effect.as(sections.run({ key, ttl, way: "with" }, { steps: 0, pace: 0 }), false)
        }),
        { until: (over) => over }
      )
    yield* Effect.forEach(Array.from({ length: fibers }, (_, index) => index), fiber, {
      concurrency: "unbounded",
      discard: true
    })
    sample()
    report({ finished: now() })
  })

import { assert, describe, it } from "@effect/vitest"
import { Effect, FiberSet } from "effect"
import { TestClock } from "effect/testing"
import { DeadlineHeap, type Item } from "../src/internal/scheduling/deadlineHeap.ts"
import * as Time from "../src/internal/scheduling/time.ts"
import * as Log from "../src/internal/telemetry/log.ts"
import { withLogs } from "./support.ts"

/** The same numbers for the same seed. */
const numbers = (seed: number) => () => {
  seed = (seed * 1664525 + 1013904223) % 2 ** 32
  return seed / 2 ** 32
}

const heapOf = Effect.fnUntraced(function*(onDue: (heap: DeadlineHeap<Item>, now: number) => void) {
  const time = yield* Time.make
  const run = yield* FiberSet.makeRuntime<never>()
  const timers = { running: 0, armed: 0 }
  const fork = (effect: Effect.Effect<void>) => {
    timers.running++
    timers.armed++
    return run(Effect.ensuring(effect, Effect.sync(() => void timers.running--)))
  }
  const heap: DeadlineHeap<Item> = new DeadlineHeap<Item>(time, fork, yield* Log.make, (now) => onDue(heap, now))
  return { heap, time, timers }
})

describe("the heap", () => {
  it.effect.each(Array.from({ length: 20 }, (_, index) => index + 1))(
    "agrees with a sorted list, misses no deadline and has one timer at most: seed %i",
    (seed) =>
      Effect.gen(function*() {
        const next = numbers(seed)
        const expected = new Map<Item, number>()
        let fired = 0
        const { heap, time, timers } = yield* heapOf((heap, now) => {
          for (let first = heap.peek(); first !== undefined && first.dueAt <= now; first = heap.peek()) {
            heap.remove(first)
            fired++
            assert.isAtMost(now - expected.get(first)!, 1.001)
            expected.delete(first)
            if (next() > 0.3) continue
            expected.set(first, now + next() * 50)
            heap.schedule(first, expected.get(first)!)
          }
        })
        const items = Array.from({ length: 40 }, (): Item => ({ dueAt: 0, index: -1 }))
        const steps = 300
        for (let step = 0; step < steps; step++) {
          const item = items[Math.floor(next() * items.length)]!
          if (next() < 0.6) {
            expected.set(item, time.now() + next() * (next() < 0.3 ? 5000 : 100))
            heap.schedule(item, expected.get(item)!)
          } else {
            expected.delete(item)
            heap.remove(item)
          }
          assert.strictEqual(heap.size, expected.size)
          assert.strictEqual(heap.peek()?.dueAt, expected.size === 0 ? undefined : Math.min(...expected.values()))
          heap.items().forEach((one, index) => assert.strictEqual(one.index, index))
          assert.isAtMost(timers.running, 1)
          if (expected.size > 0) assert.strictEqual(timers.running, 1)
          if (next() < 0.5) yield* TestClock.adjust(Math.floor(next() * 20))
        }
        yield* TestClock.adjust("10 seconds")
        assert.deepStrictEqual([expected.size, timers.running], [0, 0])
        assert.isAtMost(timers.armed, 2 * (fired + steps))
      })
  )

  it.effect("goes on when a callback throws, and logs it", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        let calls = 0
        const { heap } = yield* heapOf((heap) => {
          heap.remove(heap.peek()!)
          if (++calls === 1) throw new Error("once")
        })
        heap.schedule({ dueAt: 0, index: -1 }, 10)
        heap.schedule({ dueAt: 0, index: -1 }, 20)
        yield* TestClock.adjust("1 second")
        assert.strictEqual(calls, 2)
        assert.deepStrictEqual(lines.map((line) => line.level), ["Error"])
      })
    ))
})

import { Context, Effect, Fiber, Layer } from "effect"
import { Locker } from "effect-dlock"
import { expect, test } from "vitest"
import { problemsAtEnd, problemsNow, tally } from "../src/metrics.ts"
import { subjectOf } from "../src/subjects/ours.ts"
import type { Ask } from "../src/subjects/subject.ts"

test("metrics say what the calls of a worker saw, and each difference is told", () =>
  Effect.runPromise(Effect.gen(function*() {
    const locker = yield* Effect.scoped(Effect.gen(function*() {
      const locker = Context.get(yield* Layer.build(Locker.layerMemory), Locker)
      const { hold } = subjectOf(locker)
      const ask = (rest: Partial<Ask>): Ask => ({ key: "k", ttl: 1_000, way: "with", ...rest })
      const rest = () => Effect.sleep(50)
      const holder = yield* Effect.forkDetach(hold(ask({}), rest), { startImmediately: true })
      expect(yield* hold(ask({ way: "try" }), rest)).toBe("busy")
      expect(yield* hold(ask({ timeout: 10 }), rest)).toBe("timeout")
      yield* Fiber.interrupt(yield* Effect.forkDetach(hold(ask({}), rest), { startImmediately: true }))
      expect(yield* problemsNow).toEqual([])
      yield* Fiber.join(holder)
      expect(yield* hold(ask({ key: "a", also: ["b"] }), rest)).toBe("done")
      expect(yield* hold(ask({ way: "scoped" }), rest)).toBe("done")
      yield* Effect.forkDetach(hold(ask({ key: "lost" }), () => Effect.never), { startImmediately: true })
      return locker
    }))
    expect(yield* subjectOf(locker).hold({ key: "k", ttl: 1_000, way: "with" }, () => Effect.void)).toBe("backend")
    expect(yield* problemsAtEnd).toEqual([])
    expect(tally).toMatchObject({ acquired: 5, busy: 1, timeouts: 1, interrupted: 1, failed: 1, closed: 1 })
    expect(Array.from(tally.lost)).toEqual([["Revoked", 1]])

    tally.busy++
    tally.timeouts++
    tally.lost.set("Expired", 1)
    const problems = yield* problemsAtEnd
    for (const what of ["busy: 1", "timeouts: 1", "released: 4", "lost by Expired: 0"]) {
      expect(problems.filter((problem) => problem.startsWith(what)).length, what).toBe(1)
    }
  })))

import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Scope } from "effect"
import { TestClock } from "effect/testing"
import { fork, lockerOver, setting } from "./support.ts"

describe("the guard gap is the holder's to wind down in", () => {
  const lossIn = Effect.gen(function*() {
    const { faulty, locker, memory, sent } = yield* setting()
    yield* faulty.hang("renew")
    const other = yield* lockerOver(memory)
    const events: Array<string> = []
    const note = (event: string) => Effect.sync(() => void events.push(event))
    return { locker, other, events, note, sent }
  })

  it.effect("nobody is let in while an interrupted program closes what it opened, and somebody is right after", () =>
    Effect.gen(function*() {
      const { events, locker, note, other } = yield* lossIn
      const windingDown = Effect.onExit(Effect.never, () => Effect.andThen(Effect.sleep(500), note("out")))
      yield* fork(Effect.exit(locker.withLock("k", windingDown)))
      const next = yield* fork(other.withLock("k", note("in")))
      yield* TestClock.adjust(9_499)
      assert.deepStrictEqual(events, [])
      yield* TestClock.adjust(1)
      yield* Fiber.join(next)
      assert.deepStrictEqual(events, ["out", "in"])
    }))

  it.effect("a lost lease of a scope is withdrawn when the scope closes, or when the gap is over", () =>
    Effect.gen(function*() {
      const { locker, sent } = yield* lossIn
      const scope = yield* Scope.make()
      yield* Scope.provide(locker.scoped("one"), scope)
      yield* locker.scoped("two")
      yield* TestClock.adjust(9_100)
      assert.strictEqual(sent("withdraw").length, 0)
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(sent("withdraw").map(({ claims }) => claims[0]!.key), ["dlock:one"])
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(sent("withdraw").map(({ claims }) => claims[0]!.key), ["dlock:one", "dlock:two"])
    }))
})

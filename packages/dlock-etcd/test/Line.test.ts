import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Scheduler } from "effect"
import { type CallFailure, isClosed, silent } from "../src/internal/failure.ts"
import { Line } from "../src/internal/line.ts"

const nothing = () => {}

const fork = <A, E>(effect: Effect.Effect<A, E>) => Effect.forkDetach(effect, { startImmediately: true })

describe("requests of one process for one lock", () => {
  it.effect("hold up nobody, wherever one of them is interrupted", () =>
    Effect.gen(function*() {
      const line = new Line(() => 0)
      for (let ops = 2; ops < 16; ops++) {
        for (let turns = 0; turns < 12; turns++) {
          const first = yield* fork(
            Effect.provideService(line.inTurn("k", Effect.yieldNow, nothing), Scheduler.MaxOpsBeforeYield, ops)
          )
          const second = yield* fork(
            Effect.provideService(line.inTurn("k", Effect.yieldNow, nothing), Scheduler.MaxOpsBeforeYield, ops)
          )
          for (let turn = 0; turn < turns; turn++) yield* Effect.yieldNow
          yield* Fiber.interrupt(first)
          yield* Fiber.interrupt(second)
          const last = yield* fork(line.inTurn("k", Effect.succeed("in"), nothing))
          yield* Effect.yieldNow
          assert.strictEqual((yield* Fiber.join(last)) as string, "in", `${ops} steps, ${turns} turns`)
        }
      }
    }))

  for (
    const [what, failure] of [
      ["the server is silent", silent],
      ["the layer is closed", isClosed],
      ["no host can be reached", { ...silent, notDone: true, cause: new Error("No connection established") }]
    ] as const
  ) {
    it.effect(`are told together that ${what}`, () =>
      Effect.gen(function*() {
        const line = new Line(() => 0)
        const first = yield* fork(
          line.inTurn("k", Effect.andThen(Effect.yieldNow, Effect.fail<CallFailure>(failure)), nothing)
        )
        const others = yield* Effect.forEach([1, 2, 3], () => fork(line.inTurn("k", Effect.never, nothing)))
        for (const fiber of [first, ...others]) assert.isTrue(Exit.isFailure(yield* Fiber.await(fiber)))
        assert.isTrue((yield* Effect.flip(Fiber.join(others[0]!))).notDone)
      }))
  }

  it.effect("of which one has gone before its turn know whether others took the time", () =>
    Effect.gen(function*() {
      let now = 0
      let crowdedOut = 0
      const line = new Line(() => now)
      yield* fork(line.inTurn("k", Effect.never, nothing))
      const wait = () => fork(line.inTurn("k", Effect.void, () => void crowdedOut++))
      yield* Fiber.interrupt(yield* wait())
      assert.strictEqual(crowdedOut, 1)
      const late = yield* wait()
      now = 300
      yield* Fiber.interrupt(late)
      assert.strictEqual(crowdedOut, 1, "nothing was heard meanwhile")
    }))
})

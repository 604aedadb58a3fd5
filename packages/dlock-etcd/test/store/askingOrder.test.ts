import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Latch, Scheduler } from "effect"
import { type CallFailure, closedFailure, silentFailure } from "../../src/internal/client/failure.ts"
import { PlaceNames } from "../../src/internal/store/placeNames.ts"
import { AskingOrder } from "../../src/internal/store/queue/askingOrder.ts"
import { TrackedClaim } from "../../src/internal/store/trackedClaim.ts"
import { claimOf, plainTelemetry } from "../claim.ts"

const nothing = () => {}
const placeNames = new PlaceNames()
/** A claim for permits: such claims are requested one after the other. */
const one = () => new TrackedClaim({ ...claimOf(4_000, 1_000), kind: "semaphore", capacity: 2 }, placeNames)

const fork = <A, E>(effect: Effect.Effect<A, E>) => Effect.forkDetach(effect, { startImmediately: true })

describe("requests of one process for one lock", () => {
  it.effect("hold up nobody, wherever one of them is interrupted", () =>
    Effect.gen(function*() {
      const order = new AskingOrder(plainTelemetry, nothing)
      for (let ops = 2; ops < 16; ops++) {
        for (let turns = 0; turns < 12; turns++) {
          const first = yield* fork(
            Effect.provideService(order.inTurn(one(), Effect.yieldNow), Scheduler.MaxOpsBeforeYield, ops)
          )
          const second = yield* fork(
            Effect.provideService(order.inTurn(one(), Effect.yieldNow), Scheduler.MaxOpsBeforeYield, ops)
          )
          for (let turn = 0; turn < turns; turn++) yield* Effect.yieldNow
          yield* Fiber.interrupt(first)
          yield* Fiber.interrupt(second)
          const last = yield* fork(order.inTurn(one(), Effect.succeed("in")))
          yield* Effect.yieldNow
          assert.strictEqual((yield* Fiber.join(last)) as string, "in", `${ops} steps, ${turns} turns`)
        }
      }
    }))

  for (
    const [what, failure] of [
      ["the server is silent", silentFailure],
      ["the layer is closed", closedFailure],
      ["no host can be reached", { ...silentFailure, notDone: true, cause: new Error("No connection established") }]
    ] as const
  ) {
    it.effect(`are told together that ${what}`, () =>
      Effect.gen(function*() {
        const order = new AskingOrder(plainTelemetry, nothing)
        const first = yield* fork(
          order.inTurn(one(), Effect.andThen(Effect.yieldNow, Effect.fail<CallFailure>(failure)))
        )
        const others = yield* Effect.forEach([1, 2, 3], () => fork(order.inTurn(one(), Effect.never)))
        for (const fiber of [first, ...others]) assert.isTrue(Exit.isFailure(yield* Fiber.await(fiber)))
        assert.isTrue((yield* Effect.flip(Fiber.join(others[0]!))).notDone)
      }))
  }

  it.effect("for a mutex are abreast with sixteen who ask for the same, and their order is known", () =>
    Effect.gen(function*() {
      const order = new AskingOrder(plainTelemetry, nothing)
      const all = Array.from(
        { length: 18 },
        (_, index) => new TrackedClaim({ ...claimOf(4_000, 1_000), id: `id ${index}` }, placeNames)
      )
      const begun: Array<TrackedClaim> = []
      const latches = yield* Effect.forEach(all, () => Latch.make())
      const fibers = yield* Effect.forEach(
        all,
        (tracked, index) =>
          fork(order.inTurn(tracked, Effect.andThen(Effect.sync(() => begun.push(tracked)), latches[index]!.await)))
      )
      assert.strictEqual(begun.length, 16)
      yield* latches[3]!.open
      yield* Fiber.join(fibers[3]!)
      assert.deepStrictEqual(
        begun.map((tracked) => all.indexOf(tracked)),
        Array.from({ length: 17 }, (_, index) => index)
      )
      assert.isTrue(order.isAwaited(all[3]!))
      assert.isFalse(order.isAwaited(all[0]!))
      yield* Effect.forEach(latches, (latch) => latch.open)
      yield* Effect.forEach(fibers, Fiber.join)
      assert.isFalse(all.some((tracked) => order.isAwaited(tracked)))
    }))

  it.effect("for a mutex wait for those who ask for something else", () =>
    Effect.gen(function*() {
      const order = new AskingOrder(plainTelemetry, nothing)
      const begun: Array<string> = []
      const ask = (id: string, ttl: number) =>
        order.inTurn(
          new TrackedClaim({ ...claimOf(ttl, 1_000), id }, placeNames),
          Effect.andThen(Effect.sync(() => begun.push(id)), Effect.yieldNow)
        )
      const fibers = yield* Effect.forEach(
        [["a", 4_000], ["b", 4_000], ["c", 5_000], ["d", 4_000]] as const,
        ([id, ttl]) => fork(ask(id, ttl))
      )
      assert.deepStrictEqual(begun, ["a", "b"])
      yield* Effect.forEach(fibers, Fiber.join)
      assert.deepStrictEqual(begun, ["a", "b", "c", "d"])
    }))
})

/** What Effect Cluster's own sharding does over this storage, on the clock of the test. */
import { assert, describe, it } from "@effect/vitest"
import { Clock, Context, Deferred, Effect, Exit, Layer, Option, Scope } from "effect"
import { MessageStorage, RunnerHealth, Runners, RunnerStorage, Sharding, ShardingConfig } from "effect/cluster"
import { TestClock } from "effect/testing"
import { address, fork, guardGap, type Memory, memory, processOn, times } from "./support.ts"

const config = (port: number) => ({
  ...times,
  runnerAddress: Option.some(address(port)),
  shardsPerGroup: 8,
  refreshAssignmentsInterval: "1 second",
  entityMessagePollInterval: "1 second",
  // What ends by and by would take so long.
  entityTerminationTimeout: "1 hour"
} as const)

/** A runner in a scope of its own, without any network. */
const runnerOn = Effect.fnUntraced(function*(shared: Memory, port: number) {
  const process = yield* processOn(shared, { config: config(port) })
  const scope = yield* Effect.acquireRelease(
    Scope.make(),
    (scope) => Effect.andThen(process.heal, Scope.close(scope, Exit.void))
  )
  const sharding = yield* Scope.provide(
    Layer.build(Layer.fresh(Sharding.layer.pipe(
      Layer.provide(Runners.layerNoop),
      Layer.provide(MessageStorage.layerMemory),
      Layer.provide([RunnerHealth.layerNoop, Layer.succeed(RunnerStorage.RunnerStorage, process)]),
      Layer.provide(ShardingConfig.layer(config(port)))
    ))),
    scope
  )
  return { ...process, sharding: Context.get(sharding, Sharding.Sharding), close: Scope.close(scope, Exit.void) }
})

interface Step {
  readonly port: number
  readonly what: "in" | "out"
  readonly at: number
}

/** Starts a singleton on a runner, of which the cluster has one, and notes when it is in and out. */
const singleton = Effect.fnUntraced(function*(
  { sharding }: { readonly sharding: Sharding.Sharding["Service"] },
  port: number,
  steps: Array<Step>,
  end: Effect.Effect<void> = Effect.void
) {
  const note = (what: Step["what"]) => Effect.map(Clock.currentTimeMillis, (at) => void steps.push({ port, what, at }))
  const run = Effect.onInterrupt(Effect.andThen(note("in"), Effect.never), () => Effect.andThen(end, note("out")))
  yield* sharding.registerSingleton("one of a kind", run)
})

/** Whether two were in at once. */
const overlap = (steps: ReadonlyArray<Step>): boolean => {
  const inside = new Set<number>()
  return steps.some(({ port, what }) => {
    if (what === "out") inside.delete(port)
    else inside.add(port)
    return inside.size > 1
  })
}

/** Time, in steps of a timer's size. */
const pass = (seconds: number) =>
  Effect.forEach(Array.from({ length: seconds * 10 }), () => TestClock.adjust("100 millis"), { discard: true })

describe("a runner over this storage", () => {
  it.effect("runs what is its, and hands it over when it is closed", () =>
    Effect.gen(function*() {
      const shared = yield* memory
      const steps: Array<Step> = []
      const one = yield* runnerOn(shared, 1)
      yield* singleton(one, 1, steps)
      yield* pass(3)
      const other = yield* runnerOn(shared, 2)
      yield* singleton(other, 2, steps)
      yield* pass(30)
      assert.strictEqual(
        steps.filter(({ what }) => what === "in").length,
        1 + steps.filter(({ what }) => what === "out").length
      )
      const [holder] = steps.slice(-1)
      yield* fork(holder!.port === 1 ? one.close : other.close)
      yield* pass(5)
      assert.deepStrictEqual(steps.slice(-2).map(({ port, what }) => [port, what]), [
        [holder!.port, "out"],
        [3 - holder!.port, "in"]
      ])
      assert.isFalse(overlap(steps))
    }))

  it.effect.each(["hang", "fail"] as const)(
    "whose calls %s is out two refreshes after the last one, and the next is in after the expiry",
    (how) =>
      Effect.gen(function*() {
        const shared = yield* memory
        const steps: Array<Step> = []
        const one = yield* runnerOn(shared, 1)
        yield* singleton(one, 1, steps)
        yield* pass(10)
        const other = yield* runnerOn(shared, 2)
        yield* pass(20)
        const began = steps.at(-1)
        assert.strictEqual(began?.what, "in")
        yield* singleton(other, 2, steps)
        yield* one.cutOff(how)
        const last = yield* Clock.currentTimeMillis
        yield* pass(25)
        const [out, next] = steps.slice(steps.indexOf(began!) + 1)
        assert.deepStrictEqual([out?.port, out?.what, next?.port, next?.what], [1, "out", 2, "in"])
        assert.isAtMost(out!.at - last, 6_000)
        // It was renewed at most an interval before, and then kept for its ttl and the guard gap.
        assert.isAtLeast(next!.at - last, 9_000 + 1_000 - 3_000)
        assert.isFalse(overlap(steps))
        yield* one.heal
        yield* pass(20)
        assert.isFalse(overlap(steps))
      })
  )

  it.effect("notices a loss at its next refresh, and stops at once and not by and by", () =>
    Effect.gen(function*() {
      const shared = yield* memory
      const one = yield* runnerOn(shared, 1)
      const steps: Array<Step> = []
      yield* singleton(one, 1, steps)
      yield* pass(10)
      yield* one.faulty.answerRenewals({ _tag: "Replaced" })
      const at = yield* Clock.currentTimeMillis
      yield* pass(4)
      assert.strictEqual(steps.at(-1)?.what, "out")
      assert.isAtMost(steps.at(-1)!.at - at, 3_100)
      yield* one.heal
      yield* pass(20)
      assert.strictEqual(steps.at(-1)?.what, "in")
    }))

  it.effect("comes back after an outage, and its shards with it", () =>
    Effect.gen(function*() {
      const shared = yield* memory
      const one = yield* runnerOn(shared, 1)
      const steps: Array<Step> = []
      yield* singleton(one, 1, steps)
      yield* pass(10)
      yield* one.cutOff("fail")
      yield* pass(30)
      assert.strictEqual(steps.at(-1)?.what, "out")
      yield* one.heal
      yield* pass(20)
      assert.strictEqual(steps.at(-1)?.what, "in")
    }))

  it.effect("does not notice an outage of one refresh", () =>
    Effect.gen(function*() {
      const shared = yield* memory
      const one = yield* runnerOn(shared, 1)
      const steps: Array<Step> = []
      yield* singleton(one, 1, steps)
      yield* pass(10)
      yield* one.faulty.fail("renew", undefined, 5)
      yield* pass(30)
      assert.deepStrictEqual(steps.map(({ what }) => what), ["in"])
    }))

  it.effect("that does not stop keeps nobody out after the expiry: this much no lock can do", () =>
    Effect.gen(function*() {
      const shared = yield* memory
      const steps: Array<Step> = []
      const stuck = yield* Deferred.make<void>()
      const one = yield* runnerOn(shared, 1)
      yield* singleton(one, 1, steps, Deferred.await(stuck))
      yield* pass(10)
      const other = yield* runnerOn(shared, 2)
      yield* singleton(other, 2, steps)
      yield* one.faulty.hang("renew")
      yield* pass(30)
      assert.deepStrictEqual(steps.map(({ port, what }) => [port, what]), [[1, "in"], [2, "in"]])
      yield* one.heal
      yield* Deferred.succeed(stuck, void 0)
      yield* pass(5)
      assert.strictEqual(guardGap, "1 second")
    }))
})

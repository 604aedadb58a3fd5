import { assert, describe, it } from "@effect/vitest"
import { Config, Effect, Exit, Fiber, Layer, Scope } from "effect"
import { MemoryLockStore } from "effect-dlock"
import { LockRunnerStorage } from "effect-dlock-cluster"
import { ClusterError, Runner, RunnerAddress, ShardingConfig } from "effect/cluster"
import { TestClock } from "effect/testing"
import { address, fork, heldKeys, memory, type Process, processOn, runner, two } from "./support.ts"

const here = address(1)

/** The ports of the registered runners, negative if they are unhealthy. */
const registered = (process: Process) =>
  Effect.map(
    process.getRunners,
    (runners) =>
      runners.map(([{ address }, isHealthy]) => isHealthy ? address.port : -address.port).toSorted((a, b) => a - b)
  )

describe("registering a runner", () => {
  it.effect("shows it to all, with what it is, for as long as its process lives", () =>
    Effect.gen(function*() {
      const { one, other } = yield* two
      yield* one.register(runner(1, 3), true)
      yield* other.register(runner(2), true)
      yield* TestClock.adjust("1 minute")
      const runners = yield* other.getRunners
      assert.deepStrictEqual(
        runners.toSorted(([a], [b]) => a.address.port - b.address.port),
        [[runner(1, 3), true], [runner(2), true]]
      )
    }))

  it.effect("shows more runners than one look at the store does", () =>
    Effect.gen(function*() {
      const { one, other } = yield* two
      const ports = Array.from({ length: 120 }, (_, index) => index + 1)
      yield* Effect.forEach(ports, (port) => one.register(runner(port), true))
      yield* other.setRunnerHealth(address(7), false)
      assert.deepStrictEqual(yield* registered(other), [-7, ...ports.filter((port) => port !== 7)])
    }))

  it.effect("ends if its place among the others is taken away", () =>
    Effect.gen(function*() {
      const { memory, one } = yield* two
      yield* one.register(runner(1), true)
      const on = { key: "cluster/runners", prefix: "cluster/" }
      const [holder] = (yield* memory.admin.inspect(on)).holders
      yield* memory.admin.breakLock(on, holder!.token)
      yield* TestClock.adjust("3 seconds")
      assert.strictEqual(one.warnings.length, 1)
      yield* one.register(runner(1), true)
      assert.deepStrictEqual(yield* registered(one), [1])
    }))

  it.effect("gives it a number of its own for its snowflakes, the same at a repeat", () =>
    Effect.gen(function*() {
      const { memory, one } = yield* two
      const ids = new Set<number>()
      for (let port = 1; port <= 40; port++) {
        const process = yield* processOn(memory)
        const id = yield* process.register(runner(port), true)
        assert.isTrue(id >= 0 && id < 1024)
        ids.add(id)
        assert.strictEqual(yield* process.register(runner(port), true), id)
      }
      assert.strictEqual(ids.size, 40)
      assert.strictEqual((yield* registered(one)).length, 40)
    }))

  it.effect("is refused while another process has the address, with a warning, and possible once that has died", () =>
    Effect.gen(function*() {
      const { one, other } = yield* two
      yield* one.register(runner(1), true)
      yield* one.faulty.hang("renew")
      assert.instanceOf(yield* Effect.flip(other.register(runner(1), true)), ClusterError.PersistenceError)
      yield* TestClock.adjust("9999 millis")
      assert.instanceOf(yield* Effect.flip(other.register(runner(1), true)), ClusterError.PersistenceError)
      assert.strictEqual(other.warnings.length, 1)
      assert.include(other.warnings[0], "Another process is registered as the runner localhost:1")
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(yield* registered(other), [])
      yield* other.register(runner(1), true)
      assert.deepStrictEqual(yield* registered(one), [1])
    }))

  it.effect("again after a loss is a registration anew", () =>
    Effect.gen(function*() {
      const { memory, one } = yield* two
      const first = yield* one.register(runner(1), true)
      for (const key of ["cluster/runner/localhost:1", `cluster/machine/${first}`]) {
        const on = { key, prefix: "cluster/" }
        const [holder] = (yield* memory.admin.inspect(on)).holders
        assert.isTrue(yield* memory.admin.breakLock(on, holder!.token))
      }
      yield* TestClock.adjust("3 seconds")
      assert.deepStrictEqual(yield* registered(one), [])
      assert.strictEqual(one.warnings.length, 1)
      yield* one.register(runner(1), true)
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(yield* registered(one), [1])
      assert.strictEqual((yield* heldKeys(memory)).length, 3)
    }))

  it.effect("ends with the loss of its number alone, since no other may have the same", () =>
    Effect.gen(function*() {
      const { memory, one } = yield* two
      const on = { key: `cluster/machine/${yield* one.register(runner(1), true)}`, prefix: "cluster/" }
      const [holder] = (yield* memory.admin.inspect(on)).holders
      yield* memory.admin.breakLock(on, holder!.token)
      yield* TestClock.adjust("3 seconds")
      assert.deepStrictEqual(yield* registered(one), [])
      yield* one.register(runner(1), true)
      assert.deepStrictEqual(yield* registered(one), [1])
    }))

  it.effect("says what changed", () =>
    Effect.gen(function*() {
      const { memory, one } = yield* two
      const id = yield* one.register(runner(1), true)
      assert.strictEqual(yield* one.register(runner(1, 5), true), id)
      assert.deepStrictEqual(yield* one.getRunners, [[runner(1, 5), true]])
      assert.strictEqual((yield* heldKeys(memory)).length, 3)
    }))

  it.effect("leaves nothing behind when it is interrupted", () =>
    Effect.gen(function*() {
      const { memory, one } = yield* two
      const hold = yield* one.faulty.holdReplies("request")
      const registering = yield* fork(one.register(runner(1), true))
      yield* hold.caught
      yield* Fiber.interrupt(registering)
      yield* hold.release
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* heldKeys(memory), [])
    }))

  it.effect("ends when it is unregistered, but its number stays until the storage is closed", () =>
    Effect.gen(function*() {
      const shared = yield* memory
      const scope = yield* Scope.make()
      const one = yield* Scope.provide(processOn(shared), scope)
      const id = yield* one.register(runner(1), true)
      yield* one.unregister(here)
      yield* one.unregister(here)
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(yield* heldKeys(shared), [`machine/${id}`])
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(yield* heldKeys(shared), [])
    }))

  it.effect("survives an outage that is shorter than its ttl", () =>
    Effect.gen(function*() {
      const { one, other } = yield* two
      yield* one.register(runner(1), true)
      yield* TestClock.adjust("3 seconds")
      yield* one.faulty.fail("renew", undefined, 15)
      yield* TestClock.adjust("20 seconds")
      assert.deepStrictEqual(yield* registered(other), [1])
      assert.deepStrictEqual(one.warnings, [])
    }))

  it.effect("survives a renewal that the store never answers, or dies of", () =>
    Effect.gen(function*() {
      const shared = yield* memory
      let call = 0
      const renew: typeof shared.store.renew = (held) => {
        call++
        return call === 1 ? Effect.never : call === 2 ? Effect.die("a bug of the store") : shared.store.renew(held)
      }
      const one = yield* processOn({ ...shared, store: { ...shared.store, renew } })
      yield* one.register(runner(1), true)
      yield* TestClock.adjust("1 minute")
      assert.strictEqual((yield* one.getRunners).length, 1)
      assert.deepStrictEqual(one.warnings, [])
    }))

  it.effect("is not found by a process that has lost it to another with its address", () =>
    Effect.gen(function*() {
      const { memory, one, other } = yield* two
      yield* one.register(runner(1), true)
      for (const key of ["cluster/runner/localhost:1", "cluster/runners"]) {
        const on = { key, prefix: "cluster/" }
        yield* memory.admin.breakLock(on, (yield* memory.admin.inspect(on)).holders[0]!.token)
      }
      yield* other.register(runner(1), true)
      yield* TestClock.adjust("3 seconds")
      assert.deepStrictEqual(yield* one.getRunners, [])
      yield* Effect.flip(one.register(runner(1), true))
      assert.deepStrictEqual(yield* one.getRunners, [])
      assert.strictEqual((yield* other.getRunners).length, 1)
      yield* other.unregister(address(1))
      yield* one.register(runner(1), true)
      assert.strictEqual((yield* one.getRunners).length, 1)
    }))

  it.effect("fails while nobody confirms it, since Sharding would register without a pause otherwise", () =>
    Effect.gen(function*() {
      const { one } = yield* two
      yield* one.register(runner(1), true)
      yield* one.faulty.fail("renew")
      assert.instanceOf(yield* Effect.flip(one.register(runner(1), true)), ClusterError.PersistenceError)
      yield* one.faulty.heal()
      yield* one.register(runner(1), true)
    }))

  it.effect("takes addresses of every form", () =>
    Effect.gen(function*() {
      const { one, other } = yield* two
      for (const host of ["::1", "a/b", "{x}", "runner/unhealthy", "ü"]) {
        const runnerThere = Runner.make({ address: RunnerAddress.make(host, 7), groups: ["default"], weight: 1 })
        yield* one.register(runnerThere, false)
        assert.deepStrictEqual(yield* other.getRunners, [[runnerThere, false]])
        yield* one.unregister(runnerThere.address)
      }
    }))
})

describe("the health of a runner", () => {
  it.effect("is set by any runner for any other", () =>
    Effect.gen(function*() {
      const { memory, one, other } = yield* two
      const third = yield* processOn(memory)
      yield* one.register(runner(1), true)
      yield* other.setRunnerHealth(here, false)
      yield* third.setRunnerHealth(here, false)
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(yield* registered(one), [-1])
      yield* third.setRunnerHealth(here, true)
      assert.deepStrictEqual(yield* registered(one), [1])
      // The process that put the mark does not put it again.
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(yield* registered(one), [1])
      yield* other.setRunnerHealth(here, false)
      yield* other.setRunnerHealth(here, true)
      assert.deepStrictEqual(yield* registered(one), [1])
    }))

  it.effect("is set by the runner itself, and by its registration", () =>
    Effect.gen(function*() {
      const { one, other } = yield* two
      yield* one.register(runner(1), false)
      assert.deepStrictEqual(yield* registered(other), [-1])
      yield* one.setRunnerHealth(here, true)
      assert.deepStrictEqual(yield* registered(other), [1])
      yield* other.setRunnerHealth(here, false)
      yield* one.register(runner(1), true)
      assert.deepStrictEqual(yield* registered(other), [1])
    }))

  it.effect("is a verdict that ends with the process that gave it", () =>
    Effect.gen(function*() {
      const { one, other } = yield* two
      yield* one.register(runner(1), true)
      yield* other.setRunnerHealth(here, false)
      yield* other.faulty.hang("renew")
      yield* TestClock.adjust("9999 millis")
      assert.deepStrictEqual(yield* registered(one), [-1])
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(yield* registered(one), [1])
    }))

  it.effect("of a runner that is gone is forgotten", () =>
    Effect.gen(function*() {
      const { memory, one, other } = yield* two
      yield* one.register(runner(1), true)
      yield* other.register(runner(2), true)
      yield* other.setRunnerHealth(here, false)
      yield* one.unregister(here)
      assert.deepStrictEqual(yield* registered(other), [2])
      yield* TestClock.adjust("1 second")
      assert.isFalse((yield* heldKeys(memory)).some((key) => key.includes("unhealthy")))
      yield* one.register(runner(1), true)
      assert.deepStrictEqual(yield* registered(other), [1, 2])
    }))
})

describe("clusters", () => {
  it.effect("with different prefixes know nothing of each other", () =>
    Effect.gen(function*() {
      const shared = yield* memory
      const one = yield* processOn(shared)
      const other = yield* processOn(shared, { prefix: "other/" })
      yield* one.register(runner(1), true)
      yield* other.register(runner(1), true)
      assert.deepStrictEqual(yield* registered(other), [1])
      assert.strictEqual((yield* heldKeys(shared, "other/")).length, 3)
    }))
})

describe("the options", () => {
  const built = <A, E, R>(layer: Layer.Layer<A, E, R>) => Effect.scoped(Layer.build(layer))

  it.effect.each(
    [
      [{ prefix: "}" }, {}, "prefix"],
      [{ guardGap: "never" }, {}, "guardGap"],
      [{ ttl: 1 }, {}, "ttl is not an option"],
      [{}, { shardLockExpiration: "10 millis" }, "shardLockExpiration"],
      [{}, { shardLockRefreshInterval: 0 }, "shardLockRefreshInterval"]
    ] as const
  )("are refused by their names: %j %j", ([options, config, name]) =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(
        built(Layer.provide(LockRunnerStorage.layer(options as {}), [
          MemoryLockStore.layer,
          ShardingConfig.layer(config)
        ]))
      )
      assert.strictEqual(error._tag, "ConfigError")
      assert.include(error.message, name)
    }))

  it.effect("may each be a Config", () =>
    built(Layer.provide(
      LockRunnerStorage.layerConfig({ prefix: Config.succeed("a/"), guardGap: Config.succeed("1 second") }),
      [MemoryLockStore.layer, ShardingConfig.layer()]
    )))
})

import { assert, describe, it } from "@effect/vitest"
import { Cause, ConfigProvider, Duration, Effect, Layer } from "effect"
import { Locker, MemoryLockStore, withLock } from "effect-dlock"

const withConfig = (config: Record<string, string>) =>
  Effect.provideService(ConfigProvider.ConfigProvider, ConfigProvider.fromUnknown(config))

const ttl = withLock("k", (lease) => Effect.succeed(Duration.toSeconds(lease.ttl)))

const other = Layer.provide(Locker.layer({ defaultTtl: "7 seconds" }), MemoryLockStore.layer)

describe("Locker.layerDriver", () => {
  it.effect("builds the driver that DLOCK_DRIVER names, a layer or a promised one, and memory without being told", () =>
    Effect.gen(function*() {
      const drivers = Locker.layerDriver({ given: other, promised: () => Promise.resolve(other) })
      for (const [driver, seconds] of [["given", 7], ["promised", 7], ["memory", 12]] as const) {
        const run = ttl.pipe(
          Effect.provide(Layer.fresh(drivers)),
          withConfig({ DLOCK_DRIVER: driver, DLOCK_DEFAULT_TTL: "12 seconds" })
        )
        assert.strictEqual(yield* run, seconds, driver)
      }
    }))

  it.effect("does not load what it was not asked for", () =>
    Effect.gen(function*() {
      const drivers = Locker.layerDriver({
        given: other,
        never: () => {
          throw new Error("loaded")
        }
      })
      assert.strictEqual(yield* ttl.pipe(Effect.provide(drivers), withConfig({ DLOCK_DRIVER: "given" })), 7)
    }))

  for (
    const [what, config, said] of [
      ["unset", {}, "DLOCK_DRIVER is not set: set it to one of broken, etcd, memory, redis"],
      ["unknown", { DLOCK_DRIVER: "redsi" }, "DLOCK_DRIVER is \"redsi\": set it to one of broken, etcd, memory, redis"],
      ["a name that every object has", { DLOCK_DRIVER: "toString" }, "set it to one of broken, etcd, memory, redis"],
      ["empty", { DLOCK_DRIVER: "" }, "set it to one of broken, etcd, memory, redis"],
      [
        "not installed",
        { DLOCK_DRIVER: "etcd" },
        "The driver \"etcd\" could not be loaded: are its packages installed?"
      ],
      [
        "missing a package of its own",
        { DLOCK_DRIVER: "broken" },
        "The driver \"broken\" could not be loaded: are its packages installed? (Cannot find module 'x')"
      ]
    ] as const
  ) {
    it.effect(`is a ConfigError that says what to do when the driver is ${what}`, () =>
      Effect.gen(function*() {
        const missing = "effect-dlock-missing"
        const drivers = Locker.layerDriver({
          redis: other,
          broken: (): Promise<typeof other> =>
            Promise.reject(new Error("Cannot find module 'x'\nRequire stack:\n- /app/driver.js")),
          etcd: (): Promise<typeof other> => import(missing).then((module) => module.layer)
        })
        const error = yield* Effect.flip(ttl.pipe(Effect.provide(drivers), withConfig(config)))
        assert.strictEqual(error._tag, "ConfigError")
        assert.include(error.message, said)
        // One line, and no stack of the loading of modules.
        assert.notInclude(error.message, "\n")
        assert.notMatch(Cause.pretty(Cause.fail(error)), /\n\s+at /)
      }))
  }
})

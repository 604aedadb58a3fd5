import { assert, describe, it } from "@effect/vitest"
import { Cause, ConfigProvider, Context, Duration, Effect, Layer } from "effect"
import { InvalidLockRequest, Locker, LockNotHeld, LockStore, MemoryLockStore, withLock } from "effect-dlock"
import { runInNewContext } from "node:vm"
import * as Settings from "../src/internal/options/settings.ts"
import { setting } from "./support.ts"

describe("a request that no store could honour is refused, and nothing is sent", () => {
  const long = (bytes: number) => "k".repeat(bytes - "dlock:".length)
  const any = (value: unknown): any => value

  it.effect.each<readonly [what: string, parameter: string, key: string, options?: any]>([
    ["an empty key", "key", ""],
    ["a key over 1,024 bytes with its prefix", "key", long(1025)],
    ["a key over 1,024 bytes of UTF-8, though not of characters", "key", "ü".repeat(510)],
    ["a key over 1,024 bytes of UTF-8 in four-byte characters", "key", "😀".repeat(255)],
    ["a key with NUL", "key", "a\0b"],
    ["a key with a lone surrogate", "key", "a\ud800b"],
    ["a key with a lone low surrogate", "key", "a\udc00"],
    ["a key with a closing brace", "key", "a}b"],
    ["a key with an empty hash tag", "key", "a{}b"],
    ["a key whose closing brace comes first", "key", "}a{"],
    ["a key that is no string", "key", any(42)],
    ["a key that is a symbol", "key", any(Symbol("k"))],
    ["a key that has no words", "key", any(Object.create(null))],
    ["a key that is null", "key", any(null)],
    ["a ttl below 100 ms", "ttl", "k", { ttl: 99 }],
    ["a ttl of zero", "ttl", "k", { ttl: 0 }],
    ["a negative ttl", "ttl", "k", { ttl: -1000 }],
    ["an infinite ttl", "ttl", "k", { ttl: Infinity }],
    ["a ttl that is not a number", "ttl", "k", { ttl: NaN }],
    ["a ttl that is garbage", "ttl", "k", { ttl: "soon" }],
    ["a ttl that is null", "ttl", "k", { ttl: null }],
    ["a negative timeout", "timeout", "k", { timeout: -1 }],
    ["a timeout that is not a number", "timeout", "k", { timeout: NaN }],
    ["a timeout that is garbage", "timeout", "k", { timeout: "a while" }],
    ["a negative guard gap", "guardGap", "k", { guardGap: -1 }],
    ["an infinite guard gap", "guardGap", "k", { guardGap: Infinity }],
    ["a maxHold of zero", "maxHold", "k", { maxHold: 0 }],
    ["a negative maxHold", "maxHold", "k", { maxHold: -1 }],
    ["a maxHold that is garbage", "maxHold", "k", { maxHold: "a while" }],
    ["metadata that are no record", "metadata", "k", { metadata: "nightly" }],
    ["metadata that are no strings", "metadata", "k", { metadata: { job: 1 } }],
    ["metadata that are a date", "metadata", "k", { metadata: new Date(0) }],
    ["metadata that are a map", "metadata", "k", { metadata: new Map([["job", "nightly"]]) }],
    ["metadata that are an array", "metadata", "k", { metadata: ["nightly"] }],
    ["metadata with a symbol", "metadata", "k", { metadata: { [Symbol("job")]: "nightly" } }],
    ["metadata over 1,024 bytes", "metadata", "k", { metadata: { job: "x".repeat(1024) } }],
    ["a reentrant that is neither true nor false", "reentrant", "k", { reentrant: "yes" }],
    ["a reentrant that is null", "reentrant", "k", { reentrant: null }],
    ["an option that does not exist", "priority", "k", { priority: 1 }],
    ["options that are null", "options", "k", null],
    ["options that are a number", "options", "k", 5],
    ["an option whose name is a symbol", "Symbol(ttl)", "k", { [Symbol("ttl")]: 1000 }],
    ["an option that is misspelt", "timeOut", "k", { timeOut: 1000 }]
  ])("$0", ([, parameter, key, options]) =>
    Effect.gen(function*() {
      const { faulty, locker } = yield* setting()
      const errors = yield* Effect.all([
        Effect.flip(locker.withLock(key, Effect.void, options)),
        Effect.flip(Effect.scoped(locker.scoped(key, options))),
        Effect.flip(locker.withLockIfAvailable(key, Effect.void, options)),
        Effect.flip(Effect.scoped(locker.scopedIfAvailable(key, options)))
      ])
      for (const error of errors) {
        assert(error instanceof InvalidLockRequest)
        assert.strictEqual(error.parameter, parameter)
        assert.isNotEmpty(error.problem)
        assert.include(error.message, parameter)
        JSON.stringify(error)
      }
      assert.strictEqual(faulty.calls.length, 0)
    }))

  it.effect("a timeout on a form that does not wait", () =>
    Effect.gen(function*() {
      const { faulty, locker } = yield* setting()
      const options = { timeout: "1 second" } as {}
      const section = yield* Effect.flip(locker.withLockIfAvailable("k", Effect.void, options))
      const lease = yield* Effect.flip(Effect.scoped(locker.scopedIfAvailable("k", options)))
      assert(section._tag === "InvalidLockRequest" && lease._tag === "InvalidLockRequest")
      assert.deepStrictEqual([section.parameter, lease.parameter], ["timeout", "timeout"])
      assert.strictEqual(faulty.calls.length, 0)
    }))

  it.effect.each<readonly [what: string, key: string, options?: any]>([
    ["a key of exactly 1,024 bytes with its prefix", long(1024)],
    ["a key of exactly 1,024 bytes of UTF-8", "ü".repeat(509)],
    ["a key of exactly 1,024 bytes in four-byte characters", "😀".repeat(254) + "xx"],
    ["a key with a hash tag", "a{b}c"],
    ["a key with an opening brace", "a{b"],
    ["a key with slashes, spaces and emoji", "a/b c/😀"],
    ["a ttl of 100 ms", "k", { ttl: 100 }],
    ["a ttl in words", "k", { ttl: "1 minute" }],
    ["an infinite timeout", "k", { timeout: Infinity }],
    ["a guard gap of zero", "k", { guardGap: 0 }],
    ["metadata without a prototype", "k", { metadata: Object.assign(Object.create(null), { job: "nightly" }) }],
    ["metadata of another realm", "k", { metadata: runInNewContext("({ job: 'nightly' })") }],
    ["options that are undefined", "k", {
      ttl: undefined,
      timeout: undefined,
      guardGap: undefined,
      metadata: undefined,
      reentrant: undefined
    }],
    ["a lock that may be re-entered", "k", { reentrant: true }],
    ["a lock that may not be re-entered", "k", { reentrant: false }]
  ])("$0 is taken", ([, key, options]) =>
    Effect.gen(function*() {
      const { faulty, locker } = yield* setting()
      assert.strictEqual(yield* locker.withLock(key, Effect.succeed(42), options), 42)
      assert.strictEqual(faulty.calls[0]!.claims[0]!.key, `dlock:${key}`)
    }))
})

describe("the claim that is sent", () => {
  it.effect("carries the ttl, and a guard gap of a tenth of it or 100 ms", () =>
    Effect.gen(function*() {
      const { faulty, locker } = yield* setting({ prefix: "p/", holder: "h" })
      const lasts = (ttl: Duration.Input, guardGap?: Duration.Input) =>
        locker.withLock("k", Effect.void, { ttl, guardGap })
      yield* lasts("30 seconds")
      yield* lasts("500 millis")
      yield* lasts("30 seconds", 7)
      const claims = faulty.calls.filter((call) => call.operation === "request").map((call) => call.claims[0]!)
      assert.deepStrictEqual(
        claims.map(({ capacity, guardGap, holder, key, permits, ttl }) => [
          key,
          permits,
          capacity,
          Duration.toMillis(ttl),
          Duration.toMillis(guardGap),
          holder
        ]),
        [
          ["p/k", 1, 1, 30_000, 3000, "h"],
          ["p/k", 1, 1, 500, 100, "h"],
          ["p/k", 1, 1, 30_000, 7, "h"]
        ]
      )
    }))
})

describe("options of a locker that make no sense are a ConfigError", () => {
  const build = (options: any) =>
    Effect.scoped(Layer.build(Layer.provide(Locker.layer(options), MemoryLockStore.layer)))

  it.effect.each<readonly [what: string, options: unknown]>([
    ["a prefix with NUL", { prefix: "a\0" }],
    ["a prefix that leaves no slot", { prefix: "a}" }],
    ["a prefix that leaves no room for a key", { prefix: "p".repeat(1024) }],
    ["a prefix that is no string", { prefix: 42 }],
    ["a ttl that is too short", { defaultTtl: 99 }],
    ["a ttl that is infinite", { defaultTtl: Infinity }],
    ["a ttl that is garbage", { defaultTtl: "soon" }],
    ["a guard gap that is negative", { guardGap: -1 }],
    ["a guard gap that is infinite", { guardGap: Infinity }],
    ["a holder that is empty", { holder: "" }],
    ["a holder with braces", { holder: "a{b}" }],
    ["a holder with a line break", { holder: "a\nb" }],
    ["an option that does not exist", { retries: 3 }]
  ])("$0", ([, options]) =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(build(options))
      assert.strictEqual(error._tag, "ConfigError")
      assert.include(String(error.message), Object.keys(options as {})[0]!)
    }))

  it.effect("all that is wrong with them is told together", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(build({ prefix: 42, defaultTtl: "soon", nonsense: true }))
      for (const word of ["prefix", "defaultTtl", "nonsense"]) assert.include(error.message, word)
    }))
})

describe("Locker.layerWithStore", () => {
  it.effect("says what is wrong with the options before it opens the store", () =>
    Effect.gen(function*() {
      let opened = 0
      const store = Layer.effect(LockStore, Effect.tap(MemoryLockStore.make, () => Effect.sync(() => opened++)))
      const error = yield* Effect.flip(Layer.build(Locker.layerWithStore(store, { defaultTtl: 1 })))
      assert.deepStrictEqual([error._tag, opened], ["ConfigError", 0])
      const context = yield* Layer.build(Locker.layerWithStore(store, { defaultTtl: "5 seconds" }))
      assert.strictEqual(yield* Context.get(context, Locker).withLock("k", Effect.succeed(42)), 42)
      assert.strictEqual(opened, 1)
    }))
})

describe("Locker.layerEnv", () => {
  const first = (env: Readonly<Record<string, string>>) =>
    Effect.gen(function*() {
      const memory = yield* MemoryLockStore.make
      let seen = ""
      const store = LockStore.of({
        ...memory,
        request: (claim, mode) => {
          seen = `${claim.key} ${Duration.toMillis(claim.ttl)}`
          return memory.request(claim, mode)
        }
      })
      const context = yield* Layer.build(Layer.provide(Locker.layerEnv, Layer.succeed(LockStore, store)))
      yield* Context.get(context, Locker).withLock("k", Effect.void)
      return seen
    }).pipe(
      Effect.scoped,
      Effect.provideService(ConfigProvider.ConfigProvider, ConfigProvider.fromEnv({ env }))
    )

  it.effect("reads DLOCK_PREFIX and DLOCK_DEFAULT_TTL, and has defaults for both", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* first({}), "dlock:k 30000")
      assert.strictEqual(yield* first({ DLOCK_PREFIX: "shop/", DLOCK_DEFAULT_TTL: "5 seconds" }), "shop/k 5000")
    }))

  it.effect("reads DLOCK_GUARD_GAP and DLOCK_HOLDER too", () =>
    Effect.gen(function*() {
      const variables = { DLOCK_GUARD_GAP: "7 seconds", DLOCK_HOLDER: "blue-7" }
      const { guardGap, holder } = yield* Effect.provideService(
        Settings.fromConfig,
        ConfigProvider.ConfigProvider,
        ConfigProvider.fromUnknown(variables)
      )
      assert.strictEqual(holder, "blue-7")
      assert.strictEqual(guardGap && Duration.toMillis(guardGap), 7_000)
    }))

  it.effect("reads DLOCK_DEFAULT_TIMEOUT and DLOCK_MAX_HOLD, and limits nothing without them", () =>
    Effect.gen(function*() {
      const read = (variables: Readonly<Record<string, string>>) =>
        Effect.map(
          Effect.provideService(
            Settings.fromConfig,
            ConfigProvider.ConfigProvider,
            ConfigProvider.fromUnknown(variables)
          ),
          ({ maxHold, timeout }) => [timeout, maxHold]
        )
      assert.deepStrictEqual(yield* read({}), [Infinity, Infinity])
      const variables = { DLOCK_DEFAULT_TIMEOUT: "7 seconds", DLOCK_MAX_HOLD: "10 minutes" }
      assert.deepStrictEqual(yield* read(variables), [7_000, 600_000])
    }))

  it("a key that is a document is not repeated whole in the message", () => {
    const error = new LockNotHeld({ key: "k".repeat(5_000) })
    assert.isBelow(error.message.length, 300)
    assert.include(error.message, "(5000 characters)")
    assert.strictEqual(error.key.length, 5_000)
  })

  it.effect.each([
    { DLOCK_PREFIX: "a}" },
    { DLOCK_DEFAULT_TTL: "soon" },
    { DLOCK_DEFAULT_TTL: "1 milli" },
    { DLOCK_GUARD_GAP: "soon" },
    { DLOCK_HOLDER: "a{b" },
    { DLOCK_DEFAULT_TIMEOUT: "a while" },
    { DLOCK_MAX_HOLD: "0 seconds" }
  ])(
    "refuses %o",
    (env) =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(first(env as Readonly<Record<string, string>>))
        assert.strictEqual(error._tag, "ConfigError")
      })
  )
})

const withoutGroupBy = Effect.acquireRelease(
  Effect.sync(() => {
    const groupBy = Object.getOwnPropertyDescriptor(Map, "groupBy")!
    Reflect.deleteProperty(Map, "groupBy")
    return groupBy
  }),
  (groupBy) => Effect.sync(() => Object.defineProperty(Map, "groupBy", groupBy))
)

describe("a runtime that lacks what the library needs", () => {
  it.effect("fails the layer, and its name is in the error", () =>
    Effect.gen(function*() {
      yield* withoutGroupBy
      const error = yield* Effect.flip(Layer.build(Locker.layerWithStore(MemoryLockStore.layer)))
      assert.strictEqual(error._tag, "ConfigError")
      assert.include(error.message, "Map.groupBy")
    }))
})

const withConfig = (config: Record<string, string>) =>
  Effect.provideService(ConfigProvider.ConfigProvider, ConfigProvider.fromUnknown(config))

const secondsOfTtl = withLock("k", (lease) => Effect.succeed(Duration.toSeconds(lease.ttl)))

const seven = Layer.provide(Locker.layer({ defaultTtl: "7 seconds" }), MemoryLockStore.layer)

describe("Locker.layerDriver", () => {
  it.effect("builds the driver that DLOCK_DRIVER names, a layer or a promised one, and memory without being told", () =>
    Effect.gen(function*() {
      const drivers = Locker.layerDriver({ given: seven, promised: () => Promise.resolve(seven) })
      for (const [driver, seconds] of [["given", 7], ["promised", 7], ["memory", 12]] as const) {
        const run = secondsOfTtl.pipe(
          Effect.provide(Layer.fresh(drivers)),
          withConfig({ DLOCK_DRIVER: driver, DLOCK_DEFAULT_TTL: "12 seconds" })
        )
        assert.strictEqual(yield* run, seconds, driver)
      }
    }))

  it.effect("does not load what it was not asked for", () =>
    Effect.gen(function*() {
      const drivers = Locker.layerDriver({
        given: seven,
        never: () => {
          throw new Error("loaded")
        }
      })
      assert.strictEqual(yield* secondsOfTtl.pipe(Effect.provide(drivers), withConfig({ DLOCK_DRIVER: "given" })), 7)
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
          redis: seven,
          broken: (): Promise<typeof seven> =>
            Promise.reject(new Error("Cannot find module 'x'\nRequire stack:\n- /app/driver.js")),
          etcd: (): Promise<typeof seven> => import(missing).then((module) => module.layer)
        })
        const error = yield* Effect.flip(secondsOfTtl.pipe(Effect.provide(drivers), withConfig(config)))
        assert.strictEqual(error._tag, "ConfigError")
        assert.include(error.message, said)
        // One line, and no stack of the loading of modules.
        assert.notInclude(error.message, "\n")
        assert.notMatch(Cause.pretty(Cause.fail(error)), /\n\s+at /)
      }))
  }
})

import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, Effect } from "effect"
import * as StoreOptions from "effect-dlock/StoreOptions"
import * as Address from "../src/internal/client/address.ts"
import { notLoaded } from "../src/internal/client/ioredis/clients.ts"
import * as Options from "../src/internal/options.ts"

const within = <A, E, R>(effect: Effect.Effect<A, E, R>, variables: Record<string, string>) =>
  Effect.provideService(effect, ConfigProvider.ConfigProvider, ConfigProvider.fromUnknown(variables))

const fromEnvironment = StoreOptions.environment(Options.fields)

describe("the configuration of Redis by the environment", () => {
  it.effect("has a variable for every option", () =>
    Effect.gen(function*() {
      const variables = {
        DLOCK_CONNECT_TIMEOUT: "3 seconds",
        DLOCK_OPERATION_TIMEOUT: "500 millis",
        DLOCK_RETRY_INTERVAL: "50 millis",
        DLOCK_REDIS_KEY_PREFIX: "app:",
        DLOCK_REDIS_WAIT_REPLICAS: "2",
        DLOCK_REDIS_INTEROP: "true"
      }
      assert.deepStrictEqual(yield* within(fromEnvironment, variables), {
        connectTimeout: 3_000,
        operationTimeout: 500,
        retryInterval: 50,
        keyPrefix: "app:",
        waitReplicas: 2,
        interop: true
      })
    }))

  it.effect.each(
    [
      { DLOCK_CONNECT_TIMEOUT: "never" },
      { DLOCK_OPERATION_TIMEOUT: "1 milli" },
      { DLOCK_REDIS_KEY_PREFIX: "a}" },
      { DLOCK_REDIS_WAIT_REPLICAS: "two" },
      { DLOCK_REDIS_INTEROP: "yes" }
    ] as ReadonlyArray<Record<string, string>>
  )("is refused by its name: %j", (variables) =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(within(fromEnvironment, variables))
      assert.include(error.message, Object.keys(variables)[0]!)
    }))

  it.effect("names one place to connect to, or the error names the two that it was given", () =>
    Effect.gen(function*() {
      const variables = { DLOCK_REDIS_URL: "redis://127.0.0.1", DLOCK_REDIS_CLUSTER: "127.0.0.1:1" }
      const { message } = yield* Effect.flip(within(Address.fromEnvironment, variables))
      assert.include(message, "DLOCK_REDIS_URL and DLOCK_REDIS_CLUSTER are set")
    }))
})

describe("the URL of a socket", () => {
  it.effect.each([["redis+unix:///run/redis.sock?db=3", 3], ["unix:///run/redis.sock", 0]] as const)(
    "%s",
    ([url, db]) =>
      Effect.gen(function*() {
        const target = yield* Address.parse({ url, username: "u", password: "p" })
        assert.deepStrictEqual(target.options, { path: "/run/redis.sock", db, username: "u", password: "p" })
      })
  )

  it.effect.each(["unix://host/run", "unix:///", "unix:///run?db=x", "unix:///run?x=1"])(
    "is not %s",
    (url) => Effect.flip(Address.parse({ url }))
  )
})

describe("a client that cannot be loaded", () => {
  it("is reported as not installed only where it is not there", () => {
    const absent = Object.assign(new Error("Cannot find package 'ioredis' imported from /app/clients.js"), {
      code: "ERR_MODULE_NOT_FOUND"
    })
    assert.include(notLoaded(absent).message, "not installed")
    const bundled = new Error("Dynamic require of \"events\" is not supported")
    assert.include(notLoaded(bundled).message, "Dynamic require of \"events\" is not supported")
    assert.notInclude(notLoaded(bundled).message, "not installed")
    const other = Object.assign(new Error("Cannot find module 'denque'\nRequire stack:\n- /app/ioredis/index.js"), {
      code: "MODULE_NOT_FOUND"
    })
    assert.match(notLoaded(other).message, /Cannot find module 'denque'$/)
    assert.notInclude(notLoaded(other).message, "not installed")
  })
})

import * as StoreOptions from "effect-dlock/StoreOptions"
import type * as Config from "effect/Config"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { names } from "./names.ts"

/** How a Redis store works, as it was given. */
export interface Options extends StoreOptions.Limits {
  readonly keyPrefix?: string | undefined
  readonly retryInterval?: Duration.Input | undefined
  readonly interop?: boolean | undefined
  readonly waitReplicas?: number | undefined
}

/** The same, checked. */
export interface Settings {
  readonly keyPrefix: string
  /** Milliseconds, like all of these. */
  readonly retryInterval: number
  readonly connectTimeout: number
  readonly callLimit: number
  readonly interop: boolean
  readonly waitReplicas: number
}

export const problemOfRetryInterval = StoreOptions.durationBetween(10, 60_000)

const problemOfKeyPrefix: StoreOptions.Check = (value) =>
  typeof value === "string" && !value.includes("\0") && value.isWellFormed() && names(`${value}k`) !== undefined
    ? undefined
    : "is not a string whose braces leave a hash slot to every key"

const problemOfReplicas: StoreOptions.Check = (value) =>
  Number.isInteger(value) && (value as number) >= 0 && (value as number) <= 100
    ? undefined
    : "is not a number of replicas from 0 to 100"

const Checked = Schema.Struct({
  keyPrefix: StoreOptions.optional(problemOfKeyPrefix),
  retryInterval: StoreOptions.optional(problemOfRetryInterval),
  interop: StoreOptions.optional((value) => typeof value === "boolean" ? undefined : "is not true or false"),
  waitReplicas: StoreOptions.optional(problemOfReplicas),
  ...StoreOptions.limits
})

/** Bad options are the same typed error as bad configuration, and one that does not exist is bad. */
export const parse = (options: Options): Effect.Effect<Settings, Config.ConfigError> =>
  Effect.map(StoreOptions.check(Checked, options), () => ({
    keyPrefix: options.keyPrefix ?? "",
    retryInterval: StoreOptions.toMillis(options.retryInterval ?? 100)!,
    interop: options.interop ?? false,
    waitReplicas: options.waitReplicas ?? 0,
    ...StoreOptions.limitsOf(options)
  }))

/** The options that stand in the environment. */
export const fromEnvironment = Effect.gen(function*() {
  const { variable } = StoreOptions
  const retryInterval = yield* variable("DLOCK_RETRY_INTERVAL", problemOfRetryInterval)
  const keyPrefix = yield* variable("DLOCK_REDIS_KEY_PREFIX", problemOfKeyPrefix)
  const interop = yield* variable(
    "DLOCK_REDIS_INTEROP",
    (value) => value === "true" || value === "false" ? undefined : "is not true or false"
  )
  const waitReplicas = yield* variable(
    "DLOCK_REDIS_WAIT_REPLICAS",
    (value) => problemOfReplicas(/^\d+$/.test(String(value)) ? Number(value) : value)
  )
  return {
    ...yield* StoreOptions.limitsFromEnvironment,
    retryInterval: retryInterval as Duration.Input | undefined,
    keyPrefix,
    interop: interop === undefined ? undefined : interop === "true",
    waitReplicas: waitReplicas === undefined ? undefined : Number(waitReplicas)
  } satisfies Options
})

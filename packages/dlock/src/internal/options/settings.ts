import type * as Config from "effect/Config"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { LockerOptions } from "../../LockOptions.ts"
import * as StoreOptions from "../../StoreOptions.ts"
import * as Owner from "./owner.ts"
import * as Rules from "./rules.ts"

/** The options of a locker, after parsing. */
export interface Settings {
  readonly prefix: string
  readonly ttl: Duration.Duration
  /** Absent if each claim's own ttl decides. */
  readonly guardGap: Duration.Duration | undefined
  readonly holder: string
  /** The timeout of a call that gives none, in milliseconds. `Infinity` means no limit. */
  readonly timeout: number
  /** The same for the time for which a lock is held. */
  readonly maxHold: number
  /** After how many milliseconds a caller that still waits is logged. `Infinity` means never. */
  readonly warnAfter: number
}

/** The fields of the options, with the variables that every backend reads. A missing option is a compile error. */
export const fields = {
  prefix: StoreOptions.withDefault(StoreOptions.prefix, StoreOptions.defaultPrefix, "DLOCK_PREFIX"),
  defaultTtl: StoreOptions.withDefault(Rules.ttl, 30_000, "DLOCK_DEFAULT_TTL"),
  guardGap: StoreOptions.optional(Rules.guardGap, "DLOCK_GUARD_GAP"),
  holder: StoreOptions.optional(Rules.name, "DLOCK_HOLDER"),
  defaultTimeout: StoreOptions.withDefault(Rules.timeout, Infinity, "DLOCK_DEFAULT_TIMEOUT"),
  maxHold: StoreOptions.withDefault(Rules.maxHold, Infinity, "DLOCK_MAX_HOLD"),
  warnAfter: StoreOptions.withDefault(Rules.warnAfter, 10_000, "DLOCK_WARN_AFTER")
} satisfies StoreOptions.Fields<LockerOptions>

const settingsOf = (parsed: StoreOptions.Parsed<typeof fields>): Settings => {
  const { defaultTimeout, defaultTtl, guardGap, holder, maxHold, prefix, warnAfter, ...unused } = parsed
  // An option that is parsed but not used is a compile error.
  unused satisfies Record<string, never>
  return {
    prefix,
    ttl: Duration.millis(defaultTtl),
    guardGap: guardGap === undefined ? undefined : Duration.millis(guardGap),
    holder: holder ?? Owner.ofThisProcess(),
    timeout: defaultTimeout,
    maxHold,
    warnAfter
  }
}

/**
 * The name of a function that this runtime lacks. Without this check, the program would only fail at its first renewal.
 */
const absent = (): string | undefined =>
  Object.entries({
    "Map.groupBy": "groupBy" in Map,
    "Array.prototype.toSorted": "toSorted" in Array.prototype,
    "String.prototype.isWellFormed": "isWellFormed" in String.prototype
  }).find(([, isThere]) => !isThere)?.[0]

/** Reports a runtime that is too old with the same typed error as invalid options. */
const onRuntime = (
  parsed: Effect.Effect<StoreOptions.Parsed<typeof fields>, Config.ConfigError>
): Effect.Effect<Settings, Config.ConfigError> =>
  Effect.suspend(() => {
    const name = absent()
    return name === undefined
      ? Effect.map(parsed, settingsOf)
      : Effect.fail(StoreOptions.problem(`This runtime has no ${name}: effect-dlock needs Node.js 22.19 or newer`))
  })

export const parse = (options: LockerOptions = {}): Effect.Effect<Settings, Config.ConfigError> =>
  onRuntime(StoreOptions.parse(fields, options))

export const fromConfig: Effect.Effect<Settings, Config.ConfigError> = onRuntime(StoreOptions.environment(fields))

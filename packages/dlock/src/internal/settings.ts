import type * as Config from "effect/Config"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as StoreOptions from "../StoreOptions.ts"
import * as Holder from "./holder.ts"
import { problemOfTtl, year } from "./rules.ts"

/** What a locker goes by, once its options have been checked. */
export interface Settings {
  readonly prefix: string
  readonly ttl: Duration.Duration
  /** Absent: from each claim's own ttl. */
  readonly guardGap: Duration.Duration | undefined
  readonly holder: string
}

interface Options {
  readonly prefix?: string | undefined
  readonly defaultTtl?: Duration.Input | undefined
  readonly guardGap?: Duration.Input | undefined
  readonly holder?: string | undefined
}

const problemOfHolder = (value: unknown): string | undefined =>
  typeof value === "string" && /^[^{}\0-\x1f]{1,200}$/.test(value)
    ? undefined
    : "is not 1 to 200 characters without braces and control characters"

const problemOfGuardGap = StoreOptions.durationBetween(0, year)

const Checked = Schema.Struct({
  prefix: StoreOptions.optional(StoreOptions.problemOfPrefix),
  defaultTtl: StoreOptions.optional(problemOfTtl),
  guardGap: StoreOptions.optional(problemOfGuardGap),
  holder: StoreOptions.optional(problemOfHolder)
})

/** What an old runtime lacks, whose absence would be met no earlier than at the first renewal. */
const absent = (): string | undefined =>
  Object.entries({
    "Map.groupBy": "groupBy" in Map,
    "Array.prototype.toSorted": "toSorted" in Array.prototype,
    "String.prototype.isWellFormed": "isWellFormed" in String.prototype
  }).find(([, isThere]) => !isThere)?.[0]

/** Bad options are the same typed error as bad configuration, and so is a runtime that cannot run this. */
export const parse = (options: Options = {}): Effect.Effect<Settings, Config.ConfigError> => {
  const name = absent()
  if (name !== undefined) {
    return Effect.fail(StoreOptions.problem(`This runtime has no ${name}: dlock needs Node.js 22.19, or one as new`))
  }
  return Effect.map(StoreOptions.check(Checked, options), () => ({
    prefix: options.prefix ?? StoreOptions.defaultPrefix,
    ttl: Duration.fromInputUnsafe(options.defaultTtl ?? "30 seconds"),
    guardGap: options.guardGap === undefined ? undefined : Duration.fromInputUnsafe(options.guardGap),
    holder: options.holder ?? Holder.ofThisProcess()
  }))
}

/** The variables that every backend reads. An absent one leaves the default. */
export const fromConfig: Effect.Effect<Settings, Config.ConfigError> = Effect.flatMap(
  Effect.all({
    prefix: StoreOptions.variable("DLOCK_PREFIX", StoreOptions.problemOfPrefix),
    defaultTtl: StoreOptions.variable("DLOCK_DEFAULT_TTL", problemOfTtl),
    guardGap: StoreOptions.variable("DLOCK_GUARD_GAP", problemOfGuardGap),
    holder: StoreOptions.variable("DLOCK_HOLDER", problemOfHolder)
  }),
  ({ defaultTtl, guardGap, holder, prefix }) =>
    parse({
      prefix,
      defaultTtl: defaultTtl as Duration.Input | undefined,
      guardGap: guardGap as Duration.Input | undefined,
      holder
    })
)

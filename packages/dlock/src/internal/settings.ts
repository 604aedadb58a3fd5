import * as Config from "effect/Config"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Holder from "./holder.ts"
import { problemOfPrefix, problemOfTtl, toMillis } from "./request.ts"

/** What a locker goes by, once its options have been checked. */
export interface Settings {
  readonly prefix: string
  readonly ttl: Duration.Duration
  /** Absent: from each claim's own ttl. */
  readonly guardGap: Duration.Duration | undefined
  readonly holder: string
}

/** A value of another kind, or one that a check finds wrong: `undefined` where all is well. */
const checked = (problem: (value: unknown) => string | undefined) =>
  Schema.Unknown.check(Schema.makeFilter((value: unknown) => problem(value) ?? true))

const problemOfDuration = (value: unknown): string | undefined => {
  const millis = toMillis(value)
  if (millis === undefined) return "is not a duration"
  return millis >= 0 && Number.isFinite(millis) ? undefined : "is negative or infinite"
}

const Options = Schema.Struct({
  prefix: Schema.optional(checked(problemOfPrefix)),
  defaultTtl: Schema.optional(checked(problemOfTtl)),
  guardGap: Schema.optional(checked(problemOfDuration)),
  holder: Schema.optional(checked((value) =>
    typeof value === "string" && /^[^{}\0-\x1f]{1,200}$/.test(value)
      ? undefined
      : "is not 1 to 200 characters without braces and control characters"
  ))
})

/** Bad options are the same typed error as bad configuration, and one that does not exist is bad. */
export const parse = (options: object = {}): Effect.Effect<Settings, Config.ConfigError> =>
  Schema.decodeUnknownEffect(Options)(options, { onExcessProperty: "error", errors: "all" }).pipe(
    Effect.mapError((error) => new Config.ConfigError(error)),
    Effect.map((options) => ({
      prefix: options.prefix as string | undefined ?? "dlock:",
      ttl: Duration.millis(toMillis(options.defaultTtl ?? "30 seconds")!),
      guardGap: options.guardGap === undefined ? undefined : Duration.millis(toMillis(options.guardGap)!),
      holder: options.holder as string | undefined ?? Holder.ofThisProcess()
    }))
  )

/** The keys of Effect's `Config` that every backend reads. An absent one leaves the default. */
export const fromConfig: Effect.Effect<Settings, Config.ConfigError> = Config.all({
  prefix: Config.option(Config.String("DLOCK_PREFIX")),
  defaultTtl: Config.option(Config.Duration("DLOCK_DEFAULT_TTL"))
}).pipe(
  Effect.flatMap(({ defaultTtl, prefix }) =>
    parse({ prefix: Option.getOrUndefined(prefix), defaultTtl: Option.getOrUndefined(defaultTtl) })
  )
)

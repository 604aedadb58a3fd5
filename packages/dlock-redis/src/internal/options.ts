import * as Config from "effect/Config"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type { RedisOptions } from "ioredis"
import { names } from "./names.ts"

/** The options of a Redis store, as they were given. */
export interface Options {
  readonly url?: string | Redacted.Redacted | undefined
  readonly keyPrefix?: string | undefined
  readonly retryInterval?: Duration.Input | undefined
  readonly connectTimeout?: Duration.Input | undefined
  readonly operationTimeout?: Duration.Input | undefined
}

/** The same, checked. */
export interface Settings {
  readonly keyPrefix: string
  readonly retryInterval: number
  readonly connectTimeout: number
  readonly callLimit: number
}

// A message of ours rather than the schema's own, which would quote the value: it may be an address with a password.
const checked = (problem: (value: unknown) => string | undefined) =>
  Schema.Unknown.check(Schema.makeFilter((value: unknown) => problem(value) ?? true))

const duration = (least: number, most: number) =>
  Schema.optional(checked((value) => {
    const millis = Option.map(Duration.fromInput(value as Duration.Input), Duration.toMillis)
    return Option.isSome(millis) && millis.value >= least && millis.value <= most
      ? undefined
      : `is not a duration from ${least} milliseconds to ${most / 1_000} seconds`
  }))

const Checked = Schema.Struct({
  keyPrefix: Schema.optional(
    checked((value) =>
      typeof value === "string" && !value.includes("\0") && value.isWellFormed() && names(`${value}k`) !== undefined
        ? undefined
        : "is not a string whose braces leave a hash slot to every key"
    )
  ),
  retryInterval: duration(10, 60_000),
  connectTimeout: duration(100, 300_000),
  operationTimeout: duration(50, 60_000)
})

const millis = (input: unknown, otherwise: number): number =>
  input === undefined ? otherwise : Duration.toMillis(Duration.fromInputUnsafe(input as Duration.Input))

/** Bad options are the same typed error as bad configuration, and one that does not exist is bad. */
export const parse = (options: Omit<Options, "url">): Effect.Effect<Settings, Config.ConfigError> =>
  Schema.decodeUnknownEffect(Checked)(options, { onExcessProperty: "error", errors: "all" }).pipe(
    Effect.mapError((error) => new Config.ConfigError(error)),
    Effect.map((options) => ({
      keyPrefix: options.keyPrefix as string | undefined ?? "",
      retryInterval: millis(options.retryInterval, 100),
      connectTimeout: millis(options.connectTimeout, 5_000),
      callLimit: millis(options.operationTimeout, 2_000)
    }))
  )

/** `redis://user:password@host:port/db`, or `rediss:` for TLS. What is wrong with it is said without repeating it. */
export const parseUrl = (url: unknown): Effect.Effect<RedisOptions, Config.ConfigError> => {
  const text = Redacted.isRedacted(url) ? Redacted.value(url) : url
  const target = typeof text === "string" ? targetOf(text) : undefined
  if (target !== undefined) return Effect.succeed(target)
  const problem = "is not an address like redis://user:password@host:6379/0 (rediss: for TLS)"
  return Schema.decodeUnknownEffect(Schema.Struct({ url: checked(() => problem) }))({ url: "" }).pipe(
    Effect.mapError((error) => new Config.ConfigError(error)),
    Effect.andThen(Effect.never)
  )
}

const targetOf = (text: string): RedisOptions | undefined => {
  if (!URL.canParse(text)) return undefined
  const url = new URL(text)
  if (url.protocol !== "redis:" && url.protocol !== "rediss:") return undefined
  const db = url.pathname.slice(1)
  if (url.hostname === "" || !/^\d{0,4}$/.test(db) || url.search !== "") return undefined
  try {
    return {
      host: url.hostname.replace(/^\[(.*)\]$/, "$1"),
      port: url.port === "" ? 6379 : Number(url.port),
      db: Number(db),
      ...(url.username !== "" && { username: decodeURIComponent(url.username) }),
      ...(url.password !== "" && { password: decodeURIComponent(url.password) }),
      ...(url.protocol === "rediss:" && { tls: {} })
    }
  } catch {
    return undefined
  }
}

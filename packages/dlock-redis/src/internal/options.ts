import * as StoreOptions from "effect-dlock/StoreOptions"
import type * as Config from "effect/Config"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type { Redis, RedisOptions } from "ioredis"
import { names } from "./names.ts"

/** The options of a Redis store, as they were given. */
export interface Options extends StoreOptions.Limits {
  readonly url?: string | Redacted.Redacted | undefined
  readonly keyPrefix?: string | undefined
  readonly retryInterval?: Duration.Input | undefined
}

/** The same, checked. */
export interface Settings {
  readonly keyPrefix: string
  readonly retryInterval: number
  readonly connectTimeout: number
  readonly callLimit: number
}

export const problemOfRetryInterval = StoreOptions.durationBetween(10, 60_000)

const Checked = Schema.Struct({
  keyPrefix: StoreOptions.optional((value) =>
    typeof value === "string" && !value.includes("\0") && value.isWellFormed() && names(`${value}k`) !== undefined
      ? undefined
      : "is not a string whose braces leave a hash slot to every key"
  ),
  retryInterval: StoreOptions.optional(problemOfRetryInterval),
  ...StoreOptions.limits
})

/** Bad options are the same typed error as bad configuration, and one that does not exist is bad. */
export const parse = (options: Omit<Options, "url">): Effect.Effect<Settings, Config.ConfigError> =>
  Effect.map(StoreOptions.check(Checked, options), () => ({
    keyPrefix: options.keyPrefix ?? "",
    retryInterval: StoreOptions.toMillis(options.retryInterval ?? 100)!,
    ...StoreOptions.limitsOf(options)
  }))

export const problemOfUrl: StoreOptions.Check = (url) =>
  targetOf(revealed(url)) === undefined
    ? "is not an address like redis://user:password@host:6379/0 (rediss: for TLS)"
    : undefined

/** `redis://user:password@host:port/db`, or `rediss:` for TLS. */
export const parseUrl = (url: unknown): Effect.Effect<RedisOptions, Config.ConfigError> =>
  Effect.map(
    StoreOptions.check(Schema.Struct({ url: StoreOptions.required(problemOfUrl) }), { url }),
    () => targetOf(revealed(url))!
  )

/**
 * The options of a client of one node. Behind sentinels, an old primary that was cut off would go on to confirm
 * renewals; that and a cluster take more than these options, and are refused rather than half served.
 */
export const oneNode = (client: Redis): Effect.Effect<RedisOptions, Config.ConfigError> => {
  const { options } = client
  return client.isCluster || options.sentinels != null || options.Connector != null
    ? Effect.fail(StoreOptions.problem("The client is one of Sentinel or Cluster, which this layer does not serve yet"))
    : Effect.succeed(options)
}

const revealed = (url: unknown): unknown => Redacted.isRedacted(url) ? Redacted.value(url) : url

const targetOf = (text: unknown): RedisOptions | undefined => {
  if (typeof text !== "string" || !URL.canParse(text)) return undefined
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

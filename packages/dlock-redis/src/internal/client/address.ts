/** The options for the address of the servers and the credentials, and their parsers. */

import * as StoreOptions from "effect-dlock/StoreOptions"
import type * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import type * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import type { Cluster, ClusterOptions, Redis, RedisOptions } from "ioredis"
import * as Fs from "node:fs/promises"
import { sanitized } from "./failure.ts"

/** A secret, or an effect that produces the secret and runs before each connection. */
export type Secret = string | Redacted.Redacted | Effect.Effect<string | Redacted.Redacted, unknown>

/**
 * The address of the servers and our credentials there. Set exactly one of `url`, `sentinels` (with `master`) and
 * `cluster`.
 */
export interface Address {
  /**
   * The address of one server: `redis://user:password@host:6379/0`, `rediss:` for TLS, or
   * `redis+unix:///run/redis.sock?db=0` for a Unix socket. For a socket, give the user and the password in their own
   * options. Use `Redacted` if the URL contains a password.
   */
  readonly url?: string | Redacted.Redacted | undefined
  /**
   * The addresses of the sentinels, such as `host:26379`, as an array or separated by commas. With
   * `rediss://host:26379`, the connections to the sentinels and to the servers use TLS.
   */
  readonly sentinels?: string | ReadonlyArray<string> | undefined
  /** The name under which the sentinels know the primary. */
  readonly master?: string | undefined
  /**
   * The addresses of some cluster nodes, such as `host:6379`, as an array or separated by commas. The client finds the
   * other nodes through them. `rediss://host:6379` uses TLS.
   */
  readonly cluster?: string | ReadonlyArray<string> | undefined
  /** The user name on the servers. It replaces the user name in `url`. */
  readonly username?: string | undefined
  /**
   * The password on the servers. It replaces the password in `url`.
   *
   * Use an effect for a password that changes. The effect runs before each connection and must finish within
   * `connectTimeout`. If it fails, it runs again before the next attempt to connect. `sentinelPassword` and `tls`
   * accept an effect in the same way.
   */
  readonly password?: Secret | undefined
  /** The user name on the sentinels, if they require one. */
  readonly sentinelUsername?: string | undefined
  /** The password on the sentinels, if they require one. It may be an effect, like `password`. */
  readonly sentinelPassword?: Secret | undefined
  /**
   * Certificates as PEM text, for addresses with `rediss:`: the certificate of your own authority, and a certificate
   * with its key that identifies this client. It may be an effect, like `password`.
   */
  readonly tls?: StoreOptions.Tls | Effect.Effect<StoreOptions.Tls, unknown> | undefined
}

/** The settings that the connection adds for a cluster. */
export type ClusterSettings = ClusterOptions & {
  readonly redisOptions: NonNullable<ClusterOptions["redisOptions"]> & { readonly replyMapping: "legacy" }
}

/**
 * The parsed address, in the form that the client takes. It contains addresses and credentials only; the connection
 * chooses how its clients behave. A `Server` has its own address, or sentinels know its address.
 */
export type Target =
  | { readonly _tag: "Server"; readonly options: RedisOptions; readonly fresh?: Fresh | undefined }
  | {
    readonly _tag: "Cluster"
    /** The options of each node. */
    readonly options: RedisOptions
    readonly fresh?: Fresh | undefined
    readonly make: (Client: typeof Cluster, settings: ClusterSettings) => Cluster
  }

/** The options that are fetched before each connection. */
export type Fresh = Effect.Effect<RedisOptions, Error>

/** Accepts a value or an effect. The value that an effect produces is checked when the effect has run. */
const orAsked =
  <A>(parser: StoreOptions.Parser<A>): StoreOptions.Parser<A | Effect.Effect<unknown, unknown>> => (value) =>
    Effect.isEffect(value) ? Result.succeed(value as Effect.Effect<unknown, unknown>) : parser(value)

const server: StoreOptions.Parser<RedisOptions & { readonly secure: boolean }> = (url) => {
  const text = StoreOptions.reveal(url)
  // The URL parser would end the password at the `#`, and read what comes before as a host and its port.
  if (typeof text === "string" && text.includes("#")) {
    return Result.fail(
      "contains a #, which must be percent-encoded as %23 (in a password / is %2F, ? is %3F and @ is %40)"
    )
  }
  const options = serverOf(text)
  return options === undefined
    ? Result.fail(
      "must be an address like redis://user:password@host:6379/0 (rediss: for TLS; in a password # / ? @ are %23 %2F %3F %40)"
    )
    : Result.succeed({ ...options, secure: String(text).startsWith("rediss:") })
}

const nodes: StoreOptions.Parser<ReadonlyArray<Node>> = (value) => {
  const parsed = StoreOptions.listOf(value).flatMap((text) => nodeOf(text) ?? [])
  if (parsed.length === 0 || parsed.length < StoreOptions.listOf(value).length) {
    return Result.fail(
      "must be one or more addresses like host:6379 (rediss://host:6379 for TLS), with user and password in options of their own"
    )
  }
  return new Set(parsed.map(({ secure }) => secure)).size === 1
    ? Result.succeed(parsed)
    : Result.fail("mixes addresses with and without TLS")
}

const certificates = StoreOptions.tls("DLOCK_REDIS", (path) => Fs.readFile(path, "utf8"))

/** The address options and their environment variables. An option that is missing here does not compile. */
export const fields = {
  url: StoreOptions.optional(server, "DLOCK_REDIS_URL"),
  sentinels: StoreOptions.optional(nodes, "DLOCK_REDIS_SENTINELS"),
  master: StoreOptions.optional(StoreOptions.text, "DLOCK_REDIS_MASTER"),
  cluster: StoreOptions.optional(nodes, "DLOCK_REDIS_CLUSTER"),
  username: StoreOptions.optional(StoreOptions.text, "DLOCK_REDIS_USERNAME"),
  password: StoreOptions.optional(orAsked(StoreOptions.text), "DLOCK_REDIS_PASSWORD"),
  sentinelUsername: StoreOptions.optional(StoreOptions.text, "DLOCK_REDIS_SENTINEL_USERNAME"),
  sentinelPassword: StoreOptions.optional(orAsked(StoreOptions.text), "DLOCK_REDIS_SENTINEL_PASSWORD"),
  tls: { ...certificates, parse: orAsked(certificates.parse) }
} satisfies StoreOptions.Fields<Address>

type Parsed = StoreOptions.Parsed<typeof fields>

/** Returns what is wrong with the combination of the options. */
const problemOf = (parsed: Parsed): string | undefined => {
  const { cluster, master, password, sentinelPassword, sentinels, sentinelUsername, tls, url, username } = parsed
  if ([url, sentinels, cluster].filter((given) => given !== undefined).length !== 1) {
    return "set exactly one of url, sentinels (with master) and cluster"
  }
  if ((sentinels === undefined) !== (master === undefined)) return "set both sentinels and master, or neither"
  if (sentinels === undefined && (sentinelUsername ?? sentinelPassword) !== undefined) {
    return "sentinelUsername and sentinelPassword need sentinels"
  }
  if (username !== undefined && password === undefined) return "username needs password"
  if (url?.username !== undefined && (url.password ?? password) === undefined) {
    return "url has a user but no password (for a password without a user, write redis://:password@host)"
  }
  if (sentinelUsername !== undefined && sentinelPassword === undefined) {
    return "sentinelUsername needs sentinelPassword"
  }
  return tls === undefined || isSecure(parsed) ? undefined : "tls needs addresses that begin with rediss:"
}

export const parse = (address: Address): Effect.Effect<Target, Config.ConfigError> =>
  Effect.map(StoreOptions.parse(fields, address, problemOf), targetOf)

/**
 * The target of a client that the program already has: its addresses, credentials, `db`, TLS and address translation.
 */
export const ofClient = (client: Redis | Cluster): { readonly target: Target; readonly keyPrefix: string } =>
  isCluster(client)
    ? {
      target: {
        _tag: "Cluster",
        options: client.options.redisOptions ?? {},
        make: (_, settings) => client.duplicate([], settings)
      },
      keyPrefix: client.options.keyPrefix ?? ""
    }
    : { target: { _tag: "Server", options: client.options }, keyPrefix: client.options.keyPrefix ?? "" }

const isCluster = (client: Redis | Cluster): client is Cluster => client.isCluster

const isSecure = ({ cluster, sentinels, url }: Parsed): boolean =>
  url?.secure === true || (sentinels ?? cluster)?.[0]?.secure === true

/** The secrets, as plain values. */
interface Secrets {
  readonly password?: string | undefined
  readonly sentinelPassword?: string | undefined
  readonly tls?: StoreOptions.Certificates | undefined
}

const secretOptions = ({ password, sentinelPassword, tls }: Secrets, behindSentinels: boolean): RedisOptions => {
  const certificates = tls && {
    ...(tls.ca !== undefined && { ca: tls.ca }),
    ...(tls.cert !== undefined && tls.key !== undefined && { cert: tls.cert, key: tls.key })
  }
  return {
    ...(certificates && { tls: certificates, ...(behindSentinels && { sentinelTLS: certificates }) }),
    ...(password !== undefined && { password }),
    ...(sentinelPassword !== undefined && { sentinelPassword })
  }
}

const secrets = {
  password: StoreOptions.optional(StoreOptions.text),
  sentinelPassword: StoreOptions.optional(StoreOptions.text),
  tls: StoreOptions.optional(StoreOptions.certificates)
} satisfies StoreOptions.Fields<Secrets>

/** Splits the secrets into those that were given as values and an effect that fetches the others. */
const secretsOf = (
  { password, sentinelPassword, tls }: Parsed
): { readonly known: Secrets; readonly asked: Effect.Effect<Secrets, Error> | undefined } => {
  const all = Object.entries({ password, sentinelPassword, tls })
  const asked = all.flatMap(([name, secret]) => Effect.isEffect(secret) ? [[name, secret] as const] : [])
  const known: Secrets = Object.fromEntries(all.filter(([, secret]) => !Effect.isEffect(secret)))
  if (asked.length === 0) return { known, asked: undefined }
  const had = Effect.all(
    asked.map(([name, secret]) =>
      Effect.map(
        Effect.mapError(secret, (error) => new Error(`The effect for ${name} failed: ${sanitized(error).message}`)),
        (value) => [name, value] as const
      )
    ),
    { concurrency: "unbounded" }
  )
  return {
    known,
    asked: Effect.flatMap(
      had,
      (values) => Effect.mapError(StoreOptions.parse(secrets, Object.fromEntries(values)), sanitized)
    )
  }
}

const targetOf = (parsed: Parsed): Target => {
  const { cluster, master, sentinels, sentinelUsername, url, username, ...rest } = parsed
  const { password: _password, sentinelPassword: _sentinelPassword, tls: _tls, ...unused } = rest
  // An option that no code reads does not compile. `secretsOf` reads the secrets.
  unused satisfies Record<string, never>
  const secure = isSecure(parsed)
  const { asked, known } = secretsOf(parsed)
  const { secure: _, ...server } = url ?? { secure }
  const options: RedisOptions = {
    ...server,
    ...(username !== undefined && { username }),
    ...secretOptions(
      { ...known, tls: secure ? known.tls ?? { ca: undefined, cert: undefined, key: undefined } : undefined },
      sentinels !== undefined
    )
  }
  const fresh = asked && Effect.map(asked, (secrets) => secretOptions(secrets, sentinels !== undefined))
  const defaultPort = sentinels === undefined ? 6379 : 26379
  const nodes = (sentinels ?? cluster ?? []).map(({ host, port }) => ({ host, port: port ?? defaultPort }))
  if (cluster !== undefined) {
    // By default the client resolves a host name and connects to the IP address, but a certificate rarely names an IP
    // address.
    const named = secure && { dnsLookup: (name, told) => told(null, name) } satisfies ClusterOptions
    return { _tag: "Cluster", options, fresh, make: (Client, settings) => new Client(nodes, { ...settings, ...named }) }
  }
  if (sentinels === undefined) return { _tag: "Server", options, fresh }
  return {
    _tag: "Server",
    options: {
      ...options,
      sentinels: nodes,
      name: master!,
      ...(secure && { enableTLSForSentinelMode: true }),
      ...(sentinelUsername !== undefined && { sentinelUsername })
    },
    fresh
  }
}

const unbracketed = (hostname: string): string => hostname.replace(/^\[(.*)\]$/, "$1")

/**
 * Parses `redis://user:password@host:port/db`, `rediss:` for TLS, or `redis+unix:///path?db=0` (also `unix:`) for a
 * socket.
 */
const serverOf = (text: unknown): RedisOptions | undefined => {
  if (typeof text !== "string" || !URL.canParse(text)) return undefined
  const url = new URL(text)
  if (url.protocol === "redis+unix:" || url.protocol === "unix:") {
    const { db = "", path } = /^(?:\?db=(?<db>\d{1,4}))?$/.test(url.search)
      ? { db: url.searchParams.get("db") ?? "", path: decodedOf(url.pathname) }
      : {}
    return url.host === "" && path !== undefined && path.length > 1 ? { path, db: Number(db) } : undefined
  }
  if (url.protocol !== "redis:" && url.protocol !== "rediss:") return undefined
  const db = url.pathname.slice(1)
  if (url.hostname === "" || !/^\d{0,4}$/.test(db) || url.search !== "") return undefined
  try {
    return {
      host: unbracketed(url.hostname),
      port: url.port === "" ? 6379 : Number(url.port),
      db: Number(db),
      ...(url.username !== "" && { username: decodeURIComponent(url.username) }),
      ...(url.password !== "" && { password: decodeURIComponent(url.password) })
    }
  } catch {
    return undefined
  }
}

const decodedOf = (text: string): string | undefined => {
  try {
    return decodeURIComponent(text)
  } catch {
    return undefined
  }
}

interface Node {
  readonly host: string
  readonly port: number | undefined
  readonly secure: boolean
}

/**
 * Parses `host`, `host:port`, or either of them behind `redis://` or `rediss://`. A list of nodes may contain no
 * secret.
 */
const nodeOf = (text: string): Node | undefined => {
  const address = text.includes("://") ? text : `redis://${text}`
  if (!/^rediss?:\/\//.test(address) || !URL.canParse(address)) return undefined
  const { hash, hostname, password, pathname, port, protocol, search, username } = new URL(address)
  if (hostname === "" || !/^\/?$/.test(pathname) || `${search}${hash}${username}${password}` !== "") return undefined
  return { host: unbracketed(hostname), port: port === "" ? undefined : Number(port), secure: protocol === "rediss:" }
}

/** The address from the environment: one of `DLOCK_REDIS_URL`, `_SENTINELS` (with `_MASTER`) and `_CLUSTER`. */
export const fromEnvironment: Effect.Effect<Target, Config.ConfigError> = Effect.gen(function*() {
  const parsed = yield* StoreOptions.environment(fields)
  const where = Object.entries({
    DLOCK_REDIS_URL: parsed.url,
    DLOCK_REDIS_SENTINELS: parsed.sentinels,
    DLOCK_REDIS_CLUSTER: parsed.cluster
  }).flatMap(([name, value]) => value === undefined ? [] : [name])
  const wrong = where.length > 1
    ? `${where.join(" and ")} are set: set only one of them`
    : where.length === 0
    ? "DLOCK_REDIS_URL is not set (for example redis://127.0.0.1:6379)"
    : parsed.sentinels !== undefined && parsed.master === undefined
    ? "DLOCK_REDIS_MASTER is not set (for example mymaster)"
    : problemOf(parsed)
  if (wrong !== undefined) return yield* Effect.fail(StoreOptions.problem(wrong))
  return targetOf(parsed)
})

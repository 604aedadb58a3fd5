/** The options that say where the servers are and how to log in, and how they are parsed. */

import * as StoreOptions from "effect-dlock/StoreOptions"
import type * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import type * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import type { Cluster, ClusterOptions, Redis, RedisOptions } from "ioredis"
import * as Fs from "node:fs/promises"
import { sanitized } from "./failure.ts"

/** A secret, or how to have it: that is asked before each connection. */
export type Secret = string | Redacted.Redacted | Effect.Effect<string | Redacted.Redacted, unknown>

/** Where the servers are and who we are to them: exactly one of `url`, `sentinels` with `master`, and `cluster`. */
export interface Address {
  /**
   * `redis://user:password@host:6379/0`, `rediss:` for TLS, or `redis+unix:///run/redis.sock?db=0` for a socket (user and
   * password go apart there). Redacted where it holds a password.
   */
  readonly url?: string | Redacted.Redacted | undefined
  /** `host:26379`, several as an array or with commas; `rediss://host:26379` for TLS, to the servers too. */
  readonly sentinels?: string | ReadonlyArray<string> | undefined
  /** The name by which the sentinels know the primary. */
  readonly master?: string | undefined
  /** Nodes to begin with, as `host:6379`, several as an array or with commas; `rediss://host:6379` for TLS. */
  readonly cluster?: string | ReadonlyArray<string> | undefined
  /** Of the servers; stand in for those of the `url`. */
  readonly username?: string | undefined
  /**
   * One that changes is an effect: it is run before each connection, within `connectTimeout`, and again for the next
   * attempt where it fails. The same for `sentinelPassword` and `tls`.
   */
  readonly password?: Secret | undefined
  /** Of the sentinels, where they ask for it. */
  readonly sentinelUsername?: string | undefined
  /** Of the sentinels, where they ask for it; may be an effect, as `password` may. */
  readonly sentinelPassword?: Secret | undefined
  /** Certificates as PEM texts, for addresses with `rediss:`: an authority of your own, a certificate and key of ours. */
  readonly tls?: StoreOptions.Tls | Effect.Effect<StoreOptions.Tls, unknown> | undefined
}

/** What the connection adds for a cluster. */
export type ClusterSettings = ClusterOptions & {
  readonly redisOptions: NonNullable<ClusterOptions["redisOptions"]> & { readonly replyMapping: "legacy" }
}

/**
 * The same, for the client. It says where and as whom: how its connections behave is the connection's to say.
 * `Server` is one that has an address, or that sentinels name.
 */
export type Target =
  | { readonly _tag: "Server"; readonly options: RedisOptions; readonly fresh?: Fresh | undefined }
  | {
    readonly _tag: "Cluster"
    /** Of each node. */
    readonly options: RedisOptions
    readonly fresh?: Fresh | undefined
    readonly make: (Client: typeof Cluster, settings: ClusterSettings) => Cluster
  }

/** Those of the options that are asked before each connection. */
export type Fresh = Effect.Effect<RedisOptions, Error>

/** What is given, or how to have it; that is looked at when it has been asked. */
const orAsked =
  <A>(parser: StoreOptions.Parser<A>): StoreOptions.Parser<A | Effect.Effect<unknown, unknown>> => (value) =>
    Effect.isEffect(value) ? Result.succeed(value as Effect.Effect<unknown, unknown>) : parser(value)

const server: StoreOptions.Parser<RedisOptions & { readonly secure: boolean }> = (url) => {
  const text = StoreOptions.reveal(url)
  // A parser takes the password up to there for a host and its port.
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

/** The options that are an address, and their variables. One that is forgotten here does not compile. */
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

/** What is wrong with them together. */
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

/** At the address of a client that the program has; with its credentials, `db`, TLS and address translation. */
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

/** What is secret, when it is known. */
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

/** Those that are given, and the way to the others. */
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
  // One that nobody takes does not compile; the secrets go through `secretsOf`.
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
    // The client would look a name up and go to the number, for which a certificate is seldom made out.
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

/** `redis://user:password@host:port/db`, `rediss:` for TLS, or `redis+unix:///path?db=0` (`unix:` too) for a socket. */
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

/** `host`, `host:port`, or the same behind `redis://` or `rediss://`: nothing secret stands in a list of nodes. */
const nodeOf = (text: string): Node | undefined => {
  const address = text.includes("://") ? text : `redis://${text}`
  if (!/^rediss?:\/\//.test(address) || !URL.canParse(address)) return undefined
  const { hash, hostname, password, pathname, port, protocol, search, username } = new URL(address)
  if (hostname === "" || !/^\/?$/.test(pathname) || `${search}${hash}${username}${password}` !== "") return undefined
  return { host: unbracketed(hostname), port: port === "" ? undefined : Number(port), secure: protocol === "rediss:" }
}

/** The address that stands in the environment: one of `DLOCK_REDIS_URL`, `_SENTINELS` with `_MASTER`, `_CLUSTER`. */
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

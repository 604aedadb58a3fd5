import * as StoreOptions from "effect-dlock/StoreOptions"
import type * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type { Cluster, ClusterOptions, Redis, RedisOptions } from "ioredis"
import * as Fs from "node:fs/promises"
import { sanitized } from "./failure.ts"

/** A secret, or how to have it: that is asked before each connection. */
export type Secret = string | Redacted.Redacted | Effect.Effect<string | Redacted.Redacted, unknown>

/** Where the servers are and who we are to them, as it was given: one server, sentinels with a name, or a cluster. */
export interface Address {
  readonly url?: string | Redacted.Redacted | undefined
  readonly sentinels?: string | ReadonlyArray<string> | undefined
  readonly master?: string | undefined
  readonly cluster?: string | ReadonlyArray<string> | undefined
  readonly username?: string | undefined
  readonly password?: Secret | undefined
  readonly sentinelUsername?: string | undefined
  readonly sentinelPassword?: Secret | undefined
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

const text = StoreOptions.optional(StoreOptions.problemOfText)

const secret = StoreOptions.optional((value) => Effect.isEffect(value) ? undefined : StoreOptions.problemOfText(value))

export const problemOfUrl: StoreOptions.Check = (url) => {
  const text = StoreOptions.reveal(url)
  // A parser takes the password up to there for a host and its port.
  if (typeof text === "string" && text.includes("#")) {
    return "has a # in it, which must be percent-encoded as %23 (in a password / is %2F, ? is %3F and @ is %40)"
  }
  return serverOf(text) === undefined
    ? "is not an address like redis://user:password@host:6379/0 (rediss: for TLS; in a password # / ? @ are %23 %2F %3F %40)"
    : undefined
}

export const problemOfNodes: StoreOptions.Check = (nodes) => {
  const parsed = StoreOptions.listOf(nodes).map(nodeOf)
  if (parsed.length === 0 || parsed.includes(undefined)) {
    return "is not one or several addresses like host:6379 (rediss://host:6379 for TLS; user and password go apart)"
  }
  return new Set(parsed.map((node) => node?.secure)).size === 1 ? undefined : "is partly with and partly without TLS"
}

/** The fields of `Address`. */
export const fields = {
  url: StoreOptions.optional(problemOfUrl),
  sentinels: StoreOptions.optional(problemOfNodes),
  master: text,
  cluster: StoreOptions.optional(problemOfNodes),
  username: text,
  password: secret,
  sentinelUsername: text,
  sentinelPassword: secret,
  tls: StoreOptions.tls
}

const Checked = Schema.Struct(fields).check(Schema.makeFilter((address) => {
  const { cluster, master, password, sentinelPassword, sentinels, sentinelUsername, tls, url, username } = address
  if ([url, sentinels, cluster].filter((given) => given !== undefined).length !== 1) {
    return "exactly one of url, sentinels (with master) and cluster says where the servers are"
  }
  if ((sentinels === undefined) !== (master === undefined)) return "sentinels and master go together"
  if (sentinels === undefined && (sentinelUsername ?? sentinelPassword) !== undefined) {
    return "sentinelUsername and sentinelPassword go with sentinels"
  }
  if (username !== undefined && password === undefined) return "username goes with password"
  const named = url === undefined ? undefined : serverOf(StoreOptions.reveal(url))
  if (named?.username !== undefined && (named.password ?? password) === undefined) {
    return "url has a user but no password (a password alone stands behind a colon: redis://:password@host)"
  }
  if (sentinelUsername !== undefined && sentinelPassword === undefined) {
    return "sentinelUsername goes with sentinelPassword"
  }
  return tls === undefined || isSecure(address) ? true : "tls goes with addresses that begin with rediss:"
}))

/** The options that are an address, and the others. */
export const split = <Given extends Address>(
  options: Given
): { readonly address: Address; readonly rest: Omit<Given, keyof Address> } => {
  const { cluster, master, password, sentinelPassword, sentinels, sentinelUsername, tls, url, username, ...rest } =
    options
  const address = { cluster, master, password, sentinelPassword, sentinels, sentinelUsername, tls, url, username }
  return { address, rest }
}

export const parse = (address: Address): Effect.Effect<Target, Config.ConfigError> =>
  // What is yet to be asked is looked at when it has been.
  Effect.map(
    StoreOptions.check(Checked, { ...address, tls: Effect.isEffect(address.tls) ? {} : address.tls }),
    () => targetOf(address)
  )

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

const isSecure = ({ cluster, sentinels, url }: { readonly [address in keyof Address]?: unknown }): boolean =>
  [StoreOptions.reveal(url), ...StoreOptions.listOf(sentinels ?? cluster)]
    .some((each) => typeof each === "string" && each.startsWith("rediss:"))

/** What is secret, when it is known. */
interface Secrets {
  readonly password?: unknown
  readonly sentinelPassword?: unknown
  readonly tls?: StoreOptions.Tls | undefined
}

const secretOptions = ({ password, sentinelPassword, tls }: Secrets, behindSentinels: boolean): RedisOptions => {
  const plain = (secret: unknown) => StoreOptions.reveal(secret) as string
  const certificates = tls && {
    ...(tls.ca !== undefined && { ca: tls.ca }),
    ...(tls.cert !== undefined && { cert: tls.cert, key: plain(tls.key) })
  }
  return {
    ...(certificates && { tls: certificates, ...(behindSentinels && { sentinelTLS: certificates }) }),
    ...(password !== undefined && { password: plain(password) }),
    ...(sentinelPassword !== undefined && { sentinelPassword: plain(sentinelPassword) })
  }
}

const Answered = Schema.Struct({ password: text, sentinelPassword: text, tls: StoreOptions.tls })

/** Those that are given, and the way to the others. */
const secretsOf = (
  { password, sentinelPassword, tls }: Address
): { readonly known: Secrets; readonly asked: Effect.Effect<Secrets, Error> | undefined } => {
  const all = Object.entries({ password, sentinelPassword, tls })
  const asked = all.filter(([, secret]) => Effect.isEffect(secret)) as Array<[string, Effect.Effect<unknown, unknown>]>
  const known = Object.fromEntries(all.filter(([, secret]) => !Effect.isEffect(secret)))
  if (asked.length === 0) return { known, asked: undefined }
  const had = Effect.all(
    asked.map(([name, secret]) =>
      Effect.map(
        Effect.mapError(secret, (error) => new Error(`${name} could not be had: ${sanitized(error).message}`)),
        (value) => [name, value] as const
      )
    ),
    { concurrency: "unbounded" }
  )
  return {
    known,
    asked: Effect.flatMap(had, (values) => {
      const secrets = Object.fromEntries(values)
      return Effect.as(Effect.mapError(StoreOptions.check(Answered, secrets), sanitized), secrets)
    })
  }
}

const targetOf = (address: Address): Target => {
  const { cluster, master, sentinels, sentinelUsername, url, username } = address
  const secure = isSecure(address)
  const { asked, known } = secretsOf(address)
  const options: RedisOptions = {
    ...(url !== undefined && serverOf(StoreOptions.reveal(url))),
    ...(username !== undefined && { username }),
    ...secretOptions({ ...known, tls: secure ? known.tls ?? {} : undefined }, sentinels !== undefined)
  }
  const fresh = asked && Effect.map(asked, (secrets) => secretOptions(secrets, sentinels !== undefined))
  const nodes = StoreOptions.listOf(sentinels ?? cluster).map((node) => {
    const { host, port } = nodeOf(node)!
    return { host, port: port ?? (sentinels === undefined ? 6379 : 26379) }
  })
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

/** `host`, `host:port`, or the same behind `redis://` or `rediss://`: nothing secret stands in a list of nodes. */
const nodeOf = (
  text: string
): { readonly host: string; readonly port: number | undefined; readonly secure: boolean } | undefined => {
  const address = text.includes("://") ? text : `redis://${text}`
  if (!/^rediss?:\/\//.test(address) || !URL.canParse(address)) return undefined
  const { hash, hostname, password, pathname, port, protocol, search, username } = new URL(address)
  if (hostname === "" || !/^\/?$/.test(pathname) || `${search}${hash}${username}${password}` !== "") return undefined
  return { host: unbracketed(hostname), port: port === "" ? undefined : Number(port), secure: protocol === "rediss:" }
}

/** The address that stands in the environment: one of `DLOCK_REDIS_URL`, `_SENTINELS` with `_MASTER`, `_CLUSTER`. */
export const fromEnvironment = Effect.gen(function*() {
  const plain = (name: string, check = StoreOptions.problemOfText) =>
    StoreOptions.variable(`DLOCK_REDIS_${name}`, check)
  const secret = (name: string, check?: StoreOptions.Check) =>
    Effect.map(plain(name, check), (value) => value === undefined ? undefined : Redacted.make(value))
  const address: Address = {
    url: yield* secret("URL", problemOfUrl),
    sentinels: yield* plain("SENTINELS", problemOfNodes),
    master: yield* plain("MASTER"),
    cluster: yield* plain("CLUSTER", problemOfNodes),
    username: yield* plain("USERNAME"),
    password: yield* secret("PASSWORD"),
    sentinelUsername: yield* plain("SENTINEL_USERNAME"),
    sentinelPassword: yield* secret("SENTINEL_PASSWORD"),
    tls: yield* StoreOptions.tlsFromPaths("DLOCK_REDIS", (path) => Fs.readFile(path, "utf8"))
  }
  if (address.sentinels !== undefined && address.master === undefined) {
    yield* StoreOptions.requiredVariable("DLOCK_REDIS_MASTER", "mymaster")
  }
  const where = Object.entries({
    DLOCK_REDIS_URL: address.url,
    DLOCK_REDIS_SENTINELS: address.sentinels,
    DLOCK_REDIS_CLUSTER: address.cluster
  }).flatMap(([name, value]) => value === undefined ? [] : [name])
  if (where.length > 1) {
    return yield* Effect.fail(
      StoreOptions.problem(`${where.join(" and ")} are set: one of them says where the servers are`)
    )
  }
  if (address.url === undefined && address.sentinels === undefined && address.cluster === undefined) {
    yield* StoreOptions.requiredVariable("DLOCK_REDIS_URL", "redis://127.0.0.1:6379")
  }
  return address
})

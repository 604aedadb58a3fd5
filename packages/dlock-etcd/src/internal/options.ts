import * as StoreOptions from "effect-dlock/StoreOptions"
import type * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type { IOptions } from "etcd3"

/** The options of an etcd store, as they were given. */
export interface Options extends StoreOptions.Limits {
  readonly hosts: string | ReadonlyArray<string>
  readonly username?: string | undefined
  readonly password?: string | Redacted.Redacted | undefined
  readonly tls?: Tls | undefined
}

/** Certificates as PEM text. */
export interface Tls {
  readonly ca: string
  readonly cert?: string | undefined
  readonly key?: string | Redacted.Redacted | undefined
}

export interface Limits {
  readonly connectTimeout: number
  readonly callLimit: number
}

export interface Settings extends Limits {
  readonly target: IOptions
}

const reveal = (value: unknown): unknown => Redacted.isRedacted(value) ? Redacted.value(value) : value

const problemOfText: StoreOptions.Check = (value) => {
  const plain = reveal(value)
  return typeof plain === "string" && plain !== "" ? undefined : "is not a text"
}
const text = StoreOptions.optional(problemOfText)

const hostsOf = (value: unknown): ReadonlyArray<string> =>
  (typeof value === "string" ? value.split(",") : Array.isArray(value) ? value : [])
    .map((host: unknown) => typeof host === "string" ? host.trim() : "")

export const problemOfHosts: StoreOptions.Check = (value) => {
  const hosts = hostsOf(value)
  if (hosts.length === 0 || !hosts.every(isHost)) return "is not one or several addresses like http://127.0.0.1:2379"
  return new Set(hosts.map((host) => host.startsWith("https:"))).size === 1
    ? undefined
    : "is partly with and partly without TLS"
}

const Checked = Schema.Struct({
  hosts: StoreOptions.required(problemOfHosts),
  username: text,
  password: text,
  tls: Schema.optional(Schema.Struct({ ca: StoreOptions.required(problemOfText), cert: text, key: text })),
  ...StoreOptions.limits
}).check(Schema.makeFilter(({ hosts, password, tls, username }) => {
  if ((username === undefined) !== (password === undefined)) return "username and password go together"
  if (tls === undefined) return true
  if ((tls.cert === undefined) !== (tls.key === undefined)) return "tls.cert and tls.key go together"
  return hostsOf(hosts).every((host) => host.startsWith("https:")) ? true : "tls goes with hosts that begin with https:"
}))

const isHost = (host: string): boolean => {
  if (!/^https?:\/\//.test(host) || !URL.canParse(host)) return false
  const { hash, password, pathname, search, username } = new URL(host)
  return pathname === "/" && `${search}${hash}${username}${password}` === ""
}

/** Bad options are the same typed error as bad configuration, and one that does not exist is bad. */
export const parse = (options: Options): Effect.Effect<Settings, Config.ConfigError> =>
  Effect.map(StoreOptions.check(Checked, options), () => {
    const { hosts, password, tls, username } = options
    return {
      target: {
        hosts: [...hostsOf(hosts)],
        ...(username !== undefined && { auth: { username, password: reveal(password) as string } }),
        ...(tls !== undefined && {
          credentials: {
            rootCertificate: Buffer.from(tls.ca),
            ...(tls.key !== undefined && { privateKey: Buffer.from(reveal(tls.key) as string) }),
            ...(tls.cert !== undefined && { certChain: Buffer.from(tls.cert) })
          }
        })
      },
      ...StoreOptions.limitsOf(options)
    }
  })

export const parseLimits = (options: StoreOptions.Limits): Effect.Effect<Limits, Config.ConfigError> =>
  Effect.map(
    StoreOptions.check(Schema.Struct(StoreOptions.limits), options),
    () => StoreOptions.limitsOf(options)
  )

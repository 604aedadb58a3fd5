import * as StoreOptions from "effect-dlock/StoreOptions"
import type * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import type * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type { IOptions } from "etcd3"

/** The options of an etcd store, as they were given. */
export interface Options extends StoreOptions.Limits {
  readonly hosts: string | ReadonlyArray<string>
  readonly username?: string | undefined
  readonly password?: string | Redacted.Redacted | undefined
  readonly tls?: StoreOptions.Tls | undefined
}

export interface Limits {
  readonly connectTimeout: number
  readonly callLimit: number
}

export interface Settings extends Limits {
  readonly target: IOptions
}

const text = StoreOptions.optional(StoreOptions.problemOfText)

export const problemOfHosts: StoreOptions.Check = (value) => {
  const hosts = StoreOptions.listOf(value)
  if (hosts.length === 0 || !hosts.every(isHost)) return "is not one or several addresses like http://127.0.0.1:2379"
  const portless = hosts.find((host) => !hasPort(host))
  if (portless !== undefined) return `names no port for ${portless}: an etcd listens on 2379 unless told otherwise`
  return new Set(hosts.map((host) => host.startsWith("https:"))).size === 1
    ? undefined
    : "is partly with and partly without TLS"
}

const Checked = Schema.Struct({
  hosts: StoreOptions.required(problemOfHosts),
  username: text,
  password: text,
  tls: StoreOptions.tls,
  ...StoreOptions.limits
}).check(Schema.makeFilter(({ hosts, password, tls, username }) => {
  if ((username === undefined) !== (password === undefined)) return "username and password go together"
  if (tls === undefined) return true
  if (tls.ca === undefined) return "tls needs ca (DLOCK_ETCD_CA)"
  return StoreOptions.listOf(hosts).every((host) => host.startsWith("https:"))
    ? true
    : "tls goes with hosts that begin with https:"
}))

/** As `etcdctl` takes them too: without a scheme it is one without TLS. */
const isHost = (host: string): boolean => {
  const address = /^https?:\/\//.test(host) ? host : `http://${host}`
  if (!URL.canParse(address)) return false
  const { hash, password, pathname, search, username } = new URL(address)
  return pathname === "/" && `${search}${hash}${username}${password}` === ""
}

const hasPort = (host: string): boolean => /:\d+\/?$/.test(host)

/** Bad options are the same typed error as bad configuration, and one that does not exist is bad. */
export const parse = (options: Options): Effect.Effect<Settings, Config.ConfigError> =>
  Effect.map(StoreOptions.check(Checked, options), () => {
    const { hosts, password, tls, username } = options
    return {
      target: {
        hosts: StoreOptions.listOf(hosts).map((host) => host.replace(/\/$/, "")),
        ...(username !== undefined && { auth: { username, password: StoreOptions.reveal(password) as string } }),
        ...(tls !== undefined && {
          credentials: {
            rootCertificate: Buffer.from(tls.ca!),
            ...(tls.key !== undefined && { privateKey: Buffer.from(StoreOptions.reveal(tls.key) as string) }),
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

/** The options of an etcd store and their parsers. */

import * as StoreOptions from "effect-dlock/StoreOptions"
import type * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import type * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import type { IOptions } from "etcd3"
import * as Fs from "node:fs/promises"

/** The options of an etcd store, as a program gives them. */
export interface Options extends StoreOptions.Limits {
  /**
   * The addresses of the cluster's members, each with a port, for example `http://127.0.0.1:2379`. Give several addresses as an
   * array or separated by commas. With TLS, every address begins with `https:`.
   */
  readonly hosts: string | ReadonlyArray<string>
  /** The user name, for a cluster with authentication. It needs `password` too. */
  readonly username?: string | undefined
  /** The password of `username`. */
  readonly password?: string | Redacted.Redacted | undefined
  /**
   * The PEM texts for TLS: `ca` is the certificate authority of the servers, `cert` and `key` are this client's certificate and
   * key.
   */
  readonly tls?: StoreOptions.Tls & { readonly ca: string } | undefined
}

/** The parsed time limits, in milliseconds. */
export type Limits = StoreOptions.Parsed<typeof StoreOptions.limits>

/** The parsed options. */
export interface Settings extends Limits {
  /** The hosts, credentials and certificates, as the etcd3 client takes them. */
  readonly target: IOptions
}

const hosts: StoreOptions.Parser<ReadonlyArray<string>> = (value) => {
  const hosts = StoreOptions.listOf(value)
  if (hosts.length === 0 || !hosts.every(isHost)) {
    return Result.fail("must be one or more addresses like http://127.0.0.1:2379")
  }
  const portless = hosts.find((host) => !hasPort(host))
  if (portless !== undefined) {
    return Result.fail(`needs a port for ${portless}: etcd listens on 2379 by default`)
  }
  return new Set(hosts.map((host) => host.startsWith("https:"))).size === 1
    ? Result.succeed(hosts.map((host) => host.replace(/\/$/, "")))
    : Result.fail("mixes addresses with and without TLS")
}

/** The parser and the environment variable of each option. An option without a field here does not compile. */
export const fields = {
  hosts: StoreOptions.required(hosts, "DLOCK_ETCD_HOSTS", "http://127.0.0.1:2379"),
  username: StoreOptions.optional(StoreOptions.text, "DLOCK_ETCD_USERNAME"),
  password: StoreOptions.optional(StoreOptions.text, "DLOCK_ETCD_PASSWORD"),
  tls: StoreOptions.tls("DLOCK_ETCD", (path) => Fs.readFile(path, "utf8")),
  ...StoreOptions.limits
} satisfies StoreOptions.Fields<Options>

type Parsed = StoreOptions.Parsed<typeof fields>

/** Returns what is wrong with a combination of options, or `undefined`. */
const problemOf = ({ hosts, password, tls, username }: Parsed): string | undefined => {
  if ((username === undefined) !== (password === undefined)) return "set both username and password, or neither"
  if (tls === undefined) return undefined
  if (tls.ca === undefined) return "tls needs ca (DLOCK_ETCD_CA)"
  return hosts.every((host) => host.startsWith("https:"))
    ? undefined
    : "tls needs hosts that begin with https:"
}

/** Whether the text is an address. An address without a scheme has no TLS, as for `etcdctl`. */
const isHost = (host: string): boolean => {
  const address = /^https?:\/\//.test(host) ? host : `http://${host}`
  if (!URL.canParse(address)) return false
  const { hash, password, pathname, search, username } = new URL(address)
  return pathname === "/" && `${search}${hash}${username}${password}` === ""
}

const hasPort = (host: string): boolean => /:\d+\/?$/.test(host)

const settingsOf = (parsed: Parsed): Settings => {
  const { connectTimeout, hosts, operationTimeout, password, tls, username, ...unused } = parsed
  // An option that is not used below does not compile.
  unused satisfies Record<string, never>
  return {
    target: {
      // The client's type wants a mutable array.
      hosts: Array.from(hosts),
      ...(username !== undefined && password !== undefined && { auth: { username, password } }),
      ...(tls?.ca !== undefined && {
        credentials: {
          rootCertificate: Buffer.from(tls.ca),
          ...(tls.key !== undefined && { privateKey: Buffer.from(tls.key) }),
          ...(tls.cert !== undefined && { certChain: Buffer.from(tls.cert) })
        }
      })
    },
    connectTimeout,
    operationTimeout
  }
}

/** Parses options. A wrong or unknown option fails with the same typed error as wrong configuration. */
export const parse = (options: Options): Effect.Effect<Settings, Config.ConfigError> =>
  Effect.map(StoreOptions.parse(fields, options, problemOf), settingsOf)

/** Reads the options from the environment. */
export const fromEnvironment: Effect.Effect<Settings, Config.ConfigError> = Effect.map(
  StoreOptions.environment(fields, problemOf),
  settingsOf
)

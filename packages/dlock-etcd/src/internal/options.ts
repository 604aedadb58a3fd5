/** The options of an etcd store: what each is, and how it is read. */

import * as StoreOptions from "effect-dlock/StoreOptions"
import type * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import type * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import type { IOptions } from "etcd3"
import * as Fs from "node:fs/promises"

/** The options of an etcd store, as they were given. */
export interface Options extends StoreOptions.Limits {
  /** `http://127.0.0.1:2379`, several as an array or with commas; `https:` for TLS, the same for all. */
  readonly hosts: string | ReadonlyArray<string>
  /** With `password`, for a cluster that has authentication enabled. */
  readonly username?: string | undefined
  /** Goes with `username`. */
  readonly password?: string | Redacted.Redacted | undefined
  /** PEM texts: the authority that signed the servers' certificates, and a certificate and key of our own. */
  readonly tls?: StoreOptions.Tls & { readonly ca: string } | undefined
}

/** Milliseconds. */
export type Limits = StoreOptions.Parsed<typeof StoreOptions.limits>

export interface Settings extends Limits {
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

/** The options, and their variables. One that is forgotten here does not compile. */
export const fields = {
  hosts: StoreOptions.required(hosts, "DLOCK_ETCD_HOSTS", "http://127.0.0.1:2379"),
  username: StoreOptions.optional(StoreOptions.text, "DLOCK_ETCD_USERNAME"),
  password: StoreOptions.optional(StoreOptions.text, "DLOCK_ETCD_PASSWORD"),
  tls: StoreOptions.tls("DLOCK_ETCD", (path) => Fs.readFile(path, "utf8")),
  ...StoreOptions.limits
} satisfies StoreOptions.Fields<Options>

type Parsed = StoreOptions.Parsed<typeof fields>

/** What is wrong with them together. */
const problemOf = ({ hosts, password, tls, username }: Parsed): string | undefined => {
  if ((username === undefined) !== (password === undefined)) return "set both username and password, or neither"
  if (tls === undefined) return undefined
  if (tls.ca === undefined) return "tls needs ca (DLOCK_ETCD_CA)"
  return hosts.every((host) => host.startsWith("https:"))
    ? undefined
    : "tls needs hosts that begin with https:"
}

/** As `etcdctl` takes them too: without a scheme it is one without TLS. */
const isHost = (host: string): boolean => {
  const address = /^https?:\/\//.test(host) ? host : `http://${host}`
  if (!URL.canParse(address)) return false
  const { hash, password, pathname, search, username } = new URL(address)
  return pathname === "/" && `${search}${hash}${username}${password}` === ""
}

const hasPort = (host: string): boolean => /:\d+\/?$/.test(host)

const settingsOf = (parsed: Parsed): Settings => {
  const { connectTimeout, hosts, operationTimeout, password, tls, username, ...unused } = parsed
  // One that nobody takes does not compile.
  unused satisfies Record<string, never>
  return {
    target: {
      // The client takes no list that may not be written to.
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

/** Bad options are the same typed error as bad configuration, and one that does not exist is bad. */
export const parse = (options: Options): Effect.Effect<Settings, Config.ConfigError> =>
  Effect.map(StoreOptions.parse(fields, options, problemOf), settingsOf)

export const fromEnvironment: Effect.Effect<Settings, Config.ConfigError> = Effect.map(
  StoreOptions.environment(fields, problemOf),
  settingsOf
)

import * as Config from "effect/Config"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type { IOptions } from "etcd3"

/** The options of an etcd store, as they were given. */
export interface Options {
  readonly hosts: string | ReadonlyArray<string>
  readonly username?: string | undefined
  readonly password?: string | Redacted.Redacted | undefined
  readonly tls?: Tls | undefined
  readonly connectTimeout?: Duration.Input | undefined
  readonly operationTimeout?: Duration.Input | undefined
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

// A message of ours rather than the schema's own, which would quote the value: it may be a secret.
const checked = (problem: (value: unknown) => string | undefined) =>
  Schema.Unknown.check(Schema.makeFilter((value: unknown) => problem(value) ?? true))

const duration = (least: number, most: number) =>
  Schema.optional(checked((value) => {
    const millis = Option.map(Duration.fromInput(value as Duration.Input), Duration.toMillis)
    return Option.isSome(millis) && millis.value >= least && millis.value <= most
      ? undefined
      : `is not a duration from ${least} milliseconds to ${most / 1_000} seconds`
  }))

const reveal = (value: unknown): unknown => Redacted.isRedacted(value) ? Redacted.value(value) : value

const text = Schema.optional(checked((value) => {
  const plain = reveal(value)
  return typeof plain === "string" && plain !== "" ? undefined : "is not a text"
}))

const hostsOf = (value: unknown): ReadonlyArray<string> =>
  (typeof value === "string" ? value.split(",") : Array.isArray(value) ? value : [])
    .map((host: unknown) => typeof host === "string" ? host.trim() : "")

const limits = { connectTimeout: duration(100, 300_000), operationTimeout: duration(50, 60_000) }

const Checked = Schema.Struct({
  hosts: checked((value) => {
    const hosts = hostsOf(value)
    if (hosts.length === 0 || !hosts.every(isHost)) return "are not addresses like http://127.0.0.1:2379"
    return new Set(hosts.map((host) => host.startsWith("https:"))).size === 1
      ? undefined
      : "are partly with and partly without TLS"
  }),
  username: text,
  password: text,
  tls: Schema.optional(Schema.Struct({ ca: text, cert: text, key: text })),
  ...limits
}).check(Schema.makeFilter((options) =>
  (options.username === undefined) === (options.password === undefined)
    ? true
    : "username and password go together"
))

const isHost = (host: string): boolean => {
  if (!/^https?:\/\//.test(host) || !URL.canParse(host)) return false
  const { hash, password, pathname, search, username } = new URL(host)
  return pathname === "/" && `${search}${hash}${username}${password}` === ""
}

const millis = (input: unknown, otherwise: number): number =>
  input === undefined ? otherwise : Duration.toMillis(Duration.fromInputUnsafe(input as Duration.Input))

const decode = <S extends Schema.Constraint>(schema: S, options: unknown) =>
  Schema.decodeUnknownEffect(schema as never)(options, { onExcessProperty: "error", errors: "all" }).pipe(
    Effect.mapError((error) => new Config.ConfigError(error as Schema.SchemaError))
  )

/** Bad options are the same typed error as bad configuration, and one that does not exist is bad. */
export const parse = (options: Options): Effect.Effect<Settings, Config.ConfigError> =>
  Effect.map(decode(Checked, options), () => {
    const { connectTimeout, hosts, operationTimeout, password, tls, username } = options
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
      connectTimeout: millis(connectTimeout, 5_000),
      callLimit: millis(operationTimeout, 2_000)
    }
  })

export const parseLimits = (
  options: Pick<Options, "connectTimeout" | "operationTimeout">
): Effect.Effect<Limits, Config.ConfigError> =>
  Effect.map(decode(Schema.Struct(limits), options), () => ({
    connectTimeout: millis(options.connectTimeout, 5_000),
    callLimit: millis(options.operationTimeout, 2_000)
  }))

/**
 * For the packages of backends: options and environment variables that are checked alike everywhere. What is wrong is
 * always a `ConfigError`, which names the option or the variable and never repeats its value: it may be a secret.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Names from "./internal/names.ts"

/**
 * Says what is wrong with a value, in words that follow its name ("is not a duration"); `undefined` where nothing is.
 *
 * @category models
 * @since 0.1.0
 */
export type Check = (value: unknown) => string | undefined

/**
 * A `ConfigError` in words of ours.
 *
 * @category constructors
 * @since 0.1.0
 */
export const problem = (message: string, cause?: unknown): Config.ConfigError =>
  new Config.ConfigError(new ConfigProvider.SourceError({ message, ...(cause !== undefined && { cause }) }))

/**
 * A field of options that must be there.
 *
 * @category schemas
 * @since 0.1.0
 */
export const required = (check: Check) =>
  Schema.Unknown.check(Schema.makeFilter((value: unknown) => check(value) ?? true))

/**
 * A field of options that may be absent or `undefined`.
 *
 * @category schemas
 * @since 0.1.0
 */
export const optional = (check: Check) => Schema.optional(required(check))

/**
 * Milliseconds of what `Duration` takes; `undefined` for anything else.
 *
 * @category durations
 * @since 0.1.0
 */
export const toMillis = (input: unknown): number | undefined => {
  if (typeof input === "number" && Number.isNaN(input)) return undefined
  const duration = Duration.fromInput(input as Duration.Input)
  if (Option.isNone(duration)) return undefined
  const millis = Duration.toMillis(duration.value)
  return Number.isNaN(millis) ? undefined : millis
}

/**
 * Checks a duration between two numbers of milliseconds.
 *
 * @category durations
 * @since 0.1.0
 */
export const durationBetween = (least: number, most: number): Check => (value) => {
  const millis = toMillis(value)
  if (millis === undefined) return "is not a duration such as \"30 seconds\""
  return millis >= least && millis <= most ? undefined : `is not between ${least} and ${most} milliseconds`
}

/**
 * Checks options against a schema of such fields. One that is not in the schema is refused: it would do nothing.
 *
 * @category decoding
 * @since 0.1.0
 */
export const check = (
  schema: Schema.Constraint,
  options: object
): Effect.Effect<void, Config.ConfigError> =>
  Schema.decodeUnknownEffect(schema as Schema.Codec<unknown>)(options, {
    onExcessProperty: "error",
    errors: "all"
  }).pipe(
    Effect.mapError((error) => new Config.ConfigError(error)),
    Effect.asVoid
  )

/**
 * An environment variable (through Effect's `Config`), checked; `undefined` where it is not set.
 *
 * @category environment
 * @since 0.1.0
 */
export const variable = (name: string, check: Check = () => undefined): Effect.Effect<
  string | undefined,
  Config.ConfigError
> =>
  Effect.flatMap(Config.option(Config.String(name)), (value) => {
    if (Option.isNone(value)) return Effect.undefined
    const wrong = check(value.value)
    return wrong === undefined ? Effect.succeed(value.value) : Effect.fail(problem(`${name} ${wrong}`))
  })

/**
 * The same for one that must be set; the example says to what.
 *
 * @category environment
 * @since 0.1.0
 */
export const requiredVariable = (
  name: string,
  example: string,
  check?: Check
): Effect.Effect<string, Config.ConfigError> =>
  Effect.flatMap(variable(name, check), (value) =>
    value === undefined || value === ""
      ? Effect.fail(problem(`${name} is not set: it would be something like ${example}`))
      : Effect.succeed(value))

/**
 * How long a backend that is reached over a network may take.
 *
 * @category limits
 * @since 0.1.0
 */
export interface Limits {
  /** How long the layer waits for the server. 5 seconds unless given. */
  readonly connectTimeout?: Duration.Input | undefined
  /**
   * The longest that one request may take; never more than a third of the `ttl`. 2 seconds unless given; give less where
   * connections die without a word, such as behind NAT.
   */
  readonly operationTimeout?: Duration.Input | undefined
}

const problemOfConnectTimeout = durationBetween(100, 300_000)
const problemOfOperationTimeout = durationBetween(50, 60_000)

/**
 * The fields of `Limits`.
 *
 * @category limits
 * @since 0.1.0
 */
export const limits = {
  connectTimeout: optional(problemOfConnectTimeout),
  operationTimeout: optional(problemOfOperationTimeout)
}

/**
 * The `Limits` that stand in the environment, as `DLOCK_CONNECT_TIMEOUT` and `DLOCK_OPERATION_TIMEOUT`.
 *
 * @category environment
 * @since 0.1.0
 */
export const limitsFromEnvironment: Effect.Effect<Limits, Config.ConfigError> = Effect.all({
  connectTimeout: variable("DLOCK_CONNECT_TIMEOUT", problemOfConnectTimeout),
  operationTimeout: variable("DLOCK_OPERATION_TIMEOUT", problemOfOperationTimeout)
}) as Effect.Effect<Limits, Config.ConfigError>

/**
 * Limits that have been checked, in milliseconds.
 *
 * @category limits
 * @since 0.1.0
 */
export const limitsOf = (options: Limits): { readonly connectTimeout: number; readonly callLimit: number } => ({
  connectTimeout: toMillis(options.connectTimeout ?? 5_000)!,
  callLimit: toMillis(options.operationTimeout ?? 2_000)!
})

/**
 * What stands before every key of a locker that is given no other prefix.
 *
 * @category keys
 * @since 0.1.0
 */
export const defaultPrefix = "dlock:"

/**
 * Checks a prefix as every locker does.
 *
 * @category keys
 * @since 0.1.0
 */
export const problemOfPrefix: Check = Names.problemOfPrefix

/**
 * What a value is inside `Redacted`, or the value itself.
 *
 * @category secrets
 * @since 0.1.0
 */
export const reveal = (value: unknown): unknown => Redacted.isRedacted(value) ? Redacted.value(value) : value

/**
 * Checks a text that is not empty, plain or redacted.
 *
 * @category secrets
 * @since 0.1.0
 */
export const problemOfText: Check = (value) => {
  const plain = reveal(value)
  return typeof plain === "string" && plain !== "" ? undefined : "is not a text"
}

/**
 * The parts of a list that is an array or a text with commas; empty for anything else.
 *
 * @category decoding
 * @since 0.1.0
 */
export const listOf = (value: unknown): ReadonlyArray<string> =>
  (typeof value === "string" ? value.split(",") : Array.isArray(value) ? value : [])
    .map((part: unknown) => typeof part === "string" ? part.trim() : "")

/**
 * Certificates as PEM texts: the authority that signed the servers', and a certificate and key of our own.
 *
 * @category tls
 * @since 0.1.0
 */
export interface Tls {
  readonly ca?: string | undefined
  readonly cert?: string | undefined
  readonly key?: string | Redacted.Redacted | undefined
}

/**
 * The field for `Tls`.
 *
 * @category tls
 * @since 0.1.0
 */
export const tls = Schema.optional(
  Schema.Struct({ ca: optional(problemOfText), cert: optional(problemOfText), key: optional(problemOfText) }).check(
    Schema.makeFilter(({ cert, key }) => (cert === undefined) === (key === undefined) || "cert and key go together")
  )
)

/**
 * The certificates whose paths stand in the environment under a prefix (`DLOCK_ETCD` reads `DLOCK_ETCD_CA`, `_CERT` and
 * `_KEY`); `undefined` where none does. It takes the way to read a file, since this package knows no platform.
 *
 * @category tls
 * @since 0.1.0
 */
export const tlsFromPaths = (
  prefix: string,
  readFile: (path: string) => Promise<string>
): Effect.Effect<Tls | undefined, Config.ConfigError> => {
  const read = (name: string) =>
    Effect.flatMap(variable(name), (path) =>
      path === undefined
        ? Effect.undefined
        : Effect.tryPromise({
          try: () => readFile(path),
          catch: (cause) => problem(`${name} names a file that cannot be read`, cause)
        }))
  return Effect.flatMap(
    Effect.all([read(`${prefix}_CA`), read(`${prefix}_CERT`), read(`${prefix}_KEY`)]),
    ([ca, cert, key]) => {
      if ((cert === undefined) !== (key === undefined)) {
        return Effect.fail(problem(`${prefix}_CERT and ${prefix}_KEY go together`))
      }
      if (ca === undefined && key === undefined) return Effect.undefined
      return Effect.succeed({ ca, cert, key: key === undefined ? undefined : Redacted.make(key) })
    }
  )
}

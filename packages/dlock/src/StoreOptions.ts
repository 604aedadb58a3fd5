/**
 * Reads the options of a store, and their environment variables, in the same way for every backend.
 *
 * **When to use**
 *
 * Use in a backend's package for the options of its layers.
 *
 * **Details**
 *
 * Each option is declared once, as a field: how it is parsed, its default, and its environment variable.
 *
 * An invalid option is a `ConfigError`. The error names the option or the variable, but never repeats the value,
 * because the value may be a secret.
 *
 * **Example** (Declare the options of a store)
 *
 * ```ts
 * import type { Duration } from "effect"
 * import * as StoreOptions from "effect-dlock/StoreOptions"
 *
 * interface MyOptions extends StoreOptions.Limits {
 *   readonly address: string
 *   readonly patience?: Duration.Input | undefined
 * }
 *
 * // A missing field is a compile error.
 * const fields = {
 *   address: StoreOptions.required(StoreOptions.text, "MY_ADDRESS", "my://127.0.0.1"),
 *   patience: StoreOptions.withDefault(StoreOptions.duration(100, 60_000), 1_000, "MY_PATIENCE"),
 *   ...StoreOptions.limits
 * } satisfies StoreOptions.Fields<MyOptions>
 *
 * export const fromOptions = (options: MyOptions) => StoreOptions.parse(fields, options)
 * export const fromEnvironment = StoreOptions.environment(fields)
 * ```
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import type { Examination } from "./Diagnosis.ts"
import * as Names from "./internal/options/keys.ts"

/**
 * Reads a value, or says what is wrong with it in words that follow the option's name: `must be true or false`.
 *
 * @category models
 * @since 0.1.0
 */
export type Parser<A> = (value: unknown) => Result.Result<A, string>

/**
 * One option: how to read it from a record of options, and from the environment.
 *
 * @category models
 * @since 0.1.0
 */
export interface Field<A> {
  /** Reads the value from a record of options. The value is `undefined` if the option is not given. */
  readonly parse: Parser<A>
  /** Reads the value from its environment variables. */
  readonly environment: Effect.Effect<A, Config.ConfigError>
  /** The names of those environment variables. */
  readonly variables: ReadonlyArray<string>
}

/**
 * One field for each option of `Options`. A missing field is a compile error.
 *
 * @category models
 * @since 0.1.0
 */
export type Fields<Options> = { readonly [Name in keyof Options]-?: Field<unknown> }

/**
 * The values that fields read.
 *
 * @category models
 * @since 0.1.0
 */
export type Parsed<Fields> = {
  readonly [Name in keyof Fields]: Fields[Name] extends Field<infer A> ? A : never
}

/**
 * Makes a `ConfigError` with the given message.
 *
 * @category constructors
 * @since 0.1.0
 */
export const problem = (message: string, cause?: unknown): Config.ConfigError => {
  const error = new ConfigProvider.SourceError({ message, ...(cause !== undefined && { cause }) })
  // A stack would be printed with the error. It only shows our parsers and the runtime's module loading, so it helps no
  // user.
  error.stack = `${error.name}: ${message}`
  return new Config.ConfigError(error)
}

/**
 * Reads an environment variable through Effect's `Config`. The value is `undefined` if the variable is not set.
 *
 * **Details**
 *
 * `fromText` converts the variable's text to the value that the parser reads, for example with `numberFromText`.
 *
 * @category environment
 * @since 0.1.0
 */
export const variable = <A>(
  name: string,
  parser: Parser<A>,
  fromText: (text: string) => unknown = (text) => text
): Effect.Effect<A | undefined, Config.ConfigError> =>
  Effect.flatMap(Config.option(Config.String(name)), (value) => {
    if (Option.isNone(value)) return Effect.undefined
    const parsed = parser(fromText(value.value))
    return Result.isSuccess(parsed) ? Effect.succeed(parsed.success) : Effect.fail(problem(`${name} ${parsed.failure}`))
  })

/**
 * Makes a field for an option that may be absent.
 *
 * **Details**
 *
 * `name` is its environment variable. Without a name, the environment cannot set the option.
 *
 * @category fields
 * @since 0.1.0
 */
export const optional = <A>(
  parser: Parser<A>,
  name?: string,
  fromText?: (text: string) => unknown
): Field<A | undefined> => ({
  parse: (value) => value === undefined ? Result.succeed(undefined) : parser(value),
  environment: name === undefined ? Effect.undefined : variable(name, parser, fromText),
  variables: name === undefined ? [] : [name]
})

/**
 * Makes a field for an option with a default.
 *
 * @category fields
 * @since 0.1.0
 */
export const withDefault = <A>(
  parser: Parser<A>,
  fallback: A,
  name?: string,
  fromText?: (text: string) => unknown
): Field<A> => {
  const { environment, parse, variables } = optional(parser, name, fromText)
  return {
    variables,
    parse: (value) => Result.map(parse(value), (parsed) => parsed ?? fallback),
    environment: Effect.map(environment, (parsed) => parsed ?? fallback)
  }
}

/**
 * Makes a field for a required option. The error for a variable that is not set shows `example` as a value.
 *
 * @category fields
 * @since 0.1.0
 */
export const required = <A>(parser: Parser<A>, name?: string, example?: string): Field<A> => ({
  variables: name === undefined ? [] : [name],
  parse: (value) => value === undefined ? Result.fail("is required") : parser(value),
  environment: name === undefined
    ? Effect.fail(problem("A required option has no environment variable: name one in StoreOptions.required"))
    : Effect.flatMap(
      variable(name, (text) => text === "" ? Result.succeed(undefined) : parser(text)),
      (parsed) =>
        parsed === undefined
          ? Effect.fail(
            problem(example === undefined ? `${name} is not set` : `${name} is not set (for example ${example})`)
          )
          : Effect.succeed(parsed)
    )
})

/**
 * Reads a record of options with its fields.
 *
 * **Details**
 *
 * One error lists everything that is wrong. An option without a field is an error too, because it would have no effect.
 * If every option is valid by itself, `rule` says what is wrong with them together.
 *
 * @category decoding
 * @since 0.1.0
 */
export const parse = <F extends Readonly<Record<string, Field<unknown>>>>(
  fields: F,
  options: object,
  rule?: (parsed: Parsed<F>) => string | undefined
): Effect.Effect<Parsed<F>, Config.ConfigError> =>
  Effect.suspend(() => {
    const problems: Array<string> = []
    const parsed: Record<string, unknown> = {}
    const given = options as Readonly<Record<string, unknown>>
    for (const [name, { parse }] of Object.entries(fields)) {
      const result = parse(given[name])
      if (Result.isSuccess(result)) parsed[name] = result.success
      else problems.push(`${name} ${result.failure}`)
    }
    for (const name of Reflect.ownKeys(options)) {
      if (Object.hasOwn(fields, name)) continue
      problems.push(`${String(name)} is not an option: there are ${Object.keys(fields).join(", ")}`)
    }
    return problems.length === 0 ? ruled(parsed as Parsed<F>, rule) : Effect.fail(problem(problems.join("; ")))
  })

/**
 * Reads options from the environment with their fields. If every option is valid by itself, `rule` says what is wrong
 * with them together.
 *
 * @category environment
 * @since 0.1.0
 */
export const environment = <F extends Readonly<Record<string, Field<unknown>>>>(
  fields: F,
  rule?: (parsed: Parsed<F>) => string | undefined
): Effect.Effect<Parsed<F>, Config.ConfigError> =>
  Effect.flatMap(
    Effect.all(Object.fromEntries(Object.entries(fields).map(([name, field]) => [name, field.environment]))),
    (parsed) => ruled(parsed as Parsed<F>, rule)
  )

const ruled = <A>(parsed: A, rule: ((parsed: A) => string | undefined) | undefined) => {
  const wrong = rule?.(parsed)
  return wrong === undefined ? Effect.succeed(parsed) : Effect.fail(problem(wrong))
}

/**
 * Splits options into those that have a field and the rest.
 *
 * @category decoding
 * @since 0.1.0
 */
export const split = <F extends Readonly<Record<string, unknown>>, Options extends object>(
  fields: F,
  options: Options
): readonly [Pick<Options, Extract<keyof Options, keyof F>>, Omit<Options, keyof F>] => {
  const ours: Record<string, unknown> = {}
  const rest: Record<PropertyKey, unknown> = {}
  for (const name of Reflect.ownKeys(options)) {
    const part = Object.hasOwn(fields, name) ? ours : rest
    part[name as string] = options[name as keyof Options]
  }
  return [ours, rest] as never
}

/**
 * The milliseconds of a `Duration.Input`, or `undefined` for any other value.
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
 * A parser for a duration. `least`, `most` and the result are milliseconds.
 *
 * @category durations
 * @since 0.1.0
 */
export const duration = (least: number, most: number = Infinity): Parser<number> => (value) => {
  const millis = toMillis(value)
  if (millis === undefined) return Result.fail("must be a duration such as \"30 seconds\"")
  if (millis < least) return Result.fail(least === 0 ? "must not be negative" : `must be at least ${words(least)}`)
  return millis > most ? Result.fail(`must be at most ${words(most)}`) : Result.succeed(millis)
}

const words = (millis: number): string => {
  if (millis === year) return "a year"
  return Duration.format(Duration.millis(millis))
}

/**
 * The milliseconds of a year. No lock needs a longer time, so a longer duration is probably a wrong unit.
 *
 * @category durations
 * @since 0.1.0
 */
export const year = 365 * 24 * 60 * 60 * 1_000

/**
 * A parser for an integer from `least` to `most`.
 *
 * @category parsers
 * @since 0.1.0
 */
export const integer = (least: number, most: number): Parser<number> => (value) =>
  Number.isInteger(value) && (value as number) >= least && (value as number) <= most
    ? Result.succeed(value as number)
    : Result.fail(`must be a whole number from ${least} to ${most}`)

/**
 * Converts a text of digits to its number, and returns any other text unchanged, so that the parser reports it. Use it
 * as `fromText` of `variable`.
 *
 * @category environment
 * @since 0.1.0
 */
export const numberFromText = (text: string): unknown => /^\d+$/.test(text) ? Number(text) : text

/**
 * A parser for a boolean.
 *
 * @category parsers
 * @since 0.1.0
 */
export const boolean: Parser<boolean> = (value) =>
  typeof value === "boolean" ? Result.succeed(value) : Result.fail("must be true or false")

/**
 * Converts the texts `true` and `false` to booleans, and returns any other text unchanged, so that the parser reports
 * it. Use it as `fromText` of `variable`.
 *
 * @category environment
 * @since 0.1.0
 */
export const booleanFromText = (text: string): unknown => text === "true" ? true : text === "false" ? false : text

/**
 * Returns the value inside a `Redacted`, and any other value unchanged.
 *
 * @category secrets
 * @since 0.1.0
 */
export const reveal = (value: unknown): unknown => Redacted.isRedacted(value) ? Redacted.value(value) : value

/**
 * A parser for a non-empty string, plain or redacted.
 *
 * @category parsers
 * @since 0.1.0
 */
export const text: Parser<string> = (value) => {
  const plain = reveal(value)
  return typeof plain === "string" && plain !== "" ? Result.succeed(plain) : Result.fail("must be a non-empty string")
}

/**
 * Splits a text at its commas, or takes an array, and trims each part. It returns an empty array for any other value,
 * and an empty string for a part that is not a string.
 *
 * @category parsers
 * @since 0.1.0
 */
export const listOf = (value: unknown): ReadonlyArray<string> =>
  (typeof value === "string" ? value.split(",") : Array.isArray(value) ? value : [])
    .map((part: unknown) => typeof part === "string" ? part.trim() : "")

/**
 * A parser for a prefix of keys, with the rules of every locker.
 *
 * @category parsers
 * @since 0.1.0
 */
export const prefix: Parser<string> = (value) => {
  const wrong = Names.problemOfPrefix(value)
  return wrong === undefined ? Result.succeed(value as string) : Result.fail(wrong)
}

/**
 * The prefix of a locker that is given none.
 *
 * @category keys
 * @since 0.1.0
 */
export const defaultPrefix = "dlock:"

/**
 * The options for the time that a backend on a network may take.
 *
 * @category limits
 * @since 0.1.0
 */
export interface Limits {
  /** How long the layer waits for the server. Default: 5 seconds. */
  readonly connectTimeout?: Duration.Input | undefined
  /**
   * How long one request may take. It is never more than a third of the `ttl`. Default: 2 seconds. Set a shorter time
   * where connections can die without notice, such as behind NAT.
   */
  readonly operationTimeout?: Duration.Input | undefined
}

/**
 * The fields of `Limits`, in milliseconds. Their variables are `DLOCK_CONNECT_TIMEOUT` and `DLOCK_OPERATION_TIMEOUT`.
 *
 * @category limits
 * @since 0.1.0
 */
export const limits = {
  connectTimeout: withDefault(duration(100, 300_000), 5_000, "DLOCK_CONNECT_TIMEOUT"),
  operationTimeout: withDefault(duration(50, 60_000), 2_000, "DLOCK_OPERATION_TIMEOUT")
} satisfies Fields<Limits>

/**
 * The fields of an examination by a doctor (see `Diagnosis.Examination`), in milliseconds.
 *
 * @category limits
 * @since 0.1.0
 */
export const examination = {
  prefix: withDefault(prefix, defaultPrefix),
  ttl: withDefault(duration(100, year), 30_000),
  observation: withDefault(duration(0, 3_600_000), 2_000)
} satisfies Fields<Examination>

/**
 * The TLS options of a client, as PEM texts.
 *
 * @category tls
 * @since 0.1.0
 */
export interface Tls {
  /** The certificate of the authority that signed the servers' certificates. */
  readonly ca?: string | undefined
  /** The client's own certificate. It needs `key`. */
  readonly cert?: string | undefined
  /** The private key of `cert`. */
  readonly key?: string | Redacted.Redacted | undefined
}

/**
 * The TLS options of a client, after parsing. Each is `undefined` if it was not given.
 *
 * @category tls
 * @since 0.1.0
 */
export interface Certificates {
  /** The certificate of the authority that signed the servers' certificates. */
  readonly ca: string | undefined
  /** The client's own certificate. */
  readonly cert: string | undefined
  /** The private key of `cert`. */
  readonly key: string | undefined
}

/**
 * A parser that reads a `Tls` as `Certificates`.
 *
 * @category tls
 * @since 0.1.0
 */
export const certificates: Parser<Certificates> = (value) => {
  if (typeof value !== "object" || value === null) return Result.fail("must be an object with ca, cert and key")
  const given = value as Readonly<Record<string, unknown>>
  const parsed: Record<string, string | undefined> = { ca: undefined, cert: undefined, key: undefined }
  for (const name of Object.keys(given)) {
    if (!Object.hasOwn(parsed, name)) return Result.fail(`has an unknown field ${name}: there are ca, cert and key`)
    if (given[name] === undefined) continue
    const read = text(given[name])
    if (Result.isFailure(read)) return Result.fail(`has a wrong ${name}, which ${read.failure}`)
    parsed[name] = read.success
  }
  return (parsed.cert === undefined) === (parsed.key === undefined)
    ? Result.succeed(parsed as unknown as Certificates)
    : Result.fail("needs both cert and key, or neither")
}

/**
 * Makes a field for `Tls`. Its environment variables hold paths of files.
 *
 * **Details**
 *
 * The prefix `DLOCK_ETCD` reads `DLOCK_ETCD_CA`, `DLOCK_ETCD_CERT` and `DLOCK_ETCD_KEY`. The caller gives `readFile`,
 * because this package depends on no platform.
 *
 * @category tls
 * @since 0.1.0
 */
export const tls = (
  prefix: string,
  readFile: (path: string) => Promise<string>
): Field<Certificates | undefined> => ({
  parse: optional(certificates).parse,
  environment: tlsFromPaths(prefix, readFile),
  variables: [`${prefix}_CA`, `${prefix}_CERT`, `${prefix}_KEY`]
})

/** Why a file cannot be read: the system's error code, because the system's message repeats the path. */
const codeOf = (cause: unknown): string =>
  typeof cause === "object" && cause !== null && "code" in cause ? String(cause.code) : "no reason given"

const tlsFromPaths = (
  prefix: string,
  readFile: (path: string) => Promise<string>
): Effect.Effect<Certificates | undefined, Config.ConfigError> => {
  const read = (name: string) =>
    Effect.flatMap(variable(name, text), (path) =>
      path === undefined
        ? Effect.undefined
        : Effect.tryPromise({
          try: () => readFile(path),
          catch: (cause) => problem(`${name} names a file that cannot be read (${codeOf(cause)}): is the path right?`)
        }))
  return Effect.flatMap(
    Effect.all([read(`${prefix}_CA`), read(`${prefix}_CERT`), read(`${prefix}_KEY`)]),
    ([ca, cert, key]) => {
      if ((cert === undefined) !== (key === undefined)) {
        return Effect.fail(problem(`Set both ${prefix}_CERT and ${prefix}_KEY, or neither`))
      }
      return Effect.succeed(ca === undefined && key === undefined ? undefined : { ca, cert, key })
    }
  )
}

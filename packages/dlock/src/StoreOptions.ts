/**
 * For the packages of backends: options and environment variables that are read alike everywhere. Each option is declared
 * once, as a field: what it may be, what it is where it is not given, and its variable. What is wrong is always a
 * `ConfigError`, which names the option or the variable and never repeats its value: it may be a secret.
 *
 * **Example**
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
 * // One that is forgotten here does not compile.
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
import * as Names from "./internal/options/keys.ts"

/**
 * Reads a value, or says what is wrong with it, in words that follow its name ("must be true or false").
 *
 * @category models
 * @since 0.1.0
 */
export type Parser<A> = (value: unknown) => Result.Result<A, string>

/**
 * One option: how it is read where it is given, or not, and what the environment says.
 *
 * @category models
 * @since 0.1.0
 */
export interface Field<A> {
  /** Reads the option as it was given, or `undefined` where it was not. */
  readonly parse: Parser<A>
  /** Reads the option from its variables. */
  readonly environment: Effect.Effect<A, Config.ConfigError>
  /** The variables that the environment is asked for. */
  readonly variables: ReadonlyArray<string>
}

/**
 * A field for each of the options, so that none is forgotten.
 *
 * @category models
 * @since 0.1.0
 */
export type Fields<Options> = { readonly [Name in keyof Options]-?: Field<unknown> }

/**
 * What fields make of options.
 *
 * @category models
 * @since 0.1.0
 */
export type Parsed<Fields> = {
  readonly [Name in keyof Fields]: Fields[Name] extends Field<infer A> ? A : never
}

/**
 * A `ConfigError` in words of ours.
 *
 * @category constructors
 * @since 0.1.0
 */
export const problem = (message: string, cause?: unknown): Config.ConfigError => {
  const error = new ConfigProvider.SourceError({ message, ...(cause !== undefined && { cause }) })
  // Its stack is that of our parsers and of the runtime's module loading, which would be printed and helps nobody.
  error.stack = `${error.name}: ${message}`
  return new Config.ConfigError(error)
}

/**
 * An environment variable (through Effect's `Config`), read; `undefined` where it is not set. `fromText` makes of its text
 * what the parser takes.
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
 * A field that may be absent.
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
 * A field that is something where it is not given.
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
 * A field that must be there. The example shows a value of its variable.
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
 * Reads options by their fields, all of which is said at once that is wrong. One that has no field is refused: it would do
 * nothing. `rule` says what is wrong with them together.
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
 * Reads options from the environment by their fields.
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
 * Parts options in those of the fields and the others, each to its own reader.
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
 * A duration between two numbers of milliseconds, in milliseconds.
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
 * The milliseconds of a year, which is more than any lock is for: a longer one is a slip of a unit.
 *
 * @category durations
 * @since 0.1.0
 */
export const year = 365 * 24 * 60 * 60 * 1_000

/**
 * A whole number between two.
 *
 * @category parsers
 * @since 0.1.0
 */
export const integer = (least: number, most: number): Parser<number> => (value) =>
  Number.isInteger(value) && (value as number) >= least && (value as number) <= most
    ? Result.succeed(value as number)
    : Result.fail(`must be a whole number from ${least} to ${most}`)

/**
 * The number that a text is, for `variable`; the text where it is none.
 *
 * @category environment
 * @since 0.1.0
 */
export const numberFromText = (text: string): unknown => /^\d+$/.test(text) ? Number(text) : text

/**
 * Yes or no.
 *
 * @category parsers
 * @since 0.1.0
 */
export const boolean: Parser<boolean> = (value) =>
  typeof value === "boolean" ? Result.succeed(value) : Result.fail("must be true or false")

/**
 * What `true` and `false` stand for, for `variable`; any other text where it is neither.
 *
 * @category environment
 * @since 0.1.0
 */
export const booleanFromText = (text: string): unknown => text === "true" ? true : text === "false" ? false : text

/**
 * What a value is inside `Redacted`, or the value itself.
 *
 * @category secrets
 * @since 0.1.0
 */
export const reveal = (value: unknown): unknown => Redacted.isRedacted(value) ? Redacted.value(value) : value

/**
 * A text that is not empty, plain or redacted.
 *
 * @category parsers
 * @since 0.1.0
 */
export const text: Parser<string> = (value) => {
  const plain = reveal(value)
  return typeof plain === "string" && plain !== "" ? Result.succeed(plain) : Result.fail("must be a non-empty string")
}

/**
 * The parts of a list that is an array or a text with commas; empty for anything else.
 *
 * @category parsers
 * @since 0.1.0
 */
export const listOf = (value: unknown): ReadonlyArray<string> =>
  (typeof value === "string" ? value.split(",") : Array.isArray(value) ? value : [])
    .map((part: unknown) => typeof part === "string" ? part.trim() : "")

/**
 * A prefix, as every locker takes it.
 *
 * @category parsers
 * @since 0.1.0
 */
export const prefix: Parser<string> = (value) => {
  const wrong = Names.problemOfPrefix(value)
  return wrong === undefined ? Result.succeed(value as string) : Result.fail(wrong)
}

/**
 * What stands before every key of a locker that is given no other prefix.
 *
 * @category keys
 * @since 0.1.0
 */
export const defaultPrefix = "dlock:"

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

/**
 * The fields of `Limits`, in milliseconds; their variables are `DLOCK_CONNECT_TIMEOUT` and `DLOCK_OPERATION_TIMEOUT`.
 *
 * @category limits
 * @since 0.1.0
 */
export const limits = {
  connectTimeout: withDefault(duration(100, 300_000), 5_000, "DLOCK_CONNECT_TIMEOUT"),
  operationTimeout: withDefault(duration(50, 60_000), 2_000, "DLOCK_OPERATION_TIMEOUT")
} satisfies Fields<Limits>

/**
 * Certificates as PEM texts: the authority that signed the servers', and a certificate and key of our own.
 *
 * @category tls
 * @since 0.1.0
 */
export interface Tls {
  /** The certificate of the authority that signed the servers' certificates. */
  readonly ca?: string | undefined
  /** A certificate of the client's own; goes with `key`. */
  readonly cert?: string | undefined
  /** The private key of `cert`. */
  readonly key?: string | Redacted.Redacted | undefined
}

/**
 * The same, read.
 *
 * @category tls
 * @since 0.1.0
 */
export interface Certificates {
  /** The certificate of the authority that signed the servers' certificates. */
  readonly ca: string | undefined
  /** A certificate of the client's own. */
  readonly cert: string | undefined
  /** The private key of `cert`. */
  readonly key: string | undefined
}

/**
 * What makes `Certificates` of a `Tls`.
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
 * A field for `Tls`, whose variables are paths: under a prefix (`DLOCK_ETCD` reads `DLOCK_ETCD_CA`, `_CERT` and `_KEY`). It
 * takes the way to read a file, since this package knows no platform.
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

/** Why a file cannot be read: a system's code, since its words repeat the path. */
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

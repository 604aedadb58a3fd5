// What the locks that are made from a key have in common.
import * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import * as Result from "effect/Result"
import { InvalidLockRequest } from "../LockError.ts"
import type { Parser } from "../StoreOptions.ts"
import * as Engine from "./engine.ts"
import { invalidRequest } from "./options/invalidRequest.ts"
import { problemOfName } from "./options/keys.ts"

/** The given options, after parsing. */
type Read<Rules extends Readonly<Record<string, Parser<any>>>, Required extends keyof Rules> =
  & { readonly [Name in Required]: Result.Result.Success<ReturnType<Rules[Name]>> }
  & { readonly [Name in keyof Rules]?: Result.Result.Success<ReturnType<Rules[Name]>> }

interface Made<Rules extends Readonly<Record<string, Parser<any>>>, Required extends keyof Rules> {
  readonly engine: Engine.Engine
  readonly read: Read<Rules, Required>
}

/** Checks the key and the options of a lock that keeps its locker, and makes the lock. It sends nothing. */
export const make = <
  A,
  Rules extends Readonly<Record<string, Parser<any>>>,
  const Required extends keyof Rules & string
>(
  locker: object,
  key: string,
  rules: Rules,
  options: object | undefined,
  required: ReadonlyArray<Required>,
  build: (made: Made<Rules, Required>) => A
): Effect.Effect<A, InvalidLockRequest> => {
  return Effect.flatMap(Engine.of(locker), (engine) => {
    const read = parse(key, engine.settings.prefix, rules, options, required)
    return read instanceof InvalidLockRequest
      ? Effect.fail(read)
      : Effect.succeed(build({ engine, read: read as Read<Rules, Required> }))
  })
}

const parse = (
  key: string,
  prefix: string,
  rules: Readonly<Record<string, Parser<unknown>>>,
  options: object | undefined,
  required: ReadonlyArray<string>
): Record<string, unknown> | InvalidLockRequest => {
  const invalid = (parameter: string, problem: string) => invalidRequest(key, parameter, problem)
  const wrong = problemOfName(key, prefix)
  if (wrong !== undefined) return invalid("key", wrong)
  if (options !== undefined && (typeof options !== "object" || options === null)) {
    return invalid("options", "must be an object")
  }
  const given = (options ?? {}) as Readonly<Record<string, unknown>>
  const read: Record<string, unknown> = {}
  const unknown = `is not an option of this lock: there are ${Object.keys(rules).join(", ")}`
  for (const option of Object.getOwnPropertySymbols(given)) return invalid(String(option), unknown)
  for (const option in given) {
    if (!Object.hasOwn(rules, option)) return invalid(option, unknown)
    if (given[option] === undefined) continue
    const parsed = rules[option]!(given[option])
    if (Result.isFailure(parsed)) return invalid(option, parsed.failure)
    read[option] = parsed.success
  }
  for (const option of required) if (read[option] === undefined) return invalid(option, "is missing")
  return read
}

/** The result of a section that waited. */
export const some = <A>(result: Option.Option<A>): A => (result as Option.Some<A>).value

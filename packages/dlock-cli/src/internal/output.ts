import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import { root } from "./commands/root.ts"

/**
 * Writes a value as JSON if the call asks for that, and otherwise as the text for people. In JSON a bigint is a string, a
 * `None` is absent, and a duration is milliseconds.
 */
export const write = <A>(value: A, json: (value: A) => unknown, text: (value: A) => string) =>
  Effect.flatMap(root, (flags) => Console.log(flags.json ? JSON.stringify(json(value)) : text(value)))

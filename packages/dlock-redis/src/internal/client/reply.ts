/** Reads the replies to scripts. */

import * as Exit from "effect/Exit"
import type { Script } from "../protocol/index.ts"
import { fromClient, unusable } from "./failure.ts"
import type { CallFailure } from "./port.ts"

/** What a script's reply says, made into `then`. */
export const decoded = <Args, A, B>(
  script: Script<Args, A>,
  raw: unknown,
  then: (value: A) => B
): Exit.Exit<B, CallFailure> => {
  try {
    return Exit.succeed(then(script.decode(raw)))
  } catch (error) {
    return Exit.fail(unusable(error))
  }
}

/** The server does not say which keys it refuses. */
export const withKeys = (failure: CallFailure, keys: ReadonlyArray<string>): CallFailure => {
  const { message } = failure.cause
  if (!/^NOPERM .*\bkeys?\b/.test(message)) return failure
  const patterns = new Set(keys.map((key) => `~${key.replace(/\0.*/s, "*")}`))
  return { ...failure, cause: new Error(`${message}: the user needs ${Array.from(patterns).join(" ")}`) }
}

/** The server does not know the script by its digest, so it has not run. */
export const isUnknownScript = (error: unknown): boolean => fromClient(error).cause.message.startsWith("NOSCRIPT")

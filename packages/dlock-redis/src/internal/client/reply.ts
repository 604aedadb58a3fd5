/** Reads the replies to scripts. */

import * as Exit from "effect/Exit"
import type { Script } from "../protocol/index.ts"
import { fromClient, unusable } from "./failure.ts"
import type { CallFailure } from "./port.ts"

/** Decodes a script's reply and applies `then` to it. */
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

/** Adds the refused keys to a failure, because the server does not name them. */
export const withKeys = (failure: CallFailure, keys: ReadonlyArray<string>): CallFailure => {
  const { message } = failure.cause
  if (!/^NOPERM .*\bkeys?\b/.test(message)) return failure
  const patterns = new Set(keys.map((key) => `~${key.replace(/\0.*/s, "*")}`))
  return { ...failure, cause: new Error(`${message}: the user needs ${Array.from(patterns).join(" ")}`) }
}

/** Whether the server does not know the script by its digest. The script has then not run. */
export const isUnknownScript = (error: unknown): boolean => fromClient(error).cause.message.startsWith("NOSCRIPT")

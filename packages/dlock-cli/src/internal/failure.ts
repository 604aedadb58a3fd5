import * as CliError from "effect/cli/CliError"
import * as Config from "effect/Config"
import * as Predicate from "effect/Predicate"
import * as Runtime from "effect/Runtime"
import * as Schema from "effect/Schema"
import { exitCodes } from "./exitCodes.ts"

/** Why `dlock` ends with another code than 0. An empty message writes nothing. */
export class Failure extends Schema.TaggedError<Failure>("effect-dlock-cli/Failure")("Failure", {
  message: Schema.String,
  exitCode: Schema.Int
}) {
  override [Runtime.errorReported] = false
  override get [Runtime.errorExitCode](): number {
    return this.exitCode
  }
}

/** The codes of the library's errors. An error that is missing here is a defect of `dlock`. */
const codes: Readonly<Record<string, number>> = {
  LockTimeout: exitCodes.busy,
  LockAlreadyHeld: exitCodes.busy,
  OwnershipLost: exitCodes.lost,
  LockBackendError: exitCodes.unavailable,
  InvalidLockRequest: exitCodes.usage,
  CapacityMismatch: exitCodes.usage
}

/** The failure that an error becomes. */
export const fromError = (error: unknown): Failure => {
  if (error instanceof Failure) return error
  // The parser has already written what it found.
  if (CliError.isCliError(error)) return new Failure({ message: "", exitCode: exitCodes.usage })
  const message = error instanceof Error ? error.message : String(error)
  // Its own message has the names of classes around the words.
  if (error instanceof Config.ConfigError) {
    return new Failure({ message: error.cause.message, exitCode: exitCodes.config })
  }
  const tag = Predicate.hasProperty(error, "_tag") && typeof error._tag === "string" ? error._tag : ""
  return new Failure({ message, exitCode: codes[tag] ?? exitCodes.defect })
}

import * as Argument from "effect/cli/Argument"

/** The key of a lock. */
export const key = Argument.String("key").pipe(
  Argument.withDescription("The key of the lock, without the prefix")
)

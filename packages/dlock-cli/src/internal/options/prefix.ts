import * as Argument from "effect/cli/Argument"

/** With which the keys begin that a command looks at. */
export const keysUnder = Argument.String("keys").pipe(
  Argument.withDescription("Only locks whose keys begin with this. Default: all under the prefix"),
  Argument.withDefault("")
)

import * as Context from "effect/Context"

/**
 * The command behind `--`, which `dlock` runs: its name and its arguments, untouched. Empty if there is none. It is not an
 * argument of the parser, which could not tell several keys from the words of the command.
 */
export const ChildCommand = Context.Reference<ReadonlyArray<string>>("effect-dlock-cli/ChildCommand", {
  defaultValue: () => []
})

/** The subcommands that run a command of the user. */
const running = ["run", "once", "elect"]

/** Splits the arguments at the first `--`, if the subcommand before it runs a command. */
export const split = (
  args: ReadonlyArray<string>
): { readonly own: ReadonlyArray<string>; readonly child: ReadonlyArray<string> } => {
  const end = args.indexOf("--")
  const own = end === -1 ? args : args.slice(0, end)
  return end === -1 || !own.some((arg) => running.includes(arg))
    ? { own: args, child: [] }
    : { own, child: args.slice(end + 1) }
}

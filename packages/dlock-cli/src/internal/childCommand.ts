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
  return end === -1 || !running.includes(subcommandOf(own) ?? "")
    ? { own: args, child: [] }
    : { own, child: args.slice(end + 1) }
}

/** The shared flags that may stand before the subcommand, with a word of their own. */
const valued = ["--driver", "--prefix", "--log-level"]

const subcommandOf = (args: ReadonlyArray<string>): string | undefined =>
  args.find((arg, nth) => !arg.startsWith("-") && !valued.includes(args[nth - 1] ?? ""))

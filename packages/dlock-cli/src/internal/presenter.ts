import * as CliOutput from "effect/cli/CliOutput"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import { linesShown } from "./shown.ts"

/**
 * Where help and mistakes are written. Help that was asked for is an answer. Of a mistake stderr says what it is and how the
 * call looks, and where the help is, which is long.
 */
export const presenter: CliOutput.Presenter = {
  present: (event) => {
    if (event._tag === "Version") return Console.log(event.version)
    if (event._tag !== "InvalidInvocation") return CliOutput.defaultPresenter.present(event)
    const path = event.commandPath.join(" ")
    const mistakes = event.errors.map(({ message }) => `dlock: ${linesShown(message)}`)
    return Effect.asVoid(
      Console.error([...mistakes, `usage: ${event.helpDoc.usage}`, `for more: ${path} --help`].join("\n"))
    )
  }
}

import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as ChildProcess from "effect/process/ChildProcess"
import * as ChildProcessSpawner from "effect/process/ChildProcessSpawner"

const programs: Readonly<Record<string, readonly [string, ReadonlyArray<string>]>> = {
  darwin: ["open", []],
  win32: ["explorer.exe", []]
}

/** Opens an address in the user's browser. Where that fails, the user still has the address. */
export const openInBrowser = (
  url: string
): Effect.Effect<void, never, ChildProcessSpawner.ChildProcessSpawner> => {
  const [program, args] = programs[process.platform] ?? ["xdg-open", []]
  const command = ChildProcess.make(program, [...args, url], { stdin: "ignore", stdout: "ignore", stderr: "ignore" })
  return ChildProcessSpawner.ChildProcessSpawner.use((spawner) => spawner.exitCode(command)).pipe(
    Effect.catchCause(() =>
      Console.error(`dlock: no browser was opened, since there is no ${program}. Open the address yourself.`)
    ),
    Effect.asVoid
  )
}

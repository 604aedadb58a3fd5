import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { exitCodes } from "../exitCodes.ts"
import { Failure } from "../failure.ts"
import { shown } from "../shown.ts"

/** Fails if a command cannot be run, with the codes of a shell. It is asked before the lock, which others may wait for. */
export const ensureRunnable = (command: ReadonlyArray<string>): Effect.Effect<void, Failure> =>
  Effect.suspend(() => {
    const [name = ""] = command
    if (name === "") return Effect.fail(new Failure({ message: noCommand, exitCode: exitCodes.usage }))
    const files = name.includes("/")
      ? [name]
      : (process.env["PATH"] ?? "/usr/bin:/bin").split(Path.delimiter).map((folder) => Path.join(folder || ".", name))
    const found = files.filter((file) => Fs.statSync(file, { throwIfNoEntry: false })?.isFile() === true)
    if (found.some(isExecutable)) return Effect.void
    return Effect.fail(
      found.length > 0
        ? new Failure({
          message: `${shown(name)} is not executable: is its mode right (chmod +x)?`,
          exitCode: exitCodes.notExecutable
        })
        : new Failure({
          message: `${shown(name)} was not found${name.includes("/") ? "" : " on the PATH"}: is it spelt right?`,
          exitCode: exitCodes.notFound
        })
    )
  })

const noCommand = "no command is given: write it behind --, for example dlock run nightly -- ./report.sh"

const isExecutable = (file: string): boolean => {
  try {
    Fs.accessSync(file, Fs.constants.X_OK)
    return true
  } catch {
    return false
  }
}

/** What a command learns of the locks that it runs under. */
export interface Told {
  readonly keys: ReadonlyArray<string>
  /** In the order of the keys. Absent if others may hold the same key. */
  readonly tokens: ReadonlyArray<bigint> | undefined
  readonly holder: string
}

/**
 * The environment of a command: that of `dlock` without the secrets by which it reached the server, and what the command is
 * to know of its locks.
 */
export const environment = ({ holder, keys, tokens }: Told): Record<string, string> => {
  const env: Record<string, string> = {}
  for (const [name, value] of Object.entries(process.env)) {
    if (value !== undefined && !isSecret(name, value)) env[name] = value
  }
  delete env["DLOCK_FENCING_TOKEN"]
  env["DLOCK_KEY"] = keys.join("\n")
  env["DLOCK_HOLDER"] = holder
  if (tokens !== undefined) env["DLOCK_FENCING_TOKEN"] = tokens.join("\n")
  return env
}

/** A password of ours, or an address of ours that contains one. */
const isSecret = (name: string, value: string): boolean =>
  name.startsWith("DLOCK_") &&
  (/PASSWORD|TOKEN|SECRET/.test(name) || /:\/\/[^/\s]*:[^/\s]*@/.test(value) || /[?&]password=/.test(value))

/**
 * The words of a command for a shell that becomes it. A shell takes over only variables whose names it could have made
 * itself: `env` sets the others.
 */
export const words = (command: ReadonlyArray<string>, env: Readonly<Record<string, string>>): ReadonlyArray<string> => {
  const others = Object.entries(env).flatMap(([name, value]) =>
    /^[A-Za-z_][A-Za-z0-9_]*$/.test(name) ? [] : [`${name}=${value}`]
  )
  return others.length === 0 ? command : ["env", ...others, ...command]
}

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

/** What a shell that becomes a command is given: the last lines of its script, and its environment. */
export interface HandedOver {
  readonly script: string
  readonly env: Readonly<Record<string, string>>
}

/** Names that a shell could not have made itself are not taken over by it, and some it sets for its own use. */
const isKept = (name: string): boolean =>
  /^[A-Za-z_][A-Za-z0-9_]*$/.test(name) && !["IFS", "LINENO", "OPTIND", "PPID"].includes(name)

/**
 * Hands an environment over to a command through a shell, which keeps most variables: `env` sets the others. Their values
 * come in variables too, since everybody on the machine can read the arguments of the guardian.
 */
export const handOver = (env: Readonly<Record<string, string>>): HandedOver => {
  const kept: Record<string, string> = {}
  const carriers: Array<string> = []
  for (const [name, value] of Object.entries(env)) {
    if (isKept(name)) kept[name] = value
    else {
      const carrier = `dlock_variable_${carriers.length}`
      carriers.push(carrier)
      kept[carrier] = `${name}=${value}`
    }
  }
  const words = carriers.map((carrier) => `"$${carrier}"`).join(" ")
  const script = carriers.length === 0
    ? `exec "$@"\n`
    : `set -- env ${words} "$@"\nunset ${carriers.join(" ")}\nexec "$@"\n`
  return { script, env: kept }
}

import { execFileSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"

const root = Path.resolve(import.meta.dirname, "../..")

/** The Debian release whose servers the tests meet unless told otherwise: the same everywhere. */
const pinned = "trixie"

const variables = {
  "redis-server": "DLOCK_REDIS_SERVER",
  "valkey-server": "DLOCK_VALKEY_SERVER",
  etcd: "DLOCK_ETCD"
} as const

export type Program = keyof typeof variables

/** A server program that was found, where, and by which rule. */
export interface Found {
  readonly file: string
  readonly origin: string
}

const isFile = (file: string): boolean => Fs.statSync(file, { throwIfNoEntry: false })?.isFile() ?? false

const onPath = (name: Program): Found | undefined => {
  const file = (process.env.PATH ?? "").split(Path.delimiter).filter((dir) => dir !== "")
    .map((dir) => Path.join(dir, name)).find(isFile)
  return file === undefined ? undefined : { file, origin: "PATH" }
}

const ofRelease = (name: Program, release: string): Found | undefined => {
  const folder = Path.join(root, ".cache/servers", release)
  if (!isFile(Path.join(folder, "ready"))) {
    try {
      execFileSync("sh", [Path.join(root, "scripts/servers.sh"), release], { stdio: ["ignore", 2, 2] })
    } catch {
      return undefined
    }
  }
  const file = Path.join(folder, "bin", name)
  return isFile(file) ? { file, origin: `Debian ${release}` } : undefined
}

const missing = (name: Program, looked: string): Error =>
  new Error([
    `The tests need a real ${name}, and ${looked} has none. Do one of these:`,
    `  - on Debian: sh scripts/servers.sh (unpacks servers into .cache, installs nothing)`,
    `  - install it (apt-get install redis-server etcd-server, or brew install redis etcd) and set DLOCK_SERVERS=path`,
    `  - set ${variables[name]} to the path of the program`
  ].join("\n"))

/**
 * Finds a server program: by its own variable, else in the Debian release that DLOCK_SERVERS names, else in the pinned
 * release. PATH counts only with DLOCK_SERVERS=path, or where the pinned release cannot be unpacked.
 */
export const locate = (name: Program): Found => {
  const given = process.env[variables[name]]
  if (given !== undefined && given !== "") {
    if (isFile(given)) return { file: given, origin: variables[name] }
    throw new Error(`${variables[name]} names ${given}, which is not a file`)
  }
  const chosen = process.env.DLOCK_SERVERS ?? ""
  const found = chosen === "path"
    ? onPath(name)
    : chosen !== ""
    ? ofRelease(name, chosen)
    : ofRelease(name, pinned) ?? onPath(name)
  if (found === undefined) {
    throw missing(
      name,
      chosen === "path" ? "PATH" : chosen !== "" ? `Debian ${chosen}` : `what could be had (Debian ${pinned}, PATH)`
    )
  }
  return found
}

export const find = (name: Program): string => locate(name).file

/** Says which program it is, of which version and from where, in one line. */
export const describe = (name: Program): string => {
  const { file, origin } = locate(name)
  const text = execFileSync(file, ["--version"], { encoding: "utf8" })
  const version = /(?:v=|Version:? )(\d[\w.]*)/.exec(text)?.[1] ?? text.split("\n")[0]
  return `${name} ${version} (${origin}: ${
    Path.relative(root, file).startsWith("..") ? file : Path.relative(root, file)
  })`
}

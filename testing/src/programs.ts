import { execFileSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"

const root = Path.resolve(import.meta.dirname, "../..")

/** The Debian release whose servers the tests meet unless told otherwise: the same everywhere. */
const pinned = "trixie"

/** Where a program's path can be given, and the set of `scripts/servers.sh` that has the program. */
const programs = {
  "redis-server": { variable: "DLOCK_REDIS_SERVER", set: "servers" },
  "valkey-server": { variable: "DLOCK_VALKEY_SERVER", set: "servers" },
  etcd: { variable: "DLOCK_ETCD", set: "servers" },
  prometheus: { variable: "DLOCK_PROMETHEUS", set: "prometheus" },
  promtool: { variable: "DLOCK_PROMTOOL", set: "prometheus" }
} as const

export type Program = keyof typeof programs

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
  const { set } = programs[name]
  const folder = Path.join(root, ".cache", set, release)
  if (!isFile(Path.join(folder, "ready"))) {
    try {
      execFileSync("sh", [Path.join(root, "scripts/servers.sh"), release, set], { stdio: ["ignore", 2, 2] })
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
    `  - on Debian: sh scripts/servers.sh ${pinned} ${programs[name].set} (unpacks it into .cache, installs nothing)`,
    `  - install it (apt-get install redis-server etcd-server prometheus, or brew install redis etcd prometheus)`,
    `    and set DLOCK_SERVERS=path`,
    `  - set ${programs[name].variable} to the path of the program`
  ].join("\n"))

/**
 * Finds a server program: by its own variable, else in the Debian release that DLOCK_SERVERS names, else in the pinned
 * release. PATH counts only with DLOCK_SERVERS=path, or where the pinned release cannot be unpacked.
 */
export const locate = (name: Program): Found => {
  const { variable } = programs[name]
  const given = process.env[variable]
  if (given !== undefined && given !== "") {
    if (isFile(given)) return { file: given, origin: variable }
    throw new Error(`${variable} names ${given}, which is not a file`)
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
  const version = /(?:v=|[Vv]ersion:? )(\d[\w.]*)/.exec(text)?.[1] ?? text.split("\n")[0]
  return `${name} ${version} (${origin}: ${
    Path.relative(root, file).startsWith("..") ? file : Path.relative(root, file)
  })`
}

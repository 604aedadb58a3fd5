// What a user's project does with the packed packages: scripts/pack.sh installs all of them beside this file, runs it and
// checks it with the compiler. Every subpath loads, what is internal does not, and a lock locks.
import { Effect } from "effect"
import { Locker, withLock } from "effect-dlock"
import { readdirSync, readFileSync, writeFileSync } from "node:fs"

interface Manifest {
  readonly name: string
  readonly exports: Readonly<Record<string, string | null>>
}

const names = readdirSync("node_modules").filter((name) => name.startsWith("effect-dlock"))
const packed = readdirSync("../../pack").length
if (names.length !== packed) throw new Error(`${packed} packages were packed, and installed are ${names.join(", ")}`)
const imports: Array<string> = []
const typesOnly = ["effect-dlock/LockInfo"]
for (const name of names) {
  const manifest: Manifest = JSON.parse(readFileSync(`node_modules/${name}/package.json`, "utf8"))
  for (const [subpath, target] of Object.entries(manifest.exports)) {
    if (target === null) {
      const error: unknown = await import(`${name}/${subpath.slice(2).replace("*", "anything.js")}`).then(
        () => undefined,
        (reason: unknown) => reason
      )
      if ((error as NodeJS.ErrnoException | undefined)?.code !== "ERR_PACKAGE_PATH_NOT_EXPORTED") {
        throw new Error(`${name} lets ${subpath} in`)
      }
    } else if (subpath !== "./package.json") {
      if (!target.startsWith("./dist/")) throw new Error(`${name} points ${subpath} at ${target}`)
      const module: object = await import(name + subpath.slice(1))
      if (Object.keys(module).length === 0 && !typesOnly.includes(name + subpath.slice(1))) {
        throw new Error(`${name}: ${subpath} is empty`)
      }
      imports.push(`export type Module${imports.length} = typeof import("${name}${subpath.slice(1)}")\n`)
    }
  }
}
// The compiler is to find the types of each of them.
writeFileSync("imports.ts", imports.join(""))

const answer = withLock("a", Effect.succeed("locked")).pipe(Effect.provide(Locker.layerMemory))
if (await Effect.runPromise(answer) !== "locked") throw new Error("The lock did not lock.")

// What a user's project does with the packed packages: scripts/pack.sh installs them beside this file, checks it with
// the compiler and runs it. Every subpath loads, what is internal does not, and a lock locks.
import { Effect } from "effect"
import { Locker, withLock } from "effect-dlock"
import * as RedisLocker from "effect-dlock-redis/RedisLocker"
import { readFileSync } from "node:fs"

interface Manifest {
  readonly name: string
  readonly exports: Readonly<Record<string, string | null>>
}

const names = ["effect-dlock", "effect-dlock-redis"]
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
      if (Object.keys(module).length === 0) throw new Error(`${name}: ${subpath} is empty`)
    }
  }
}
if (Object.keys(RedisLocker).length === 0) throw new Error("effect-dlock-redis/RedisLocker is empty")

const answer = withLock("a", Effect.succeed("packed, installed and locked")).pipe(Effect.provide(Locker.layerMemory))
console.log(await Effect.runPromise(answer))

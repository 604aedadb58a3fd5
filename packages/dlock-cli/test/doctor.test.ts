import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Url from "node:url"
import { expect, test } from "vitest"

const packages = Path.resolve(import.meta.dirname, "../..")

/** The names in the sources, and those of the rules that have their name as a key. */
const checks = async (): Promise<ReadonlyArray<string>> => {
  const files = Fs.globSync("*/src/**/{doctor/*,Diagnosis}.ts", { cwd: packages })
  const written = files.flatMap((file) =>
    Array.from(
      Fs.readFileSync(Path.join(packages, file), "utf8").matchAll(/\bcheck(?:: | = )"([^"]+)"/g),
      ([, name]) => name!
    )
  )
  const load = (file: string) => import(Url.pathToFileURL(Path.join(packages, file)).href)
  const { rules } = await load("dlock-redis/src/internal/doctor/rules.ts")
  const { rulesFor } = await load("dlock-redis/src/internal/doctor/replication.ts")
  const members = await load("dlock-etcd/src/internal/doctor/memberRules.ts")
  const keyed = [rules, rulesFor({}), members.rules].flatMap((rules: object) => Object.keys(rules))
  return Array.from(new Set([...written, ...keyed, "slow-commands", "proxy"])).sort()
}

test("every check of the doctor is documented, and no other", async () => {
  const page = Fs.readFileSync(Path.join(packages, "../docs/doctor.md"), "utf8")
  const documented = Array.from(
    page.slice(page.indexOf("## On every backend")).matchAll(/^\| `([a-z-]+)`/gm),
    ([, name]) => name!
  )
  expect(Array.from(new Set(documented)).sort()).toEqual(await checks())
})

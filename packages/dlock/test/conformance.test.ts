import { assert, it } from "@effect/vitest"
import * as Fs from "node:fs"
import * as Path from "node:path"

const packages = Path.resolve(import.meta.dirname, "../..")

/** A backend is a package that can be imported. */
const backends = Fs.readdirSync(packages).filter((name) =>
  name.startsWith("dlock-") && Fs.existsSync(Path.join(packages, name, "src/index.ts"))
)

it.each(backends)("%s runs the conformance suite", (name) => {
  const tests = Path.join(packages, name, "test")
  const files = Fs.existsSync(tests) ? Fs.readdirSync(tests, { recursive: true, encoding: "utf8" }) : []
  const runs = files.filter((file) =>
    file.endsWith(".test.ts") && Fs.readFileSync(Path.join(tests, file), "utf8").includes("Conformance.cases(")
  )
  assert.isNotEmpty(runs, `no test file of ${name} calls Conformance.cases`)
})

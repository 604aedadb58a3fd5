import * as Fs from "node:fs"
import * as Path from "node:path"
import { expect, test } from "vitest"
import { load } from "../src/internal/ui/assets.ts"

const root = Path.resolve(import.meta.dirname, "..")
const assets = load()

test("a browser finds every program that the page imports, and everything that its document names", () => {
  const missing = Array.from(assets).flatMap(([name, { body }]) =>
    Array.from(body.matchAll(/(?:\bfrom ?|import ?|src=|href=)"([^"]+)"/g), ([, target]) => target!)
      .filter((target) => !assets.has(Path.posix.normalize(target)))
      .map((target) => `${name}: ${target}`)
  )
  expect(missing).toEqual([])
  expect(Array.from(assets.keys())).toEqual(expect.arrayContaining(["index.html", "main.js", "preact.js", "hooks.js"]))
})

test("every file of the page is published", () => {
  const { files }: { readonly files: ReadonlyArray<string> } = JSON.parse(
    Fs.readFileSync(Path.join(root, "package.json"), "utf8")
  )
  const all = Fs.readdirSync(Path.join(root, "src/internal/ui/page")).map((name) => `src/internal/ui/page/${name}`)
  expect(all.filter((file) => !files.some((glob) => Path.matchesGlob(file, glob)))).toEqual([])
})

test("the page is small", () => {
  const bytes = Array.from(assets.values()).reduce((sum, { body }) => sum + Buffer.byteLength(body), 0)
  expect(bytes).toBeLessThan(150_000)
})

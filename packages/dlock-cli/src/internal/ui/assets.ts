import * as Fs from "node:fs"
import * as Module from "node:module"
import * as Path from "node:path"
import * as Url from "node:url"

/** A file of the page. */
export interface Asset {
  readonly type: string
  readonly body: string
}

/**
 * The files of the page, by name. Its programs are those of `page/`: as they are here without their types, or as they were
 * built. A single-file bundle replaces this module by one that has them inside.
 */
export const load = (): ReadonlyMap<string, Asset> => {
  const programs = Url.fileURLToPath(new URL("./page/", import.meta.url))
  // Where it is built, it is built beside its sources, which are published too.
  const rest = Url.fileURLToPath(new URL("../../../src/internal/ui/page/", import.meta.url))
  const extension = Path.extname(Url.fileURLToPath(import.meta.url))
  const assets = new Map<string, Asset>()
  for (const file of Fs.readdirSync(programs)) {
    if (!file.endsWith(extension) || file.endsWith(".d.ts")) continue
    const text = Fs.readFileSync(Path.join(programs, file), "utf8")
    assets.set(`${Path.basename(file, extension)}.js`, { type: "text/javascript", body: forBrowsers(text, extension) })
  }
  for (const [name, specifier] of libraries) {
    const file = Url.fileURLToPath(import.meta.resolve(specifier))
    assets.set(name, { type: "text/javascript", body: forBrowsers(Fs.readFileSync(file, "utf8"), ".js") })
  }
  assets.set("index.html", { type: "text/html", body: Fs.readFileSync(Path.join(rest, "index.html"), "utf8") })
  assets.set("page.css", { type: "text/css", body: Fs.readFileSync(Path.join(rest, "page.css"), "utf8") })
  assets.set("icon.svg", { type: "image/svg+xml", body: Fs.readFileSync(Path.join(rest, "icon.svg"), "utf8") })
  return assets
}

const libraries = [["preact.js", "preact"], ["hooks.js", "preact/hooks"]] as const

/** A program with the names under which it finds its imports here. There is no import map, which would be inline. */
const forBrowsers = (text: string, extension: string): string => {
  const program = extension === ".ts" ? withoutTypes(text) : text
  return program
    .replaceAll(
      /(\bfrom ?")preact(\/hooks)?"/g,
      (_, from, hooks) => `${from}./${hooks === undefined ? "preact" : "hooks"}.js"`
    )
    .replaceAll(/(\bfrom "\.\/[\w-]+)\.ts"/g, "$1.js\"")
    .replace(/\n\/\/# sourceMappingURL=.*\s*$/, "\n")
}

/** Node.js warns that this may change. Only the sources need it; what is published is built. */
const withoutTypes = (text: string): string => {
  const warn = Object.getOwnPropertyDescriptor(process, "emitWarning")!
  process.emitWarning = () => {}
  try {
    return Module.stripTypeScriptTypes(text)
  } finally {
    Object.defineProperty(process, "emitWarning", warn)
  }
}

import { LockMetrics, LossReason } from "effect-dlock"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Url from "node:url"
import { describe, expect, test } from "vitest"

const root = Path.resolve(import.meta.dirname, "../..")
const read = (path: string): string => Fs.readFileSync(Path.join(root, path), "utf8")
const has = (path: string): boolean => Fs.existsSync(Path.join(root, path))

interface Manifest {
  readonly name: string
  readonly version: string
  readonly license: string
  readonly homepage: string
  readonly bugs: { readonly url: string }
  readonly repository: { readonly url: string; readonly directory: string }
  readonly files: ReadonlyArray<string>
  readonly exports: Readonly<Record<string, string | null>>
  readonly publishConfig: { readonly exports: Readonly<Record<string, string | null>> }
}

const packages = Fs.readdirSync(Path.join(root, "packages")).map((dir) => {
  const manifest: Manifest = JSON.parse(read(`packages/${dir}/package.json`))
  return { dir: `packages/${dir}`, manifest }
})

const repository = "https://github.com/effect-dlock/effect-dlock"

/** The addresses that a text links to. */
const linksIn = (markdown: string): ReadonlyArray<string> =>
  Array.from(markdown.replaceAll(/^(`{3,})[^]*?^\1/gm, "").matchAll(/\]\(([^()\s]+)\)/g), ([, link]) => link!)

/** The anchors of a text's headings, as GitHub makes them. */
const anchorsIn = (markdown: string): ReadonlyArray<string> =>
  Array.from(
    markdown.replaceAll(/^(`{3,})[^]*?^\1/gm, "").matchAll(/^#+ (.*)$/gm),
    ([, heading]) => heading!.toLowerCase().replaceAll(/[^\p{L}\p{N}\s_-]/gu, "").replaceAll(" ", "-")
  )

/** Why a link from a file leads nowhere in this repository; nothing where it does, or leads elsewhere. */
const problemOf = (file: string, link: string): string | undefined => {
  const prefix = `${repository}/blob/main/`
  const isAbsolute = /^[a-z]+:/.test(link)
  if (isAbsolute && !link.startsWith(prefix)) return undefined
  const [path = "", anchor] = (isAbsolute ? link.slice(prefix.length) : link).split("#")
  const target = path === "" ? file : isAbsolute ? path : Path.join(Path.dirname(file), path)
  if (!has(target)) return `${file}: ${link} is no file`
  if (anchor === undefined || !target.endsWith(".md")) return undefined
  return anchorsIn(read(target)).includes(anchor) ? undefined : `${file}: ${link} is no heading`
}

// Each list has forgotten one of them before.
describe.each(packages)("$manifest.name", ({ dir, manifest }) => {
  test("is checked by the compiler, source and tests", () => {
    const { references }: { readonly references: ReadonlyArray<{ readonly path: string }> } = JSON.parse(
      read("tsconfig.json")
    )
    expect(references.map(({ path }) => path)).toContain(dir)
    expect(["tsconfig.json", "tsconfig.src.json", "tsconfig.test.json"].filter((name) => !has(`${dir}/${name}`)))
      .toEqual([])
  })

  test("has its import directions checked", async () => {
    const config: {
      readonly default: { readonly overrides: ReadonlyArray<{ readonly files: ReadonlyArray<string> }> }
    } = await import(Url.pathToFileURL(Path.join(root, "oxlint.config.ts")).href)
    const globs = config.default.overrides.flatMap(({ files }) => files)
    expect(globs.filter((glob) => Path.matchesGlob(`${dir}/src/internal/file.ts`, glob))).not.toEqual([])
  })

  test("is released together with the others", () => {
    const { fixed }: { readonly fixed: ReadonlyArray<ReadonlyArray<string>> } = JSON.parse(
      read(".changeset/config.json")
    )
    expect(fixed[0]!.some((glob) => Path.matchesGlob(manifest.name, glob))).toBe(true)
    expect(packages.map((other) => other.manifest.version)).toEqual(packages.map(() => manifest.version))
  })

  test("says where it is from, and carries its licence and its README", () => {
    expect(manifest.license).toBe("MIT")
    expect(manifest.homepage).toBe(`${repository}#readme`)
    expect(manifest.bugs.url).toBe(`${repository}/issues`)
    expect(manifest.repository).toMatchObject({ url: `git+${repository}.git`, directory: dir })
    expect(["LICENSE", "README.md"].filter((name) => !has(`${dir}/${name}`))).toEqual([])
  })

  test("publishes what it exports here", () => {
    const built = (target: string | null) =>
      target === null ? null : target.replace(/^\.\/src\/(.*)\.ts$/, "./dist/$1.js")
    const published = Object.entries(manifest.exports).map(([subpath, target]) => [subpath, built(target)])
    expect(manifest.publishConfig.exports).toEqual(Object.fromEntries(published))
    const sources = Object.values(manifest.exports).filter((target) => target?.endsWith(".ts"))
    expect(sources.filter((target) => !has(`${dir}/${target}`))).toEqual([])
  })

  test("has no room of more than twelve files", () => {
    const internal = `${dir}/src/internal`
    const folders = Fs.globSync(`${internal}/**/`, { cwd: root }).concat(internal)
    const filesIn = (folder: string) => Fs.readdirSync(Path.join(root, folder)).filter((name) => name.endsWith(".ts"))
    expect(folders.filter((folder) => filesIn(folder).length > 12)).toEqual([])
  })

  test("has a place in the layout", () => {
    expect(read("CONTRIBUTING.md")).toContain(`\n${dir} `)
  })

  test("links from its README to what can be read where it is installed", () => {
    const relative = linksIn(read(`${dir}/README.md`)).filter((link) => !/^([a-z]+:|#)/.test(link))
    expect(relative).toEqual([])
  })
})

/** Where options are declared, and the documents that name them. */
const declared: ReadonlyArray<readonly [file: string, documents: ReadonlyArray<string>]> = [
  ["packages/dlock/src/internal/options/settings.ts", [
    "docs/options.md",
    "packages/dlock-redis/src/RedisLocker.ts",
    "packages/dlock-etcd/src/EtcdLocker.ts"
  ]],
  ["packages/dlock-redis/src/internal/options.ts", ["docs/options.md", "packages/dlock-redis/src/RedisLocker.ts"]],
  ["packages/dlock-redis/src/internal/client/address.ts", [
    "docs/options.md",
    "packages/dlock-redis/src/RedisLocker.ts"
  ]],
  ["packages/dlock-cluster/src/internal/options.ts", ["docs/effect-cluster.md"]],
  ["packages/dlock-etcd/src/internal/options.ts", ["docs/options.md", "packages/dlock-etcd/src/EtcdLocker.ts"]]
]

test("every option of a call is documented", async () => {
  const { parsers }: { readonly parsers: Readonly<Record<string, unknown>> } = await import(
    Url.pathToFileURL(Path.join(root, "packages/dlock/src/internal/options/request.ts")).href
  )
  const options = read("docs/options.md")
  expect(Object.keys(parsers).length).toBeGreaterThan(0)
  expect(Object.keys(parsers).filter((option) => !options.includes(`| \`${option}\``))).toEqual([])
})

test("every metric is documented", () => {
  const page = read("docs/metrics.md")
  expect(LockMetrics.all.length).toBeGreaterThan(10)
  expect(LockMetrics.all.map(({ id }) => id).filter((id) => !page.includes(`| \`${id}\``))).toEqual([])
})

test("every file that declares options is checked", () => {
  const found = Fs.globSync("packages/*/src/internal/**/*.ts", { cwd: root })
    .filter((file) => /^export const fields\b/m.test(read(file)))
  expect(found.toSorted()).toEqual(declared.map(([file]) => file).toSorted())
})

test("every reason of a loss is documented", () => {
  const errors = read("docs/errors.md")
  expect(LossReason.literals.filter((reason) => !errors.includes(`\`${reason}\``))).toEqual([])
})

test.each(declared)("what is declared in %s is documented, variables too", async (file, documents) => {
  const { fields }: { readonly fields: Readonly<Record<string, { readonly variables: ReadonlyArray<string> }>> } =
    await import(Url.pathToFileURL(Path.join(root, file)).href)
  const options = read("docs/options.md")
  expect(Object.keys(fields).filter((option) => !options.includes(`\`${option}`))).toEqual([])
  const variables = Object.values(fields).flatMap((field) => field.variables)
  for (const document of documents) {
    const text = read(document)
    // Some are said by their ends: `_CERT`, `…_PASSWORD`.
    const isSaid = (variable: string): boolean => {
      const parts = variable.split("_")
      const ends = parts.map((_, index) => `_${parts.slice(index).join("_")}\``)
      return text.includes(variable) || ends.some((end) => text.includes(`\`${end}`) || text.includes(`…${end}`))
    }
    expect(variables.filter((variable) => !isSaid(variable)), document).toEqual([])
  }
})

test("no file imports itself by way of others, be it for its types", () => {
  const files = Fs.globSync("{packages,testing,examples,bench,torture,simulation,scripts}/**/*.ts", {
    cwd: root,
    exclude: (path) => /(^|\/)(node_modules|dist)$/.test(path)
  })
  const importsOf = new Map(files.map((file) => {
    const specifiers = Array.from(read(file).matchAll(/from "(\.{1,2}\/[^"]+)"/g), ([, specifier]) => specifier!)
    return [file, specifiers.map((specifier) => Path.join(Path.dirname(file), specifier))] as const
  }))
  const done = new Set<string>()
  /** The files of a cycle that can be come to, if there is one. */
  const cycleFrom = (file: string, path: ReadonlyArray<string>): ReadonlyArray<string> | undefined => {
    if (path.includes(file)) return [...path.slice(path.indexOf(file)), file]
    if (done.has(file)) return undefined
    for (const next of importsOf.get(file) ?? []) {
      const cycle = cycleFrom(next, [...path, file])
      if (cycle !== undefined) return cycle
    }
    done.add(file)
    return undefined
  }
  expect(files.length).toBeGreaterThan(300)
  expect(files.flatMap((file) => cycleFrom(file, []) ?? [])).toEqual([])
})

test("no link in the documents leads nowhere", () => {
  const documents = Fs.globSync("{*,{docs,examples,bench,torture,simulation,packages/*}/**/*}.md", {
    cwd: root,
    exclude: (path) => path.includes("node_modules")
  })
  const problems = documents.flatMap((file) => linksIn(read(file)).map((link) => problemOf(file, link)))
  expect(documents.length).toBeGreaterThan(10)
  expect(problems.filter((problem) => problem !== undefined)).toEqual([])
})

test("the README has at most 180 lines, and links to every page of docs", () => {
  expect(read("README.md").trimEnd().split("\n").length).toBeLessThanOrEqual(180)
  const pages = Fs.globSync("docs/**/*.md", { cwd: root })
  const links = linksIn(read("README.md")).map((link) => link.split("#")[0])
  expect(pages.length).toBeGreaterThan(10)
  expect(pages.filter((page) => !links.includes(page))).toEqual([])
})

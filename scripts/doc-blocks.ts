// Finds every TypeScript example in the Markdown files and in the doc comments of the packages, and type-checks each as
// a separate module. `node scripts/doc-blocks.ts` says what is wrong; testing/test/docs.test.ts makes it part of the
// tests.
import { spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"

const root = Path.resolve(import.meta.dirname, "..")

/** One example: where its fence opens, and its text on the lines (and columns) that it has in its source. */
export interface Block {
  readonly file: string
  readonly line: number
  readonly text: string
}

/** What is wrong, in the file and at the line where a person has to mend it. */
export interface Problem {
  readonly file: string
  readonly line: number
  readonly block: Block | undefined
  readonly message: string
}

const opening = /^(\s*(?:>\s*)?)(`{3,}|~{3,})\s*(?:ts|typescript|mts)\b/

/** The examples of a text. `lines` holds `undefined` where a line cannot belong to an example. */
const blocksOf = (file: string, lines: ReadonlyArray<string | undefined>): ReadonlyArray<Block> => {
  const blocks: Array<Block> = []
  for (let start = 0; start < lines.length; start++) {
    const fence = opening.exec(lines[start] ?? "")
    if (fence === null) continue
    const closing = fence[2] as string
    let end = start + 1
    while (end < lines.length && lines[end] !== undefined && !(lines[end] as string).trim().startsWith(closing)) end++
    // Blank lines before the text keep each line at its number.
    const text = lines.slice(start + 1, end).join("\n")
    blocks.push({ file, line: start + 1, text: `${"\n".repeat(start + 1)}${text}\n` })
    start = end
  }
  return blocks
}

/** Keeps the text of doc comments, with the stars blanked out. */
const commentLines = (source: string): ReadonlyArray<string | undefined> => {
  let inside = false
  return source.split("\n").map((line) => {
    if (!inside) {
      inside = /^\s*\/\*\*/.test(line) && !line.includes("*/")
      return undefined
    }
    if (line.includes("*/")) {
      inside = false
      return undefined
    }
    return line.replace(/^(\s*)\* ?/, (stars) => " ".repeat(stars.length))
  })
}

const files = (pattern: string): ReadonlyArray<string> =>
  Fs.globSync(pattern, { cwd: root, exclude: (name) => name.includes("node_modules") }).toSorted()

export const findBlocks = (): ReadonlyArray<Block> => {
  const read = (file: string): string => Fs.readFileSync(Path.join(root, file), "utf8")
  return [
    ...["*.md", "docs/**/*.md", "packages/*/README.md"].flatMap(files)
      .flatMap((file) => blocksOf(file, read(file).split("\n"))),
    ...files("packages/*/src/**/*.ts").flatMap((file) => blocksOf(file, commentLines(read(file))))
  ]
}

/** Type-checks the examples, all in one run of the compiler. */
export const checkBlocks = (blocks: ReadonlyArray<Block>): ReadonlyArray<Problem> => {
  // Inside the workspace, where its packages resolve; a new folder, since two runs may check at the same time.
  const cache = Path.join(root, ".cache")
  Fs.mkdirSync(cache, { recursive: true })
  const dir = Fs.mkdtempSync(Path.join(cache, "doc-blocks-"))
  try {
    return checkIn(dir, blocks)
  } finally {
    Fs.rmSync(dir, { recursive: true, force: true })
  }
}

const checkIn = (dir: string, blocks: ReadonlyArray<Block>): ReadonlyArray<Problem> => {
  const names = new Map<string, Block>()
  for (const block of blocks) {
    const name = `${block.file.replaceAll(/[^\w.]/g, "_")}_${block.line}.ts`
    names.set(name, block)
    Fs.writeFileSync(Path.join(dir, name), block.text)
  }
  if (names.size === 0) return []
  Fs.writeFileSync(
    Path.join(dir, "tsconfig.json"),
    JSON.stringify({
      extends: Path.join(root, "tsconfig.base.json"),
      files: [...names.keys()],
      compilerOptions: {
        composite: false,
        incremental: false,
        declaration: false,
        declarationMap: false,
        noEmit: true,
        rewriteRelativeImportExtensions: false,
        allowImportingTsExtensions: true,
        noUnusedLocals: false,
        noUnusedParameters: false,
        types: ["node"]
      }
    })
  )
  const tsc = Path.join(root, "node_modules/typescript/bin/tsc")
  const { error, status, stderr, stdout } = spawnSync(
    process.execPath,
    [tsc, "--project", dir, "--pretty", "false"],
    { cwd: dir, encoding: "utf8" }
  )
  if (error !== undefined) throw error
  const problems: Array<Problem> = []
  for (const line of stdout.split("\n")) {
    const at = /^(.*)\((\d+),\d+\): error (.*)$/.exec(line)
    if (at !== null) {
      const block = names.get(at[1] as string)
      const file = block?.file ?? Path.relative(root, Path.resolve(dir, at[1] as string))
      problems.push({ file, line: Number(at[2]), block, message: at[3] as string })
    } else if (line.startsWith("error ")) {
      problems.push({ file: "tsconfig.base.json", line: 1, block: undefined, message: line })
    } else if (line.startsWith(" ") && problems.length > 0) {
      const last = problems.at(-1) as Problem
      problems[problems.length - 1] = { ...last, message: `${last.message}\n${line}` }
    }
  }
  if (status !== 0 && problems.length === 0) throw new Error(`The compiler failed:\n${stdout}${stderr}`)
  return problems
}

export const show = ({ file, line, message }: Problem): string => `${file}:${line} ${message}`

if (import.meta.main) {
  const blocks = findBlocks()
  const problems = checkBlocks(blocks)
  problems.forEach((problem) => console.error(show(problem)))
  console.log(`${blocks.length} examples, ${problems.length} problems`)
  process.exitCode = problems.length > 0 ? 1 : 0
}

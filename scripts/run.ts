// Runs vitest and tells honestly how it went, also when it never came to run a test.
import { spawn } from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"

const root = Path.resolve(import.meta.dirname, "..")

export interface Outcome {
  readonly passed: number
  /** At least one where the run did not end well. */
  readonly failed: number
  readonly skipped: number
  /** The names of the tests that failed. */
  readonly failures: ReadonlyArray<string>
  /** 0 when all went well. */
  readonly code: number
  /** What vitest wrote, where it was not shown. */
  readonly output: string
}

export interface Options {
  readonly env?: Readonly<Record<string, string>>
  /** Keeps what vitest writes, instead of showing it. */
  readonly quiet?: boolean
}

const empty = { passed: 0, failed: 0, skipped: 0, failures: [] as ReadonlyArray<string> }

export const runTests = (args: ReadonlyArray<string>, options: Options = {}): Promise<Outcome> => {
  const dir = Fs.mkdtempSync(Path.join(Os.tmpdir(), "dlock-tally-"))
  const file = Path.join(dir, "tally.json")
  const child = spawn(
    process.execPath,
    [Path.join(root, "node_modules/vitest/vitest.mjs"), "run", ...args],
    {
      cwd: root,
      stdio: options.quiet === true ? ["ignore", "pipe", "pipe"] : "inherit",
      env: { ...process.env, ...options.env, DLOCK_TALLY: file }
    }
  )
  // Ctrl-C reaches the whole group; vitest stops its servers, and this process waits for it.
  process.on("SIGINT", () => {})
  for (const signal of ["SIGTERM", "SIGHUP"] as const) process.on(signal, () => child.kill(signal))
  let output = ""
  for (const stream of [child.stdout, child.stderr]) stream?.setEncoding("utf8").on("data", (text) => (output += text))

  const read = (): typeof empty => {
    try {
      return { ...empty, ...JSON.parse(Fs.readFileSync(file, "utf8")) }
    } catch {
      return empty
    }
  }
  return new Promise((resolve) => {
    const close = (code: number | null, why: string): void => {
      const counts = read()
      Fs.rmSync(dir, { recursive: true, force: true })
      const ran = counts.passed + counts.failed > 0
      const bad = code !== 0 || counts.failed > 0 || !ran
      if (!ran) console.error(`No test ran: vitest ${why}.`)
      else if (bad && counts.failed === 0) console.error(`The run did not end well: vitest ${why}.`)
      resolve({ ...counts, failed: bad ? Math.max(counts.failed, 1) : 0, code: bad ? code || 1 : 0, output })
    }
    child.once("error", (error) => close(1, `did not start (${error.message})`))
    child.once(
      "close",
      (code, signal) => close(code, signal === null ? `ended with code ${code}` : `was ended by ${signal}`)
    )
  })
}

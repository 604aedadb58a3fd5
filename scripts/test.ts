// Runs vitest and closes with one plain line that any CI can count: `4 passed, 0 failed`. The line is honest even when
// vitest never came to run a test: a run that did not end well shows at least one failure and a code other than 0.
import { spawn } from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"

const root = Path.resolve(import.meta.dirname, "..")
const dir = Fs.mkdtempSync(Path.join(Os.tmpdir(), "dlock-tally-"))
const file = Path.join(dir, "tally.json")

const child = spawn(
  process.execPath,
  [Path.join(root, "node_modules/vitest/vitest.mjs"), "run", ...process.argv.slice(2)],
  { cwd: root, stdio: "inherit", env: { ...process.env, DLOCK_TALLY: file } }
)
// Ctrl-C reaches the whole group; vitest stops its servers, and this process waits for it.
process.on("SIGINT", () => {})
for (const signal of ["SIGTERM", "SIGHUP"] as const) process.on(signal, () => child.kill(signal))

const read = (): { readonly passed: number; readonly failed: number; readonly skipped: number } | undefined => {
  try {
    return JSON.parse(Fs.readFileSync(file, "utf8"))
  } catch {
    return undefined
  }
}

const close = (code: number | null, why: string): void => {
  const { failed, passed, skipped } = read() ?? { passed: 0, failed: 0, skipped: 0 }
  Fs.rmSync(dir, { recursive: true, force: true })
  const ran = passed + failed > 0
  const bad = code !== 0 || failed > 0 || !ran
  if (!ran) console.error(`No test ran: vitest ${why}.`)
  else if (bad && failed === 0) console.error(`The run did not end well: vitest ${why}.`)
  console.log(
    `\n${passed} passed, ${bad ? Math.max(failed, 1) : 0} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`
  )
  process.exitCode = bad ? code || 1 : 0
}

child.once("error", (error) => close(1, `did not start (${error.message})`))
child.once(
  "exit",
  (code, signal) => close(code, signal === null ? `ended with code ${code}` : `was ended by ${signal}`)
)

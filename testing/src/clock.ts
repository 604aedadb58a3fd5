import { execFileSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"

/** A wall clock for one server that can be stepped while it runs. */
export interface Clock {
  /** What the server's environment must have. */
  readonly env: Readonly<Record<string, string>>
  /** Sets it so many milliseconds ahead of the true one. */
  readonly step: (ms: number) => void
  readonly remove: () => void
}

/** `undefined` where there is no C compiler: then the servers' clocks stay as they are, and the table says so. */
export const makeClock = (): Clock | undefined => {
  if (process.platform !== "linux") return undefined
  const folder = Fs.mkdtempSync(Path.join(Os.tmpdir(), "dlock-clock-"))
  const library = Path.join(folder, "clock.so")
  const offset = Path.join(folder, "offset")
  const remove = () => Fs.rmSync(folder, { recursive: true, force: true })
  const write = (ms: number) => {
    const bytes = Buffer.alloc(8)
    bytes.writeBigInt64LE(BigInt(Math.round(ms * 1_000)))
    // In place: the server has this very file in its memory.
    const file = Fs.openSync(offset, Fs.existsSync(offset) ? "r+" : "w")
    Fs.writeSync(file, bytes, 0, 8, 0)
    Fs.closeSync(file)
  }
  try {
    const source = Path.join(import.meta.dirname, "clock.c")
    execFileSync("cc", ["-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], { stdio: "ignore" })
  } catch {
    remove()
    return undefined
  }
  write(0)
  return { env: { LD_PRELOAD: library, TORTURE_CLOCK: offset }, step: write, remove }
}

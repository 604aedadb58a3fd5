import { execFileSync, spawn } from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"

export const program = Path.resolve(import.meta.dirname, "../../src/dlock.ts")
export const inside = Path.resolve(import.meta.dirname, "../programs/inside.ts")

/** A program of the user's machine that runs. */
export interface Started {
  readonly pid: number
  readonly stdout: () => string
  readonly stderr: () => string
  readonly signal: (signal: NodeJS.Signals) => void
  readonly type: (text: string) => void
  /** The exit code, or the signal that ended it. */
  readonly exited: Promise<number | NodeJS.Signals>
}

const running = new Set<Started>()

const dieWithParent = ["setpriv", "--pdeathsig", "KILL", "--"] as const

export const start = (
  command: ReadonlyArray<string>,
  env: Readonly<Record<string, string>> = {},
  options: { readonly isOrphan?: boolean } = {}
): Started => {
  const [file, ...args] = [...(options.isOrphan === true ? [] : dieWithParent), ...command] as [
    string,
    ...Array<string>
  ]
  const { NODE_OPTIONS: _, ...inherited } = process.env
  const child = spawn(file, args, { stdio: ["pipe", "pipe", "pipe"], env: { ...inherited, ...env } })
  let stdout = ""
  let stderr = ""
  child.stdout.setEncoding("utf8").on("data", (text: string) => void (stdout += text))
  child.stderr.setEncoding("utf8").on("data", (text: string) => void (stderr += text))
  child.stdin.on("error", () => {})
  const exited = new Promise<number | NodeJS.Signals>((resolve, reject) => {
    child.once("error", reject)
    child.once("exit", (code, signal) => {
      running.delete(started)
      // What was written last is still on its way.
      setTimeout(() => resolve(code ?? signal!), 20)
    })
  })
  const started: Started = {
    pid: child.pid!,
    stdout: () => stdout,
    stderr: () => stderr,
    signal: (signal) => void child.kill(signal),
    type: (text) => void child.stdin.write(text),
    exited
  }
  running.add(started)
  return started
}

/** Starts `dlock`. */
export const dlock = (env: Readonly<Record<string, string>>, ...args: ReadonlyArray<string>): Started =>
  start([process.execPath, program, ...args], env)

/** Runs `dlock` to its end. */
export const ended = async (env: Readonly<Record<string, string>>, ...args: ReadonlyArray<string>) => {
  const started = dlock(env, ...args)
  const code = await started.exited
  return { code, stdout: started.stdout(), stderr: started.stderr() }
}

/** Ends what a test has left running. */
export const endAll = async (): Promise<void> => {
  for (const one of running) {
    one.signal("SIGCONT")
    one.signal("SIGKILL")
  }
  await Promise.all(Array.from(running, ({ exited }) => exited))
}

export const until = async <A>(what: string, look: () => A | undefined | false, limitMs = 20_000): Promise<A> => {
  for (const end = performance.now() + limitMs; performance.now() < end;) {
    const seen = look()
    if (seen !== undefined && seen !== false) return seen
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
  throw new Error(`this never happened: ${what}`)
}

export const temporary = (): string => Fs.mkdtempSync(Path.join(Os.tmpdir(), "dlock-cli-"))

export const isAlive = (pid: number): boolean => {
  try {
    return !/^\d+ \(.*\) [ZX]/s.test(Fs.readFileSync(`/proc/${pid}/stat`, "latin1"))
  } catch {
    return false
  }
}

/** The processes of the group of a process. */
export const groupOf = (pid: number): ReadonlyArray<number> =>
  execFileSync("ps", ["-A", "-o", "pid=,pgid="], { encoding: "utf8" }).split("\n").flatMap((line) => {
    const [own, group] = line.trim().split(/\s+/).map(Number)
    return group === pid ? [own!] : []
  })

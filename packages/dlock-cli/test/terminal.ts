import { spawn } from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { environment, program } from "./program.ts"

const frameEnd = "\x1b[?2026l"

/** `dlock` in a terminal of its own, which `script` of util-linux makes. Close it in any case. */
export const startTerminal = (
  variables: Readonly<Record<string, string>>,
  args: ReadonlyArray<string>,
  size: { readonly rows: number; readonly columns: number }
) => {
  const folder = Fs.mkdtempSync(Path.join(Os.tmpdir(), "dlock-terminal-"))
  const file = (name: string) => Path.join(folder, name)
  const words = [process.execPath, program, ...args].map((word) => `'${word}'`).join(" ")
  // The shell stays, to tell how the terminal is afterwards.
  const command = `tty > ${file("tty")}; stty rows ${size.rows} cols ${size.columns}; ` +
    `${words} 2> ${file("stderr")}; echo $? > ${file("code")}; stty -a > ${file("stty")}`
  const env = { ...environment(variables), TERM: "xterm", SHELL: "/bin/sh" }
  const child = spawn("script", ["-q", "-c", command, "/dev/null"], { env, stdio: ["pipe", "pipe", "inherit"] })
  let output = ""
  child.stdout.setEncoding("utf8").on("data", (text: string) => output += text)
  const ended = new Promise<void>((resolve) => child.on("close", () => resolve()))
  const read = (name: string) => Fs.existsSync(file(name)) ? Fs.readFileSync(file(name), "utf8").trim() : ""
  return {
    /** All that was written. */
    output: () => output,
    /** The lines of the last whole picture, without colours. */
    screen: (): ReadonlyArray<string> => {
      const end = output.lastIndexOf(frameEnd)
      const start = output.lastIndexOf("\x1b[?2026h", end)
      return start === -1 ? [] : output.slice(start, end).replaceAll(/\x1b\[[?\d;]*[a-zA-Z]/g, "").split(/\r*\n/)
    },
    press: (keys: string) => void child.stdin.write(keys),
    resize: (rows: number, columns: number) => {
      spawn("stty", ["-F", read("tty"), "rows", `${rows}`, "cols", `${columns}`], { stdio: "inherit" })
    },
    /** Signals the program, not the terminal. */
    signal: (name: NodeJS.Signals) => {
      const [pid] = childrenOf(childrenOf(child.pid!)[0]!)
      process.kill(pid!, name)
    },
    /** How it ended, and what the terminal is set to afterwards. */
    ended: async () => {
      await ended
      return { code: Number(read("code")), settings: read("stty"), stderr: read("stderr") }
    },
    close: async () => {
      if (child.exitCode === null) child.kill("SIGKILL")
      await ended
      Fs.rmSync(folder, { recursive: true })
    }
  }
}

const childrenOf = (pid: number): ReadonlyArray<number> =>
  Fs.readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ").map(Number)

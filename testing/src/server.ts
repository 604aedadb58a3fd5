import { type ChildProcess, execFileSync, spawn } from "node:child_process"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Os from "node:os"
import * as Path from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { sendSignal } from "./signal.ts"

/** A running server process. */
export interface Server {
  readonly pid: number
  readonly port: number
  readonly url: string
  readonly dir: string
  /** Sends one signal, for example SIGSTOP, SIGCONT or SIGKILL. */
  readonly signal: (signal: NodeJS.Signals) => void
  /** Ends the process with SIGKILL and starts it again on what it had on disk. Comes back when it answers. */
  readonly restart: (downMs?: number) => Promise<void>
  /** Stops the process and removes its folder. */
  readonly stop: () => Promise<void>
}

const running = new Set<ChildProcess>()
process.once("exit", () => running.forEach((child) => child.kill("SIGKILL")))

/** Put before a command: `setpriv --pdeathsig` ends that process with this process, even when this process is killed. */
export const dieWithParent = ((): ReadonlyArray<string> => {
  try {
    execFileSync("setpriv", ["--pdeathsig", "KILL", "true"], { stdio: "ignore" })
    return ["setpriv", "--pdeathsig", "KILL", "--"]
  } catch {
    return []
  }
})()

/** Asks the system for `count` loopback ports that are free now. */
export const freePorts = async (count: number): Promise<ReadonlyArray<number>> => {
  const listeners = await Promise.all(Array.from({ length: count }, () =>
    new Promise<Net.Server>((resolve, reject) => {
      const listener = Net.createServer().once("error", reject)
      listener.listen(0, "127.0.0.1", () => resolve(listener))
    })))
  const ports = listeners.map((listener) => (listener.address() as Net.AddressInfo).port)
  await Promise.all(listeners.map((listener) => new Promise((resolve) => listener.close(resolve))))
  return ports
}

export interface Options {
  readonly name: string
  readonly program: string
  readonly port: number
  readonly url: string
  readonly args: (dir: string) => ReadonlyArray<string>
  readonly ready: () => Promise<boolean>
  readonly timeoutMs?: number
  readonly env?: Readonly<Record<string, string>>
}

/** Starts a server in a new folder under the system's temporary folder and waits until it answers. */
export const start = async (options: Options): Promise<Server> => {
  const dir = Fs.mkdtempSync(Path.join(Os.tmpdir(), `dlock-${options.name}-`))
  const log = Path.join(dir, "server.log")
  const [file, ...args] = [...dieWithParent, options.program, ...options.args(dir)] as [string, ...Array<string>]
  let child: ChildProcess
  let gone = Promise.resolve()
  const launch = () => {
    const output = Fs.openSync(log, "a")
    // In a separate process group: Ctrl-C in a terminal is for this process, whose clients may still have locks to release.
    const launched = spawn(file, args, {
      cwd: dir,
      stdio: ["ignore", output, output],
      detached: true,
      env: { ...process.env, ...options.env }
    })
    Fs.closeSync(output)
    running.add(launched)
    gone = new Promise<void>((resolve) => {
      launched.once("exit", () => resolve())
      launched.once("error", () => resolve())
    }).then(() => void running.delete(launched))
    child = launched
  }
  const kill = async () => {
    child.kill("SIGKILL")
    await gone
  }
  const stop = async () => {
    await kill()
    Fs.rmSync(dir, { recursive: true, force: true })
  }
  const answers = async () => {
    const deadline = Date.now() + (options.timeoutMs ?? 20_000)
    while (true) {
      if (running.has(child) && await options.ready().catch(() => false)) break
      if (!running.has(child) || Date.now() > deadline) {
        const tail = Fs.readFileSync(log, "utf8").trimEnd().split("\n").slice(-15).join("\n")
        await stop()
        throw new Error(`${options.program} did not start on port ${options.port}:\n${tail}`)
      }
      await sleep(20)
    }
  }
  launch()
  await answers()
  return {
    get pid() {
      return child.pid as number
    },
    port: options.port,
    url: options.url,
    dir,
    signal: (signal) => sendSignal(child, signal),
    restart: async (downMs = 0) => {
      await kill()
      await sleep(downMs)
      launch()
      await answers()
    },
    stop
  }
}

/** Another program may take a free port before the server does: try again on others. */
export const retry = async <A>(attempt: () => Promise<A>, times = 3): Promise<A> => {
  for (let n = 1;; n++) {
    try {
      return await attempt()
    } catch (error) {
      if (n === times) throw error
    }
  }
}

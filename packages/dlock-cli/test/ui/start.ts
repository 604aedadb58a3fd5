/** What the tests of the page and the programs that draw it start. */
import { startWorker, type Worker } from "dlock-testing"
import { type ChildProcess, spawn } from "node:child_process"
import * as Path from "node:path"
import type { Order, Report } from "./caller.ts"

export type Driver = "redis" | "etcd"

const program = Path.resolve(import.meta.dirname, "../../src/dlock.ts")

/** A running `dlock ui`. */
export interface Ui {
  /** The address that it has printed, with the word. */
  readonly url: string
  readonly isReadOnly: boolean | undefined
  readonly pid: number
  readonly port: number
  readonly word: string
  readonly errors: () => string
  readonly stop: () => Promise<number | null>
}

const running = new Set<ChildProcess>()
process.once("exit", () => running.forEach((child) => child.kill("SIGKILL")))

/** Starts the program as a user does, and waits until it has printed its address. */
export const startUi = async (
  driver: Driver,
  url: string,
  args: ReadonlyArray<string> = [],
  env: Readonly<Record<string, string>> = {}
): Promise<Ui> => {
  const address = driver === "redis" ? { DLOCK_REDIS_URL: url } : { DLOCK_ETCD_HOSTS: url }
  const child: ChildProcess = spawn(process.execPath, [program, "ui", ...args], {
    env: { ...withoutLocks(process.env), ...address, ...env },
    stdio: ["ignore", "pipe", "pipe"]
  })
  running.add(child)
  child.once("exit", () => running.delete(child))
  const ended = new Promise<number | null>((resolve) => child.once("exit", resolve))
  let errors = ""
  child.stderr!.on("data", (chunk: Buffer) => errors += chunk)
  const line = await new Promise<string>((resolve, reject) => {
    let output = ""
    child.stdout!.on("data", (chunk: Buffer) => {
      output += chunk
      if (output.includes("\n")) resolve(output.split("\n")[0]!)
    })
    void ended.then((code) => reject(new Error(`dlock ui ended with ${code}: ${errors}`)))
  })
  // With --json it is JSON.
  const { isReadOnly, url: printed } = line.startsWith("{")
    ? JSON.parse(line) as { readonly url: string; readonly isReadOnly: boolean }
    : { url: line, isReadOnly: undefined }
  const { pathname, port } = new URL(printed)
  return {
    url: printed,
    isReadOnly,
    pid: child.pid!,
    port: Number(port),
    word: pathname.split("/")[1]!,
    errors: () => errors,
    stop: () => {
      child.kill("SIGTERM")
      return ended
    }
  }
}

/** The variables of this process without those that name a server. */
const withoutLocks = (env: NodeJS.ProcessEnv): NodeJS.ProcessEnv =>
  Object.fromEntries(Object.entries(env).filter(([name]) => !name.startsWith("DLOCK_")))

export interface Caller {
  readonly worker: Worker<Report>
  readonly order: (order: Order) => void
  /** Waits until it holds a lock that it was told to hold. */
  readonly held: (key: string) => Promise<void>
  /** Holds a lock, and waits until it does. */
  readonly hold: (key: string, more?: Omit<Extract<Order, { readonly hold: string }>, "hold">) => Promise<void>
}

/** A process of its own that holds locks under this name. */
export const startCaller = (driver: Driver, url: string, holder: string, prefix = "dlock:"): Caller => {
  const worker = startWorker<Report>(Path.join(import.meta.dirname, "caller.ts"), {
    args: [driver, url, holder, prefix]
  })
  const held = async (key: string) => {
    await worker.waitFor((report) => "held" in report && report.held === key, 15_000)
  }
  return {
    worker,
    order: (order) => worker.send(order),
    held,
    hold: (key, more) => {
      worker.send({ hold: key, ...more })
      return held(key)
    }
  }
}

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
  readonly pid: number
  readonly port: number
  readonly word: string
  readonly errors: () => string
  readonly stop: () => Promise<number | null>
}

/** Starts the program as a user does, and waits until it has printed its address. */
export const startUi = async (driver: Driver, url: string, args: ReadonlyArray<string> = []): Promise<Ui> => {
  const address = driver === "redis" ? { DLOCK_REDIS_URL: url } : { DLOCK_ETCD_HOSTS: url }
  const child: ChildProcess = spawn(process.execPath, [program, "ui", ...args], {
    env: { ...withoutLocks(process.env), ...address },
    stdio: ["ignore", "pipe", "pipe"]
  })
  process.once("exit", () => child.kill("SIGKILL"))
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
  const { pathname, port } = new URL(line)
  return {
    url: line,
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
  /** Holds a lock, and waits until it does. */
  readonly hold: (key: string, more?: Omit<Extract<Order, { readonly hold: string }>, "hold">) => Promise<void>
}

/** A process of its own that holds locks under this name. */
export const startCaller = (driver: Driver, url: string, holder: string, prefix = "dlock:"): Caller => {
  const worker = startWorker<Report>(Path.join(import.meta.dirname, "caller.ts"), {
    args: [driver, url, holder, prefix]
  })
  return {
    worker,
    order: (order) => worker.send(order),
    hold: async (key, more) => {
      worker.send({ hold: key, ...more })
      await worker.waitFor((report) => "held" in report && report.held === key, 15_000)
    }
  }
}

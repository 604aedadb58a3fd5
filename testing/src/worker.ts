import { spawn } from "node:child_process"
import * as Readline from "node:readline"
import { dieWithParent } from "./server.ts"
import { sendSignal } from "./signal.ts"

/** A TypeScript program in a separate operating-system process, which reports in lines of JSON. */
export interface Worker<Message> {
  readonly pid: number
  /** Every message so far, in order. */
  readonly messages: ReadonlyArray<Message>
  /** What else it wrote, to either stream: for failing tests to show. */
  readonly output: () => string
  /** The first message that fits, past or to come. Fails after the time limit, and when the process ends without it. */
  readonly waitFor: {
    <M extends Message>(fits: (message: Message) => message is M, limitMs?: number): Promise<M>
    (fits: (message: Message) => boolean, limitMs?: number): Promise<Message>
  }
  /** Sends one line of JSON to its standard input. */
  readonly send: (message: unknown) => void
  /** Sends one signal, for example SIGSTOP, SIGCONT, SIGTERM or SIGKILL. */
  readonly signal: (signal: NodeJS.Signals) => void
  readonly exited: Promise<{ readonly code: number | null; readonly signal: NodeJS.Signals | null }>
  /** Ends it with SIGKILL, by pid, and waits until it is gone. */
  readonly kill: () => Promise<void>
}

export interface WorkerOptions {
  readonly args?: ReadonlyArray<string>
  readonly env?: Readonly<Record<string, string>>
  /** Options of Node.js itself, for example `--max-old-space-size=64`. */
  readonly execArgv?: ReadonlyArray<string>
}

const parse = (line: string): unknown => {
  if (!line.startsWith("{")) return undefined
  try {
    return JSON.parse(line)
  } catch {
    return undefined
  }
}

/** Starts `file`. The process dies with this one, even when this one is killed. */
export const startWorker = <Message extends object = Record<string, unknown>>(
  file: string,
  options: WorkerOptions = {}
): Worker<Message> => {
  const [program, ...args] = [
    ...dieWithParent,
    process.execPath,
    ...(options.execArgv ?? []),
    file,
    ...(options.args ?? [])
  ] as [string, ...Array<string>]
  const { NODE_OPTIONS: _, ...env } = process.env
  const child = spawn(program, args, { stdio: ["pipe", "pipe", "pipe"], env: { ...env, ...options.env } })
  const messages: Array<Message> = []
  const waiters = new Set<() => void>()
  let output = ""
  let ended: string | undefined
  const wake = () => waiters.forEach((check) => check())
  const lines = Readline.createInterface({ input: child.stdout })
  lines.on("line", (line) => {
    const message = parse(line)
    if (message === undefined) {
      output += `${line}\n`
      return
    }
    messages.push(message as Message)
    wake()
  })
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    output += text
  })
  child.stdin.on("error", () => {})
  const exited = new Promise<{ readonly code: number | null; readonly signal: NodeJS.Signals | null }>((resolve) => {
    // "close" comes after the last line was read.
    child.once("close", (code, signal) => {
      ended = signal === null ? `ended with code ${code}` : `was ended by ${signal}`
      wake()
      resolve({ code, signal })
    })
    child.once("error", (error) => {
      ended = `did not start: ${error.message}`
      wake()
      resolve({ code: null, signal: null })
    })
  })
  const waitFor = (fits: (message: Message) => boolean, limitMs = 30_000): Promise<Message> =>
    new Promise((resolve, reject) => {
      const done = () => {
        clearTimeout(timer)
        waiters.delete(check)
      }
      const fail = (why: string) => {
        done()
        reject(new Error(`${file} ${why}.\nMessages: ${JSON.stringify(messages.slice(-20))}\nOutput: ${output}`))
      }
      let seen = 0
      const check = () => {
        for (; seen < messages.length; seen++) {
          const message = messages[seen] as Message
          if (!fits(message)) continue
          done()
          return resolve(message)
        }
        if (ended !== undefined) fail(`${ended} before the message came`)
      }
      const timer = setTimeout(() => fail(`sent no such message within ${limitMs} ms`), limitMs)
      waiters.add(check)
      check()
    })
  return {
    pid: child.pid ?? -1,
    messages,
    output: () => output,
    waitFor: waitFor as Worker<Message>["waitFor"],
    send: (message) => void child.stdin.write(`${JSON.stringify(message)}\n`),
    signal: (signal) => sendSignal(child, signal),
    exited,
    kill: async () => {
      if (ended === undefined) child.kill("SIGKILL")
      await exited
    }
  }
}

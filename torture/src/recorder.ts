import { startWorker } from "dlock-testing"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Readline from "node:readline"
import type { Limits } from "./checker.ts"
import type { Recorded, Told } from "./events.ts"
import { LeaseHistories } from "./leaseHistories.ts"
import type { State } from "./resource.ts"
import { ResourceClient } from "./resourceClient.ts"

/** The resource's process, as the harness sees it. */
export interface Recorder {
  readonly port: number
  readonly tell: (told: Told) => void
  /** Who is inside right now. */
  readonly present: () => Promise<ReadonlyArray<{ readonly key: string; readonly who: string }>>
  readonly state: () => Promise<State>
  /** Checks what was still open: nothing more will come. */
  readonly settle: () => Promise<State>
  /** Ends the process, with a complete history. */
  readonly end: () => Promise<void>
  /** The histories of the leases, checked by themselves. After the end. */
  readonly histories: () => Promise<ReturnType<LeaseHistories["check"]>>
  /** Ends the process. With `keep` the history stays, and its path is returned. */
  readonly stop: (keep: boolean) => Promise<string | undefined>
}

const folder = Path.resolve(import.meta.dirname, "../../.cache/torture")

/** Without `name` no history is written: that of a run without faults would be too large. */
export const startRecorder = async (limits: Partial<Limits>, name?: string): Promise<Recorder> => {
  if (name !== undefined) Fs.mkdirSync(folder, { recursive: true })
  const file = name === undefined ? "" : Path.join(folder, `${name}.ndjson`)
  const worker = startWorker<{ readonly port: number }>(Path.join(import.meta.dirname, "resource.ts"), {
    args: [file, JSON.stringify(limits)]
  })
  const { port } = await worker.waitFor((message) => message.port > 0, 20_000)
  let ended: Promise<void> | undefined
  const end = async () => {
    client.close()
    worker.send({ stop: true })
    await Promise.race([worker.exited, new Promise((resolve) => setTimeout(resolve, 5_000))])
    await worker.kill()
  }
  const client = await ResourceClient.open(port, "harness")
  return {
    port,
    tell: (told) => client.tell(told),
    present: () => client.query("present"),
    state: () => client.query("state"),
    settle: () => client.query("settle"),
    end: () => ended ??= end(),
    histories: async () => {
      const histories = new LeaseHistories()
      const lines = Readline.createInterface({ input: Fs.createReadStream(file) })
      for await (const text of lines) if (text.endsWith("}")) histories.add(JSON.parse(text) as Recorded)
      return histories.check()
    },
    stop: async (keep) => {
      await (ended ??= end())
      if (file === "") return undefined
      if (!keep) Fs.rmSync(file, { force: true })
      return keep && Fs.existsSync(file) ? Path.relative(process.cwd(), file) : undefined
    }
  }
}

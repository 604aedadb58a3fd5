import { startWorker } from "dlock-testing"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Readline from "node:readline"
import { Beliefs } from "./beliefs.ts"
import type { Recorded, Told } from "./events.ts"
import type { Limits } from "./judge.ts"
import { Line } from "./line.ts"
import type { State } from "./resource.ts"

/** The resource's process, as the harness sees it. */
export interface Recorder {
  readonly port: number
  readonly tell: (told: Told) => void
  /** Who is inside right now. */
  readonly present: () => Promise<ReadonlyArray<{ readonly key: string; readonly who: string }>>
  readonly state: () => Promise<State>
  /** Judges what was still open: nothing more will come. */
  readonly settle: () => Promise<State>
  /** Ends the process, with a history that is whole. */
  readonly end: () => Promise<void>
  /** What its holders believed, judged apart. After the end. */
  readonly beliefs: () => Promise<ReturnType<Beliefs["judge"]>>
  /** Ends the process. The history stays, where it is wanted, and its path is returned. */
  readonly stop: (keep: boolean) => Promise<string | undefined>
}

const folder = Path.resolve(import.meta.dirname, "../../.cache/torture")

/** Without `name` no history is written: of a run without faults there is too much of it. */
export const startRecorder = async (limits: Partial<Limits>, name?: string): Promise<Recorder> => {
  if (name !== undefined) Fs.mkdirSync(folder, { recursive: true })
  const file = name === undefined ? "" : Path.join(folder, `${name}.ndjson`)
  const worker = startWorker<{ readonly port: number }>(Path.join(import.meta.dirname, "resource.ts"), {
    args: [file, JSON.stringify(limits)]
  })
  const { port } = await worker.waitFor((message) => message.port > 0, 20_000)
  let ended: Promise<void> | undefined
  const end = async () => {
    line.close()
    worker.send({ stop: true })
    await Promise.race([worker.exited, new Promise((resolve) => setTimeout(resolve, 5_000))])
    await worker.kill()
  }
  const line = await Line.open(port, "harness")
  return {
    port,
    tell: (told) => line.tell(told),
    present: () => line.query("present"),
    state: () => line.query("state"),
    settle: () => line.query("settle"),
    end: () => ended ??= end(),
    beliefs: async () => {
      const beliefs = new Beliefs()
      const lines = Readline.createInterface({ input: Fs.createReadStream(file) })
      for await (const text of lines) if (text.endsWith("}")) beliefs.add(JSON.parse(text) as Recorded)
      return beliefs.judge()
    },
    stop: async (keep) => {
      await (ended ??= end())
      if (file === "") return undefined
      if (!keep) Fs.rmSync(file, { force: true })
      return keep && Fs.existsSync(file) ? Path.relative(process.cwd(), file) : undefined
    }
  }
}

import { startWorker, type Worker } from "dlock-testing"
import type { Contender } from "./contenders/index.ts"
import type { Answers, Job, Message } from "./jobs.ts"

/** One process of a contender. */
export interface ContenderProcess {
  readonly contender: Contender
  /** Has it do a job. Fails after the limit, and when the job fails. */
  readonly call: <Name extends Job["do"]>(
    job: Job & { readonly do: Name },
    limitMs?: number
  ) => Promise<Answers[Name]>
  readonly kill: () => Promise<void>
}

const file = `${import.meta.dirname}/worker.ts`

export const startContender = async (
  contender: Contender,
  url: string,
  options: { readonly ttl?: number; readonly gc?: boolean } = {}
): Promise<ContenderProcess> => {
  const worker: Worker<Message> = startWorker<Message>(file, {
    args: [contender.name, url, String(options.ttl ?? 30_000)],
    execArgv: options.gc === true ? ["--expose-gc"] : []
  })
  await worker.waitFor((message) => "ready" in message, 30_000)
  let jobs = 0
  return {
    contender,
    call: async (job, limitMs = 60_000) => {
      const id = jobs++
      worker.send({ id, job })
      const isAnswer = (message: Message): message is Extract<Message, { id: number }> =>
        "id" in message && message.id === id
      const answered = await worker.waitFor(isAnswer, limitMs)
      if ("failed" in answered) throw new Error(`${contender.name}, told to ${job.do}: ${answered.failed}`)
      return answered.answer as never
    },
    kill: worker.kill
  }
}

/** The processes of all contenders in one run: started when first needed, and then kept, so that they stay warm. */
export class ProcessPool {
  private readonly processes = new Map<Contender, Array<ContenderProcess>>()

  async get(contender: Contender, url: string, count: number): Promise<ReadonlyArray<ContenderProcess>> {
    const processes = this.processes.get(contender) ?? []
    this.processes.set(contender, processes)
    const missing = Array.from({ length: count - processes.length }, () => startContender(contender, url))
    processes.push(...await Promise.all(missing))
    return processes.slice(0, count)
  }

  /** For one that is in no state to go on. */
  async replace(contender: Contender): Promise<void> {
    const processes = this.processes.get(contender) ?? []
    this.processes.delete(contender)
    await Promise.all(processes.map((one) => one.kill()))
  }

  async stop(): Promise<void> {
    await Promise.all([...this.processes.values()].flat().map((one) => one.kill()))
    this.processes.clear()
  }
}

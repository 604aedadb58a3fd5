import { startWorker, type Worker } from "dlock-testing"
import type { Contender } from "./contenders/index.ts"
import type { Answers, Job, Message } from "./jobs.ts"

/** One process of a contender. */
export interface Member {
  readonly contender: Contender
  /** Has it do a job. Fails after the limit, and when the job fails. */
  readonly call: <Name extends Job["do"]>(
    job: Job & { readonly do: Name },
    limitMs?: number
  ) => Promise<Answers[Name]>
  readonly kill: () => Promise<void>
}

const file = `${import.meta.dirname}/worker.ts`

export const startMember = async (
  contender: Contender,
  url: string,
  options: { readonly ttl?: number; readonly gc?: boolean } = {}
): Promise<Member> => {
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
export class Crew {
  private readonly members = new Map<Contender, Array<Member>>()

  async of(contender: Contender, url: string, count: number): Promise<ReadonlyArray<Member>> {
    const members = this.members.get(contender) ?? []
    this.members.set(contender, members)
    const missing = Array.from({ length: count - members.length }, () => startMember(contender, url))
    members.push(...await Promise.all(missing))
    return members.slice(0, count)
  }

  /** For one that is in no state to go on. */
  async replace(contender: Contender): Promise<void> {
    const members = this.members.get(contender) ?? []
    this.members.delete(contender)
    await Promise.all(members.map((member) => member.kill()))
  }

  async dismiss(): Promise<void> {
    await Promise.all([...this.members.values()].flat().map((member) => member.kill()))
    this.members.clear()
  }
}

// One contender in a separate process, which does the jobs that the benchmark sends it.
import { onMessage, report } from "dlock-testing/report"
import type { Task } from "./contenders/contender.ts"
import { named } from "./contenders/index.ts"
import { type Answers, type Job, now, type Usage } from "./jobs.ts"
import { profiled } from "./measure/profile.ts"
import { isAlone, type Slice } from "./measure/sections.ts"

const [name, url, ttl] = process.argv.slice(2) as [string, string, string]
const { open } = await named(name).load()
const contender = await open(url, Number(ttl))

const cpuTime = (): number => {
  const { system, user } = process.cpuUsage()
  return (system + user) / 1_000
}

const slice = async ({ bodyMs, keys, lock, ms }: Extract<Job, { do: "slice" }>): Promise<Slice> => {
  const failures: Array<string> = []
  const before = cpuTime()
  const until = now() + ms
  const writeEvery = lock?.kind === "readWrite" ? lock.writeEvery : Infinity
  const tasks = keys.map((key, index) => {
    const times: Array<number> = []
    const permits: Array<number> = []
    let [asked, writes] = [0, false]
    // Not all write at the same time.
    let section = 3 * index
    const task: Task = {
      key,
      lock,
      ms: bodyMs,
      writes: () => (writes = ++section % writeEvery === 0),
      again: () => (asked = now()) < until,
      entered: () => {
        times.push(asked, now())
        permits.push(writes ? isAlone : 1)
      },
      left: () => times.push(now()),
      failed: (error) => {
        times.length -= times.length % 3
        permits.length = times.length / 3
        failures.push(String(error))
      }
    }
    return { task, times, permits }
  })
  await contender.run(tasks.map(({ task }) => task))
  return {
    until,
    tasks: tasks.map(({ permits, task: { key }, times }) => ({ key, times, ...(lock !== undefined && { permits }) })),
    cpu: cpuTime() - before,
    failures
  }
}

let gate = Promise.withResolvers<void>()
let held: Promise<unknown> = Promise.resolve()

const hold = async ({ form, keys }: Extract<Job, { do: "hold" }>): Promise<object> => {
  const holding: Array<Promise<void>> = []
  if (form === "lease") {
    await new Promise<void>((resolve, reject) => {
      let count = 0
      const one = () => {
        if (++count === keys.length) resolve()
      }
      holding.push(contender.hold!(keys, gate.promise, one))
      holding[0]!.catch(reject)
    })
  } else {
    // By the hundred: how many a library can ask for at once is not what this is about.
    for (let from = 0; from < keys.length; from += 100) {
      await Promise.all(
        keys.slice(from, from + 100).map((key) =>
          new Promise<void>((resolve, reject) => {
            const body = () => {
              resolve()
              return gate.promise
            }
            const section = form === "bare" ? contender.bare(body) : contender.section(key, body)
            section.catch(reject)
            holding.push(section)
          })
        )
      )
    }
  }
  held = Promise.allSettled(holding)
  return {}
}

const release = async (): Promise<Answers["release"]> => {
  const at = now()
  gate.resolve()
  await held
  gate = Promise.withResolvers()
  return { at }
}

let queue: Promise<Answers["drain"]> | undefined

const enqueue = ({ count, key }: Extract<Job, { do: "queue" }>): object => {
  const times: Array<number> = []
  const failures: Array<string> = []
  const section = () =>
    contender.section(key, async () => {
      const enteredAt = now()
      times.push(enteredAt, now())
    }).catch((error) => void failures.push(String(error)))
  queue = Promise.all(Array.from({ length: count }, section)).then(() => ({ times, failures }))
  return {}
}

const usage = (): Usage => {
  const cpu = cpuTime()
  for (let n = 0; n < 3; n++) globalThis.gc?.()
  return { cpu, heap: process.memoryUsage().heapUsed }
}

const doJob = (job: Job): object | Promise<object> => {
  switch (job.do) {
    case "slice":
      return job.isProfiled === true
        ? profiled(() => slice(job)).then(({ profile, result }) => ({ ...result, profile }))
        : slice(job)
    case "hold":
      return hold(job)
    case "release":
      return release()
    case "queue":
      return enqueue(job)
    case "drain":
      return queue!
    case "usage":
      return usage()
  }
}

// A library that throws into the void must not end the process in the middle of others' figures.
process.on("unhandledRejection", (error) => console.error("unhandled rejection:", error))
onMessage((message) => {
  const { id, job } = message as { readonly id: number; readonly job: Job }
  const answered = async () => report({ id, answer: await doJob(job) })
  answered().catch((error) => report({ id, failed: String(error) }))
})
report({ ready: true })

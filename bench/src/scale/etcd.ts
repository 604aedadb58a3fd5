/**
 * What a lock costs an etcd and its clients that 1, 10, 100 or 1,000 separate clients want for ever, all from the same moment on:
 * `node bench/src/scale/etcd.ts [CLIENTS...]`. The bodies take 5 ms, so that there are at most some 190 sections a second.
 */
import { startEtcd, startWorker } from "dlock-testing"
import * as Fs from "node:fs"
import { setTimeout as sleep } from "node:timers/promises"
import { counter } from "../measure/requests.ts"
import { sum } from "../measure/stats.ts"
import { table } from "../report/table.ts"
import { digits } from "../workloads/workload.ts"

type Message = { readonly ready: true } | Count
interface Count {
  /** It answers this question. */
  readonly nth: number
  readonly sections: number
  readonly failures: number
  readonly cpu: number
}

/** Milliseconds of processor time that a process has used. */
const cpuOf = (pid: number): number => {
  const stat = Fs.readFileSync(`/proc/${pid}/stat`, "utf8")
  const [user, system] = stat.slice(stat.lastIndexOf(")") + 2).split(" ").slice(11, 13)
  return (Number(user) + Number(system)) * 10
}

const measured = 10

const row = async (clients: number): Promise<ReadonlyArray<string>> => {
  const server = await startEtcd()
  const requests = counter("etcd", server.url)
  const count = Math.min(2, clients)
  const workers = Array.from({ length: count }, () =>
    startWorker<Message>(`${import.meta.dirname}/clients.ts`, {
      args: [server.url, String(Math.ceil(clients / count)), "5"]
    }))
  try {
    await Promise.all(workers.map((worker) => worker.waitFor((message) => "ready" in message, 120_000)))
    let nth = 0
    const read = async (): Promise<Count> => {
      const asked = nth++
      const counts = await Promise.all(workers.map((worker) => {
        const counted = worker.waitFor((message): message is Count => "nth" in message && message.nth === asked)
        worker.send(asked)
        return counted
      }))
      return {
        nth: asked,
        sections: sum(counts.map((one) => one.sections)),
        failures: sum(counts.map((one) => one.failures)),
        cpu: sum(counts.map((one) => one.cpu))
      }
    }
    for (const worker of workers) worker.send("begin")
    // The first second in which half of what one client would do is done.
    let begun = 0
    for (let before = 0; begun < 60; begun++) {
      await sleep(1_000)
      const { sections } = await read()
      if (sections - before > 40) break
      before = sections
    }
    const [from, sentFrom, cpuFrom, at] = [await read(), await requests.read([]), cpuOf(server.pid), performance.now()]
    await sleep(measured * 1_000)
    const [to, sentTo, cpuTo] = [await read(), await requests.read([]), cpuOf(server.pid)]
    const seconds = (performance.now() - at) / 1_000
    const sections = to.sections - from.sections
    return [
      String(clients),
      String(begun + 1),
      digits(0)(sections / seconds),
      digits(1)((sentTo - sentFrom) / sections),
      digits(1)((cpuTo - cpuFrom) / sections),
      digits(1)((to.cpu - from.cpu) / sections),
      String(to.failures)
    ]
  } finally {
    requests.stop()
    await Promise.all(workers.map((worker) => worker.kill()))
    await server.stop()
  }
}

const chosen = process.argv.slice(2).map(Number)
const rows: Array<ReadonlyArray<string>> = []
for (const clients of chosen.length > 0 ? chosen : [1, 10, 100, 1_000]) rows.push(await row(clients))
console.log(table([
  [
    "clients",
    "s until they run",
    "sections/s",
    "requests a section",
    "server CPU, ms",
    "client CPU, ms",
    "failed acquires"
  ],
  ...rows
], [0]))
process.exit(0)

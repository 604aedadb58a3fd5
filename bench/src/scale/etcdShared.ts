/**
 * What a hand-over of a semaphore of 4 costs an etcd with 25, 200 or 400 waiters in 4 processes: the release of a permit and the
 * next grant, and the request with which the released one waits again. `node bench/src/scale/etcdShared.ts [WAITERS...]`
 */
import { startEtcd, startWorker } from "dlock-testing"
import { setTimeout as sleep } from "node:timers/promises"
import { percentile } from "../measure/stats.ts"
import { table } from "../report/table.ts"
import { digits } from "../workloads/workload.ts"

type Message = { readonly ready: true } | Times
interface Times {
  /** It answers this question. */
  readonly nth: number
  /** When permits were granted and given back, in milliseconds of a clock that all processes share. */
  readonly grants: ReadonlyArray<number>
  readonly releases: ReadonlyArray<number>
}

const permits = 4
const processes = 4
const bodyMs = 20
const measured = 8

/** What the server has received and sent so far. */
const traffic = async (url: string): Promise<{ readonly transactions: number; readonly bytes: number }> => {
  const metrics = await (await fetch(`${url}/metrics`)).text()
  const read = (name: RegExp): number => Number(name.exec(metrics)?.[1] ?? 0)
  return {
    transactions: read(/^grpc_server_msg_received_total\{grpc_method="Txn".*\} (\S+)$/m),
    bytes: read(/^etcd_network_client_grpc_sent_bytes_total (\S+)$/m)
  }
}

const row = async (waiters: number): Promise<ReadonlyArray<string>> => {
  const server = await startEtcd()
  const count = Math.ceil((waiters + permits) / processes)
  const workers = Array.from({ length: processes }, () =>
    startWorker<Message>(`${import.meta.dirname}/sharers.ts`, {
      args: [server.url, String(count), String(permits), String(bodyMs)]
    }))
  try {
    await Promise.all(workers.map((worker) => worker.waitFor((message) => "ready" in message, 120_000)))
    const read = (nth: number): Promise<ReadonlyArray<Times>> =>
      Promise.all(workers.map((worker) => {
        const counted = worker.waitFor((message): message is Times => "nth" in message && message.nth === nth)
        worker.send(nth)
        return counted
      }))
    for (const worker of workers) worker.send("begin")
    // All are in the queue, and the first ones wait for the second time.
    await sleep(3_000 + 10 * waiters)
    await read(1)
    const before = await traffic(server.url)
    await sleep(measured * 1_000)
    const after = await traffic(server.url)
    const times = await read(2)
    const releases = times.flatMap((one) => one.releases).toSorted((a, b) => a - b)
    // A permit that is given back is granted next, so each grant follows the last release that no grant has followed yet.
    const grants = times.flatMap((one) => one.grants).toSorted((a, b) => a - b).filter((at) => at > releases[0]!)
    const took = grants.slice(0, releases.length).map((at, index) => at - releases[index]!).toSorted((a, b) => a - b)
    const handOvers = grants.length
    return [
      String(waiters),
      digits(0)(handOvers / measured),
      digits(2)((after.transactions - before.transactions) / handOvers),
      digits(2)((after.bytes - before.bytes) / handOvers / 1_024),
      digits(1)(percentile(took, 0.5)),
      digits(1)(percentile(took, 0.99))
    ]
  } finally {
    await Promise.all(workers.map((worker) => worker.kill()))
    await server.stop()
  }
}

const chosen = process.argv.slice(2).map(Number)
const rows: Array<ReadonlyArray<string>> = []
for (const waiters of chosen.length > 0 ? chosen : [25, 200, 400]) rows.push(await row(waiters))
console.log(table([
  ["waiters", "hand-overs/s", "transactions each", "KiB sent by the server", "ms, median", "ms, p99"],
  ...rows
], [0]))
process.exit(0)

// Many separate clients in one process, each a locker with its own connections, that all wait for one lock for ever.
import { onMessage, report } from "dlock-testing/report"
import { setTimeout as sleep } from "node:timers/promises"
import { open } from "../contenders/ours-etcd.ts"

const [url, count, bodyMs] = process.argv.slice(2) as [string, string, string]
const locks = await Promise.all(Array.from({ length: Number(count) }, () => open(url, 120_000)))
let sections = 0
let failures = 0

onMessage((message) => {
  if (typeof message === "number") {
    const { system, user } = process.cpuUsage()
    return report({ nth: message, sections, failures, cpu: (system + user) / 1_000 })
  }
  for (const lock of locks) void run(lock)
})

const run = async (lock: (typeof locks)[number]): Promise<never> => {
  for (;;) {
    try {
      await lock.section("hot", () => sleep(Number(bodyMs)))
      sections++
    } catch {
      failures++
      await sleep(50)
    }
  }
}

report({ ready: true })

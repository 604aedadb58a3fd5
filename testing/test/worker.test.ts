import * as Fs from "node:fs"
import * as Path from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { expect, test } from "vitest"
import { startWorker } from "../src/index.ts"

const program = (name: string): string => Path.join(import.meta.dirname, "programs", name)

/** A process that ended counts as gone even before anyone has collected it. */
const alive = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return Fs.existsSync("/proc/self/stat") ? !/\) [ZX]/.test(Fs.readFileSync(`/proc/${pid}/stat`, "utf8")) : true
  } catch {
    return false
  }
}

test("a worker answers, keeps what is no message apart, and is killed by pid", async () => {
  const worker = startWorker(program("child.ts"), { args: ["--x"] })
  const ready = await worker.waitFor((message) => "ready" in message)
  expect(ready).toEqual({ ready: worker.pid, args: ["--x"] })
  worker.send({ n: 1 })
  expect(await worker.waitFor((message) => "echo" in message)).toEqual({ echo: { n: 1 } })
  expect(worker.output()).toBe("not a message\n")
  await expect(worker.waitFor((message) => "never" in message, 50)).rejects.toThrow("no such message within 50 ms")
  await worker.kill()
  expect(alive(worker.pid)).toBe(false)
  expect((await worker.exited).signal).toBe("SIGKILL")
  await expect(worker.waitFor((message) => "never" in message)).rejects.toThrow("was ended by SIGKILL")
})

test("a worker that fails says why", async () => {
  const worker = startWorker(program("missing.ts"))
  await expect(worker.waitFor(() => true)).rejects.toThrow(/ended with code 1[^]*missing\.ts/)
})

test("a worker dies with its parent, even when that is killed", async () => {
  const parent = startWorker(program("parent.ts"))
  const { child } = await parent.waitFor((message) => "child" in message) as { child: number }
  expect(alive(child)).toBe(true)
  await parent.kill()
  for (let n = 0; alive(child) && n < 200; n++) await sleep(10)
  expect(alive(child)).toBe(false)
})

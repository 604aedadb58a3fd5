import type { ChildProcess } from "node:child_process"
import * as Fs from "node:fs"

/**
 * Sends a signal. Returns after a SIGSTOP when every thread of the process has stopped: on a busy machine the thread that takes
 * the signal waits for a processor, and meanwhile another thread may answer a request that a test has sent after the signal.
 */
export const sendSignal = (child: ChildProcess, signal: NodeJS.Signals): void => {
  if (!child.kill(signal) || signal !== "SIGSTOP" || child.pid === undefined) return
  const until = performance.now() + 2_000
  while (!hasStopped(child.pid) && performance.now() < until) {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1)
  }
}

/** True where the system does not tell. */
const hasStopped = (pid: number): boolean => {
  try {
    const tasks = `/proc/${pid}/task`
    return Fs.readdirSync(tasks).every((task) => {
      const stat = Fs.readFileSync(`${tasks}/${task}/stat`, "utf8")
      return /^[TtZX]/.test(stat.slice(stat.lastIndexOf(")") + 2))
    })
  } catch {
    return true
  }
}

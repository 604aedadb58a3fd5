import { execFileSync } from "node:child_process"
import * as Fs from "node:fs"

interface Process {
  readonly pid: number
  readonly parent: number
  readonly group: number
}

/** The processes of the machine, without those that have ended and that nobody has waited for. */
const processes = (): ReadonlyArray<Process> => {
  let names: ReadonlyArray<string>
  try {
    names = Fs.readdirSync("/proc").filter((name) => /^\d+$/.test(name))
    if (names.length === 0) return fromPs()
  } catch {
    return fromPs()
  }
  return names.flatMap((name) => {
    try {
      const stat = Fs.readFileSync(`/proc/${name}/stat`, "latin1")
      // The name of the program is in parentheses, and may contain some.
      const [state, parent, group] = stat.slice(stat.lastIndexOf(")") + 2).split(" ", 3)
      return hasEnded(state) ? [] : [{ pid: Number(name), parent: Number(parent), group: Number(group) }]
    } catch {
      return []
    }
  })
}

const fromPs = (): ReadonlyArray<Process> =>
  execFileSync("ps", ["-A", "-o", "pid=,ppid=,pgid=,stat="], { encoding: "utf8" }).split("\n").flatMap((line) => {
    const [pid, parent, group, state] = line.trim().split(/\s+/)
    return state === undefined || hasEnded(state)
      ? []
      : [{ pid: Number(pid), parent: Number(parent), group: Number(group) }]
  })

const hasEnded = (state: string | undefined): boolean => /^[ZX]/.test(state ?? "")

/** Whether a process is left in a group, besides the guardian and what it started. */
export const isGroupAtWork = (group: number, guardian: number | undefined): boolean => {
  const members = processes().filter((one) => one.group === group)
  const theirs = new Set<number | undefined>([guardian])
  for (let size = 0; size < theirs.size;) {
    size = theirs.size
    for (const { parent, pid } of members) if (guardian !== undefined && theirs.has(parent)) theirs.add(pid)
  }
  return members.some(({ pid }) => !theirs.has(pid))
}

/** Sends a signal to a group. A group that has ended receives none. */
export const signalGroup = (group: number, signal: NodeJS.Signals): void => {
  try {
    process.kill(-group, signal)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error
  }
}

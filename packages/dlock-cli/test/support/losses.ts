/** Losses of a lock, one after another, and a checker that nobody was inside twice. */
import type { Server } from "dlock-testing"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { dlock, inside, isAlive, type Started, temporary, until } from "./dlock.ts"

/** A server whose locks outlive it. */
export interface Target {
  readonly env: Readonly<Record<string, string>>
  readonly server: Server
}

const faults = ["killDlock", "freezeDlock", "freezeAll", "freezeServer", "killServer"] as const

const ttl = 1_500
const guard = 1_000
const sleep = (millis: number) => new Promise((resolve) => setTimeout(resolve, millis))

interface Seen {
  readonly token: string
  readonly pids: ReadonlySet<number>
  readonly from: bigint
  readonly to: bigint
}

/** Who was in, and when, by what the commands wrote. */
export const read = (file: string): ReadonlyArray<Seen> => {
  const all = new Map<string, { pids: Set<number>; from: bigint; to: bigint }>()
  if (!Fs.existsSync(file)) return []
  for (const line of Fs.readFileSync(file, "utf8").split("\n")) {
    const [token, pid, , at] = line.split(" ")
    if (at === undefined || at === "") continue
    const time = BigInt(at)
    const one = all.get(token!)
    if (one === undefined) all.set(token!, { pids: new Set([Number(pid)]), from: time, to: time })
    else {
      one.pids.add(Number(pid))
      if (time < one.from) one.from = time
      if (time > one.to) one.to = time
    }
  }
  return Array.from(all, ([token, one]) => ({ token, ...one })).toSorted((a, b) => a.from < b.from ? -1 : 1)
}

/** The times in which two were in, and grants out of order. */
export const overlaps = (seen: ReadonlyArray<Seen>): ReadonlyArray<string> =>
  seen.slice(1).flatMap((one, index) => {
    const before = seen[index]!
    const inside = seen.slice(0, index + 1).filter(({ to }) => to >= one.from)
    return [
      ...inside.map(({ to, token }) =>
        `${token} was still in ${Number(to - one.from) / 1e6} ms after ${one.token} came`
      ),
      ...(BigInt(one.token) <= BigInt(before.token) ? [`${one.token} came after ${before.token}`] : [])
    ]
  })

export interface Report {
  readonly losses: number
  readonly seen: ReadonlyArray<Seen>
  readonly overlaps: ReadonlyArray<string>
  /** The shortest time between the last sign of one command and the first of the next, in milliseconds. */
  readonly closest: number
  readonly alive: ReadonlyArray<number>
  readonly codes: ReadonlyArray<string>
}

interface Candidate extends Started {
  readonly code: () => number | NodeJS.Signals | undefined
}

/** Loses a lock so many times. `from` says with which fault to begin. */
export const lose = async ({ env, server }: Target, count: number, from = 0): Promise<Report> => {
  const file = Path.join(temporary(), "inside")
  const codes: Array<string> = []
  let stubborn = false
  const candidate = (): Candidate => {
    stubborn = !stubborn
    const options = ["--ttl", `${ttl}ms`, "--guard", `${guard}ms`]
    const command = [process.execPath, inside, file, stubborn ? "stubborn" : "obedient"]
    const started = dlock(env, "run", "lossy", ...options, "--", ...command)
    let code: number | NodeJS.Signals | undefined
    void started.exited.then((how) => void (code = how))
    return { ...started, code: () => code }
  }
  let holder = candidate()
  await until("the first is in", () => read(file).some(isFull), 30_000)
  for (let round = 0; round < count; round++) {
    const fault = faults[(from + round) % faults.length]!
    let waiter = candidate()
    await sleep(1_000 + Math.random() * ttl)
    const lost = holder
    const current = read(file).at(-1)!
    const outage = ttl + 200 + Math.random() * guard * 2
    switch (fault) {
      case "killDlock":
        lost.signal("SIGKILL")
        break
      case "freezeDlock":
        lost.signal("SIGSTOP")
        break
      case "freezeAll":
        for (const pid of current.pids) process.kill(pid, "SIGSTOP")
        lost.signal("SIGSTOP")
        break
      case "freezeServer":
        server.signal("SIGSTOP")
        await sleep(outage)
        server.signal("SIGCONT")
        break
      case "killServer":
        await server.restart(outage)
        break
    }
    await until(`${fault}: the next is in`, () => {
      // Who waits longer than its ttl for a server that is away gives up.
      if (waiter.code() !== undefined) waiter = candidate()
      const last = read(file).at(-1)!
      return last.token !== current.token && isFull(last)
    }, 30_000)
    lost.signal("SIGCONT")
    const recorded = lost.exited.then((code) => void codes.push(`${fault}:${code}`))
    await Promise.race([recorded, sleep(5_000)])
    holder = waiter
  }
  holder.signal("SIGKILL")
  await sleep(guard + 500)
  const seen = read(file)
  return {
    losses: count,
    seen,
    overlaps: overlaps(seen),
    closest: Math.min(...seen.slice(1).map(({ from }, index) => Number(from - seen[index]!.to) / 1e6)),
    alive: seen.flatMap(({ pids }) => Array.from(pids)).filter((pid) => isStillInside(pid, file)),
    codes
  }
}

/** Whether this process is one of ours: its number may be that of another by now. */
const isStillInside = (pid: number, file: string): boolean => {
  try {
    return isAlive(pid) && Fs.readFileSync(`/proc/${pid}/cmdline`, "latin1").includes(file)
  } catch {
    return false
  }
}

/** Whether the command and its child have both written. */
const isFull = ({ pids }: Seen): boolean => pids.size === 2

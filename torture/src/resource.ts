/**
 * What the locks protect, as a process of its own: the one place that sees who comes, works and goes, in an order of its
 * own. It refuses stale tokens, writes the history, and has it judged as it goes.
 */
import { onMessage, report } from "dlock-testing/report"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Readline from "node:readline"
import { now, type Recorded, type Told } from "./events.ts"
import { Fence } from "./fence.ts"
import { Judge, type Limits } from "./judge.ts"
import { watchLag } from "./stillness.ts"

const [historyFile, limits] = process.argv.slice(2) as [string, string]
const history = historyFile === "" ? undefined : Fs.createWriteStream(historyFile)
const judge = new Judge(JSON.parse(limits) as Partial<Limits>)
const fence = new Fence()
const leases = new Map<string, { readonly key: string; readonly token: bigint | undefined }>()
/** The clock, so that no two lines of the history are of one moment. */
let last = 0

const record = (event: Recorded): void => {
  history?.write(`${JSON.stringify(event)}\n`)
  judge.add(event)
}

type Step = Extract<Told, { readonly t: "enter" | "step" | "exit" }>

const isStep = (told: Told): told is Step => told.t === "enter" || told.t === "step" || told.t === "exit"

/** Writes one line down; for what happens inside, whether the fence lets it. */
const take = (who: string, told: Told): boolean => {
  const arrived = last = Math.max(now(), last + 0.0001)
  if (told.t === "acquired") {
    leases.set(told.id, { key: told.key, token: told.token === undefined ? undefined : BigInt(told.token) })
  }
  if (!isStep(told)) {
    record({ ...told, who, arrived })
    return true
  }
  const lease = leases.get(told.id)
  const accepted = lease !== undefined && (told.t === "exit" || fence.admits(lease.key, lease.token))
  record({ ...told, accepted, who, arrived })
  if (told.t === "exit") leases.delete(told.id)
  return accepted
}

const state = () => ({
  violations: judge.violations.slice(0, 50),
  found: judge.violations.length,
  sections: judge.sections,
  outcomes: judge.outcomes,
  losses: Object.fromEntries(judge.losses),
  excused: judge.excused,
  refused: judge.refused,
  longestWait: judge.longestWait,
  faults: judge.troubles.total,
  hits: judge.troubles.hits,
  kinds: Object.fromEntries(judge.troubles.kinds)
})

export type State = ReturnType<typeof state>

type Line =
  | { readonly hello: string }
  | { readonly e: Told; readonly n?: number }
  | { readonly q: "present" | "state" | "settle"; readonly n: number }

const serve = (socket: Net.Socket): void => {
  let who = "somebody"
  const answer = (n: number, value: unknown) => void socket.write(`${JSON.stringify({ n, value })}\n`)
  socket.setNoDelay(true).on("error", () => {}).on("close", () => {
    record({ t: "gone", who, arrived: last = Math.max(now(), last + 0.0001) })
  })
  Readline.createInterface({ input: socket }).on("line", (text) => {
    // The last line of a process that was killed may be cut off.
    if (!text.endsWith("}")) return
    const line = JSON.parse(text) as Line
    if ("hello" in line) who = line.hello
    else if ("q" in line) {
      if (line.q === "present") return answer(line.n, judge.present())
      judge.settle(now(), line.q === "settle")
      answer(line.n, state())
    } else {
      const accepted = take(who, line.e)
      if (line.n !== undefined) answer(line.n, accepted)
    }
  }).on("error", () => {})
}

watchLag((from, to) => record({ t: "lag", from, to, who: "resource", arrived: to }))
const server = Net.createServer(serve).listen(0, "127.0.0.1", () => {
  report({ port: (server.address() as Net.AddressInfo).port })
})
onMessage(() => history === undefined ? process.exit(0) : history.end(() => process.exit(0)))

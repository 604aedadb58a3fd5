/**
 * The protected resource, a separate process. It alone sees the order in which workers enter, step and leave. It
 * refuses stale tokens, writes the history, and runs the checker on it as it grows.
 */
import { onMessage, report } from "dlock-testing/report"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Readline from "node:readline"
import { Checker, type Limits } from "./checker.ts"
import { type Move, now, type Recorded, type Told } from "./events.ts"
import { Fence } from "./fence.ts"
import { isExclusive, mutex } from "./lockShape.ts"
import { watchLag } from "./watchLag.ts"

const [historyFile, limits] = process.argv.slice(2) as [string, string]
const history = historyFile === "" ? undefined : Fs.createWriteStream(historyFile)
const checker = new Checker(JSON.parse(limits) as Partial<Limits>)
const fence = new Fence()
/** Tokens of those who share a lock are no fences, so the resource is not told them. */
const leases = new Map<string, { readonly key: string; readonly token: bigint | undefined }>()
/** The last time given out, so that no two lines of the history have the same time. */
let last = 0

const record = (event: Recorded): void => {
  history?.write(`${JSON.stringify(event)}\n`)
  checker.add(event)
}

type Step = Extract<Told, { readonly t: Move }>

const moves: ReadonlySet<string> = new Set<Move>(["enter", "step", "downgrade", "exit"])
const isStep = (told: Told): told is Step => moves.has(told.t)

/** Records one event; for a step, returns whether the fence accepts it. */
const take = (who: string, told: Told): boolean => {
  const arrived = last = Math.max(now(), last + 0.0001)
  if (told.t === "acquired") {
    const { id, key, lock = mutex, token } = told
    leases.set(id, { key, token: token === undefined || !isExclusive(lock) ? undefined : BigInt(token) })
  }
  if (!isStep(told)) {
    record({ ...told, who, arrived })
    return true
  }
  const lease = leases.get(told.id)
  const accepted = lease !== undefined && (told.t === "exit" || fence.admits(lease.key, lease.token))
  record({ ...told, accepted, who, arrived })
  if (told.t === "exit") leases.delete(told.id)
  if (told.t === "downgrade" && lease !== undefined) leases.set(told.id, { ...lease, token: undefined })
  return accepted
}

const state = () => ({
  violations: checker.violations.slice(0, 50),
  found: checker.violations.length,
  sections: checker.sections,
  outcomes: checker.outcomes,
  losses: Object.fromEntries(checker.losses),
  counted: Object.fromEntries(checker.counted),
  excused: checker.excused,
  refused: checker.refused,
  longestWait: checker.longestWait,
  faults: checker.faultWindows.total,
  hits: checker.faultWindows.hits,
  kinds: Object.fromEntries(checker.faultWindows.kinds),
  counts: { ...checker.outside.revocations.counts, ...checker.outside.leaders.counts },
  gaps: checker.outside.leaders.gaps
})

export type State = ReturnType<typeof state>

type Message =
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
    const message = JSON.parse(text) as Message
    if ("hello" in message) who = message.hello
    else if ("q" in message) {
      if (message.q === "present") return answer(message.n, checker.present())
      checker.settle(now(), message.q === "settle")
      answer(message.n, state())
    } else {
      const accepted = take(who, message.e)
      if (message.n !== undefined) answer(message.n, accepted)
    }
  }).on("error", () => {})
}

watchLag((from, to) => record({ t: "lag", from, to, who: "resource", arrived: to }))
const server = Net.createServer(serve).listen(0, "127.0.0.1", () => {
  report({ port: (server.address() as Net.AddressInfo).port })
})
onMessage(() => history === undefined ? process.exit(0) : history.end(() => process.exit(0)))

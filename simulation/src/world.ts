import * as Deferred from "effect/Deferred"
import type { Backend } from "./backend.ts"
import type { BackendName } from "./backendName.ts"
import { Checker, type Counts, type Rule, type Violation } from "./checker.ts"
import { longestClaim } from "./claims.ts"
import { start } from "./client.ts"
import { type Dimension, none } from "./dimensions.ts"
import * as Etcd from "./etcd/backend.ts"
import type { Fault } from "./faultKinds.ts"
import { Faults } from "./faults.ts"
import { progressWithin, runFinalChecks } from "./finalChecks.ts"
import * as Ids from "./ids.ts"
import { injectIncident } from "./incidents.ts"
import { Log } from "./log.ts"
import { Observer } from "./observer.ts"
import * as Plans from "./planning.ts"
import { Process } from "./process.ts"
import * as Redis from "./redis/backend.ts"
import { Section } from "./section.ts"
import { ServerLog } from "./serverLog.ts"
import { millis, Timeline } from "./timeline.ts"
import type { Variant } from "./variants.ts"
import type { Client, WorldContext } from "./worldContext.ts"

export interface Settings {
  readonly seed: number
  readonly backend: BackendName
  readonly variant?: Variant | undefined
  /** Dimensions that it may have in addition to the usual ones. */
  readonly extra?: ReadonlySet<Dimension> | undefined
  /** Only these faults are injected. */
  readonly only?: ReadonlySet<string> | undefined
  /** Only these sections run. */
  readonly sections?: ReadonlySet<number> | undefined
  /** Only these rules count. */
  readonly rules?: ReadonlySet<Rule> | undefined
  /** Whether to keep a readable trace. */
  readonly recorded?: boolean | undefined
}

export interface Result {
  readonly seed: number
  readonly violation: Violation | undefined
  readonly injected: ReadonlyArray<Fault>
  readonly counts: Counts
  /** The numbers of the sections that ran. */
  readonly sections: ReadonlyArray<number>
  readonly events: number
  /** Milliseconds of the world's time. */
  readonly lasted: number
  readonly hash: number
  readonly lines: ReadonlyArray<string>
}

/** Runs one seed from beginning to end. */
export const run = (settings: Settings): Result => {
  const restore = settings.variant?.install?.()
  try {
    return live(settings)
  } finally {
    restore?.()
  }
}

const live = (settings: Settings): Result => {
  const { backend: backendName, seed, variant } = settings
  Ids.restart(seed)
  const plan = Plans.make(seed, backendName, settings.extra ?? none)
  const timeline = new Timeline()
  const log = new Log(timeline, settings.recorded === true)
  const checker = new Checker(timeline, settings.rules ?? variant?.rules)
  const serverLog = new ServerLog(timeline, plan, checker)
  const observer = new Observer(timeline, log, plan, checker, serverLog)
  const faults = new Faults(plan, settings.only)
  const network = { seed, timeline, log, faults, serverLog }
  const backend: Backend = backendName === "redis"
    ? Redis.make(network, plan, { neverNotifies: plan.neverNotified, ...variant?.redis })
    : Etcd.make(network, plan, { neverNotifies: plan.neverNotified, ...variant?.etcd }, variant?.port)
  observer.server = backend
  observer.leaders.holderOf = (lock) => backend.holderOf(lock)
  observer.leaders.longestLife = () => backend.longestLife + backend.lateness()
  serverLog.revoked.around = {
    hasClaim: (lock, id) => backend.hasClaim(lock, id),
    longestLife: () => millis(Math.max(longestClaim(plan), backend.longestLife) + backend.lateness()),
    resumedAt: (id) => clients[backend.processOf(id) ?? -1]?.process.resumedAt ?? 0
  }

  const clients = plan.processes.map((programs, index): Client => {
    const process = new Process(timeline, seed, index, plan.drifts)
    const sections = programs.map((program) =>
      program.filter(({ number }) => settings.sections?.has(number) !== false).map((plan) => new Section(process, plan))
    )
    const closing = Deferred.makeUnsafe<void>()
    return { process, sections, closing, running: new Map(), triggers: [], done: false }
  })
  const context: WorldContext = { plan, timeline, log, faults, checker, serverLog, observer, backend, clients }
  for (const client of clients) start(client, context, variant)
  for (const incident of plan.incidents) {
    timeline.at(incident.at, () => {
      if (faults.tryInject(incident.name, incident.kind)) injectIncident(incident, context)
    })
  }
  timeline.at(plan.healedAt + 1, () => {
    backend.heal()
    log.note(40, 0, () => "from now on nothing goes wrong")
  })

  // The library logs each observer that throws, to the console.
  const { log: print } = console
  if (plan.dimensions.has("observers")) console.log = () => {}
  const patience = progressWithin(plan)
  const isAlive = ({ done, process }: Client): boolean => !done && !process.dead
  const goesOn = (): boolean => {
    observer.checkAll()
    if (timeline.now > plan.healedAt + 1) observer.checkProgress(plan.healedAt, patience + backend.lateness())
    return checker.violation === undefined && clients.some(isAlive)
  }
  try {
    timeline.run(millis(longest), goesOn)
    if (checker.violation === undefined) runFinalChecks(context)
  } catch (error) {
    checker.report("S8", String((error as Error).stack))
  } finally {
    console.log = print
  }
  for (const client of clients) client.process.crash()
  return {
    seed,
    violation: checker.violation,
    injected: faults.injected,
    counts: checker.counts,
    sections: clients.flatMap(({ sections }) => sections.flat().map(({ plan }) => plan.number)),
    events: timeline.steps,
    lasted: timeline.now / 1_000,
    hash: log.hash,
    lines: log.lines ?? []
  }
}

/** The longest life of a world, in milliseconds. */
const longest = 600_000

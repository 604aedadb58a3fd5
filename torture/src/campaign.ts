import { setTimeout as sleep } from "node:timers/promises"
import { type Backend } from "./backends.ts"
import type { With } from "./dimensions.ts"
import { eventually } from "./environments/environment.ts"
import { startEnvironment } from "./environments/index.ts"
import { now } from "./events.ts"
import { inspect, watchServers } from "./inspection.ts"
import { startNemesis } from "./nemesis.ts"
import { type Recorder, startRecorder } from "./recorder.ts"
import type { State } from "./resource.ts"
import { settingsOf } from "./settings.ts"
import { watchLag } from "./watchLag.ts"
import { startWorkers } from "./workers.ts"

export interface Result {
  readonly backend: Backend
  readonly subject: string
  readonly seconds: number
  readonly state: State
  /** Leases whose histories were checked for linearizability. */
  readonly leases: number
  /** Sections a second before the first fault. */
  readonly rate: number
  /** Why the run proves nothing, if it does not. */
  readonly void: string | undefined
  readonly skipped: ReadonlyArray<string>
  /** Seconds after the first fault at which the first violation was found. */
  readonly caughtAfter: number | undefined
  readonly history: string | undefined
}

export interface CampaignOptions {
  readonly backend: Backend
  readonly subject: string
  readonly with: With
  /** For everything, including start and checks. */
  readonly seconds: number
  readonly seed: number
  /** Ends soon after the first violation: for variants with a broken rule. */
  readonly untilCaught: boolean
  /** Keeps the history although nothing is wrong. */
  readonly keepHistory?: boolean
  readonly progress: (line: string) => void
}

/** Milliseconds of faults, however long the start took. */
const atLeast = 10_000

/** Runs one subject on one backend for a time: servers, workers, faults, and the checks of the history. */
export const campaign = async (options: CampaignOptions): Promise<Result> => {
  const { backend, keepHistory = false, progress, seconds, seed, subject, untilCaught, with: dimensions } = options
  const startedAt = now()
  const environment = await startEnvironment(backend, dimensions)
  const settings = settingsOf(backend, subject, environment.ttl, dimensions, seconds)
  const recorder = await startRecorder(settings.checker, `${backend}-${subject}-${seed}`)
  // The proxies are in this process: while it has no processor, nothing passes.
  const unwatch = watchLag((from, to) => recorder.tell({ t: "lag", from, to }))
  const unwatchServers = watchServers(environment, recorder)
  let keep = true
  try {
    const workers = await startWorkers(environment, recorder, {
      count: settings.workers,
      crowds: settings.crowds,
      assignment: { subject, ...settings.assignment },
      seed,
      proxied: true
    })
    try {
      const endInspection = inspect(environment, recorder)
      const rate = await warmUp(recorder, settings.floor)
      const firstFault = now()
      const nemesis = startNemesis(workers, environment, recorder, {
        ...settings.nemesis,
        hot: settings.assignment.hot,
        usual: settings.workers,
        seed,
        with: dimensions,
        context: {
          workers,
          environment,
          ttl: settings.granted,
          recorder,
          burst: settings.burst,
          stretch: settings.stretch
        }
      })
      const end = Math.max(
        startedAt + Math.min(seconds, settings.longest) * 1_000 - settings.drain,
        firstFault + atLeast
      )
      let caughtAt: number | undefined
      let saidAt = now()
      while (now() < end && nemesis.failed() === undefined) {
        await sleep(Math.min(500, Math.max(1, end - now())))
        const state = await recorder.state()
        if (state.found > 0) caughtAt ??= now()
        if (now() - saidAt > 4_000) {
          saidAt = now()
          progress(line(now() - startedAt, state))
        }
        if (untilCaught && caughtAt !== undefined && now() > caughtAt + 1_000) break
      }
      const phase = (name: string) => progress(`${((now() - startedAt) / 1_000).toFixed(0).padStart(5)} s  ${name}`)
      phase("the faults end")
      await nemesis.stop()
      await environment.whole()
      await endInspection()
      await awaitLeaders(recorder, settings)
      phase("the workers finish")
      await workers.finish(settings.patience)
      await nemesis.end()
      phase("what is left is looked for")
      await eventually(async () => (await environment.orphans()).length === 0, settings.leftFor)
      for (const what of (await environment.orphans()).slice(0, 10)) recorder.tell({ t: "orphan", what })
      const checked = await recorder.settle()
      await recorder.end()
      const { leases, wrong } = await recorder.histories()
      const state: State = {
        ...checked,
        found: checked.found + wrong.length,
        violations: [...checked.violations, ...wrong.map((text) => ({ rule: "linear" as const, text, at: now() }))]
      }
      if (state.found > 0) caughtAt ??= now()
      progress(line(now() - startedAt, state))
      keep = state.found > 0 || keepHistory
      const result = {
        backend,
        subject,
        seconds: (now() - startedAt) / 1_000,
        state,
        leases,
        rate,
        void: nemesis.failed() ?? hollow(state, rate, settings.floor),
        skipped: environment.skipped,
        caughtAfter: caughtAt === undefined ? undefined : (caughtAt - firstFault) / 1_000
      }
      await workers.stop()
      return { ...result, history: await recorder.stop(keep) }
    } finally {
      await workers.stop()
    }
  } finally {
    unwatch()
    unwatchServers()
    await recorder.stop(keep)
    await environment.stop()
  }
}

/** When all faults are over, somebody leads: soon, or later and with a report. */
const awaitLeaders = async (
  recorder: Recorder,
  { assignment: { guard, leaders }, checker: { grain = 0 }, granted }: ReturnType<typeof settingsOf>
): Promise<void> => {
  const from = now()
  // A new leader of etcd counts the leases of the dead from their beginning again.
  const limit = (grain === 0 ? granted : 2 * granted) + guard + 1_000
  await Promise.all(leaders.map(async (key) => {
    await eventually(async () => (await recorder.present()).some((one) => one.key === key), limit + 5_000)
    const at = now()
    if (at - from > limit) recorder.tell({ t: "leaderless", key, from, at, limit })
  }))
}

/** Sections a second before the first fault. A machine that has other work is given a while to come to the least. */
const warmUp = async (recorder: Recorder, least: number): Promise<number> => {
  const giveUpAt = now() + 20_000
  let last = (await recorder.state()).sections
  while (true) {
    const since = now()
    await sleep(1_500)
    const { sections } = await recorder.state()
    const rate = (sections - last) / ((now() - since) / 1_000)
    if (rate >= least || now() > giveUpAt) return rate
    last = sections
  }
}

const line = (ms: number, { faults, found, hits, losses, sections }: State): string => {
  const lost = Object.values(losses).reduce((sum, count) => sum + count, 0)
  return `${(ms / 1_000).toFixed(0).padStart(5)} s  ${sections} sections, ${hits} of ${faults} faults hit a holder, ` +
    `${lost} losses, ${found} violations`
}

/** A run in which too little happened proves nothing. */
const hollow = ({ faults, hits, losses }: State, rate: number, floor: number): string | undefined => {
  if (rate < floor) return `${rate.toFixed(1)} sections a second before the first fault, and ${floor} are the least`
  if (hits < 10 || hits < 0.3 * faults) return `only ${hits} of ${faults} faults hit a holder`
  if (Object.keys(losses).length === 0) return "nothing was ever lost"
  return undefined
}

import { setTimeout as sleep } from "node:timers/promises"
import type { SharedLock } from "../contenders/contender.ts"
import type { Contender } from "../contenders/index.ts"
import { figuresOf, isAlone, type Round, violationsOf } from "../measure/sections.ts"
import { type Column, digits, type Outcome, type Setting, short, type Workload } from "./workload.ts"

/** A workload that goes through as many sections as it can. */
export interface Shape {
  readonly name: string
  readonly title: string
  readonly about: string
  readonly processes: number
  /** Of each process. */
  readonly tasks: number
  readonly keys: "own" | "hot"
  /** Mutexes, unless given. Contenders without such a lock have no figures. */
  readonly lock?: SharedLock
  readonly bodyMs: number
  /** The turns of each contender in a run, and how long each is. */
  readonly turns: { readonly count: number; readonly ms: number }
  readonly quickTurns: { readonly count: number; readonly ms: number }
  readonly warmUpMs: number
  readonly quickWarmUpMs: number
  /** Turns go on until the least served process has had so many sections, or for six times as long. */
  readonly least?: number
}

const columns = ({ bodyMs, lock, processes }: Shape): ReadonlyArray<Column> => [
  { id: "perSecond", title: "sections / s", show: digits(0) },
  ...(lock === undefined ? [{ id: "ratio", title: "of the floor", show: digits(2) }] : []),
  ...(lock === undefined ? [] : [{ id: "most", title: "inside at once", show: digits(0) }]),
  { id: "p50", title: "wait p50, ms", show: short },
  { id: "p99", title: "p99", show: short },
  { id: "max", title: "max", show: short },
  ...(lock?.kind === "readWrite" ? [{ id: "writers", title: "writers, p99", show: short }] : []),
  ...(processes > 1 ? [{ id: "spread", title: "most / least", show: digits(2) }] : []),
  ...(bodyMs > 0 && lock?.kind !== "readWrite" ? [{ id: "fair", title: "p99 / fair share", show: digits(1) }] : []),
  { id: "requests", title: "requests", show: digits(2) },
  { id: "cpu", title: "CPU, µs", show: digits(0) }
]

const ratioToFloor = (outcomes: ReadonlyArray<Outcome>, contenders: ReadonlyArray<Contender>) => {
  const floor = contenders.find(({ role }) => role === "floor")?.name
  const perSecond = outcomes.find(({ contender }) => contender === floor)?.figures.perSecond
  return outcomes.map((outcome) => ({
    ...outcome,
    figures: { ...outcome.figures, ratio: (outcome.figures.perSecond ?? NaN) / (perSecond ?? NaN) }
  }))
}

/** How many permits there are, and how many bodies go on at once. */
const capacityOf = (lock: SharedLock | undefined): number =>
  lock === undefined ? 1 : lock.kind === "semaphore" ? lock.permits : isAlone

const run = async (shape: Shape, setting: Setting): Promise<ReadonlyArray<Outcome>> => {
  const { bodyMs, keys, least = 0, lock, processes, tasks, title } = shape
  const { pool, quick, requests, say, url } = setting
  const contenders = setting.contenders.filter(({ shares }) => lock === undefined || shares?.includes(lock.kind))
  const capacity = capacityOf(lock)
  const { count, ms } = quick ? shape.quickTurns : shape.turns
  const rounds = new Map(contenders.map((contender) => [contender, [] as Array<Round>]))
  const out = new Map<Contender, string>()
  let turns = 0

  const turn = async (contender: Contender, duration: number): Promise<Round | undefined> => {
    if (out.has(contender)) return undefined
    try {
      const workers = await pool.get(contender, url, processes)
      const name = `${shape.name}-${contender.name.replaceAll(" ", "-")}-${turns++}`
      const before = await requests.read(contender.sends)
      const slices = await Promise.all(workers.map((worker, process) =>
        worker.call({
          do: "slice",
          keys: Array.from({ length: tasks }, (_, task) => keys === "hot" ? name : `${name}-${process}-${task}`),
          bodyMs,
          ms: duration,
          ...(lock !== undefined && { lock })
        }, duration + 120_000)
      ))
      return { slices, requests: await requests.read(contender.sends) - before }
    } catch (error) {
      out.set(contender, String(error))
      await pool.replace(contender)
      return undefined
    }
  }
  const measured = async (contender: Contender): Promise<void> => {
    const round = await turn(contender, ms)
    if (round !== undefined) rounds.get(contender)!.push(round)
  }

  // What a program has been doing for a while is what is measured, and not how soon it is compiled.
  const warmUp = quick ? shape.quickWarmUpMs : shape.warmUpMs
  if (warmUp > 0) say(`${title}: all warm up`)
  for (const contender of contenders) {
    if (warmUp > 0) await turn(contender, warmUp)
  }
  // One after the other, again and again: what else the machine does hits all alike.
  for (let n = 0; n < count; n++) {
    say(`${title}: turn ${n + 1} of ${count}`)
    for (const contender of contenders) {
      await measured(contender)
      // Sockets and collectors of one are not to be busy in the turn of the next.
      await sleep(20)
    }
  }
  for (const [contender, done] of rounds) {
    while (!quick && !out.has(contender) && done.length < count * 6 && figuresOf(done).leastServed < least) {
      say(`${title}: ${contender.name}, on until each process has had ${least}`)
      await measured(contender)
    }
  }

  const outcomes = contenders.map((contender): Outcome => {
    const done = rounds.get(contender)!
    const figures = figuresOf(done)
    const few = figures.leastServed < least
    const lost = out.get(contender)
    const checked = done.map((round) => violationsOf(round, capacity))
    const most = Math.max(...checked.map((one) => one.most))
    const fair = figures.p99 / (processes * tasks * figures.body / capacity)
    return {
      contender: contender.name,
      figures: done.length === 0 ? {} : { ...figures, fair, most },
      violations: checked.reduce((sum, { found }) => sum + found, 0),
      failures: [
        ...done.flatMap(({ slices }) => slices.flatMap((slice) => slice.failures)),
        ...(lost === undefined ? [] : [lost])
      ],
      ...(few && { remark: `fewer than ${least} sections of the least served process` })
    }
  })
  // The floor is no library that could have had it.
  const without = setting.contenders.filter((one) => !contenders.includes(one) && one.role !== "floor")
  return [
    ...ratioToFloor(outcomes, contenders),
    ...without.map(({ name }) => ({ contender: name, figures: {}, violations: 0, failures: [] }))
  ]
}

export const sections = (shape: Shape): Workload => ({
  name: shape.name,
  title: shape.title,
  about: shape.about,
  backends: ["redis", "etcd"],
  columns: columns(shape),
  run: (setting) => run(shape, setting)
})

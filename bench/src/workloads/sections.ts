import { setTimeout as sleep } from "node:timers/promises"
import type { Contender } from "../contenders/index.ts"
import { figuresOf, type Round, violationsOf } from "../measure/sections.ts"
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
  readonly bodyMs: number
  /** The turns of each contender in a run, and how long each is. */
  readonly turns: { readonly count: number; readonly ms: number }
  readonly quickTurns: { readonly count: number; readonly ms: number }
  /** Turns go on until the least served process has had so many sections, or for six times as long. */
  readonly least?: number
}

const columns = ({ keys, processes }: Shape): ReadonlyArray<Column> => [
  { id: "perSecond", title: "sections / s", show: digits(0) },
  { id: "ratio", title: "of the floor", show: digits(2) },
  { id: "p50", title: "wait p50, ms", show: short },
  { id: "p99", title: "p99", show: short },
  { id: "max", title: "max", show: short },
  ...(processes > 1 ? [{ id: "spread", title: "most / least", show: digits(2) }] : []),
  ...(keys === "hot" ? [{ id: "fair", title: "p99 / fair share", show: digits(1) }] : []),
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

const run = async (shape: Shape, setting: Setting): Promise<ReadonlyArray<Outcome>> => {
  const { bodyMs, keys, least = 0, processes, tasks, title } = shape
  const { contenders, crew, requests, say, url } = setting
  const { count, ms } = setting.quick ? shape.quickTurns : shape.turns
  const rounds = new Map(contenders.map((contender) => [contender, [] as Array<Round>]))
  let turns = 0

  const turn = async (contender: Contender, duration: number): Promise<Round> => {
    const members = await crew.of(contender, url, processes)
    const run = `${shape.name}-${contender.name.replaceAll(" ", "-")}-${turns++}`
    const before = await requests.read(contender.sends)
    const slices = await Promise.all(members.map((member, process) =>
      member.call({
        do: "slice",
        keys: Array.from({ length: tasks }, (_, task) => keys === "hot" ? run : `${run}-${process}-${task}`),
        bodyMs,
        ms: duration
      }, duration + 120_000)
    ))
    return { slices, requests: await requests.read(contender.sends) - before }
  }

  say(`${title}: all warm up`)
  for (const contender of contenders) {
    await turn(contender, Math.min(500, ms))
  }
  // One after the other, again and again: what else the machine does hits all alike.
  for (let n = 0; n < count; n++) {
    say(`${title}: turn ${n + 1} of ${count}`)
    for (const contender of contenders) {
      rounds.get(contender)!.push(await turn(contender, ms))
      // Sockets and collectors of one are not to be busy in the turn of the next.
      await sleep(20)
    }
  }
  for (const [contender, done] of rounds) {
    while (!setting.quick && figuresOf(done).leastServed < least && done.length < count * 6) {
      say(`${title}: ${contender.name}, on until each process has had ${least}`)
      done.push(await turn(contender, ms))
    }
  }

  const outcomes = contenders.map((contender): Outcome => {
    const done = rounds.get(contender)!
    const figures = figuresOf(done)
    const few = figures.leastServed < least
    return {
      contender: contender.name,
      figures: { ...figures, fair: figures.p99 / (processes * tasks * figures.body) },
      violations: done.reduce((sum, round) => sum + violationsOf(round), 0),
      failures: done.flatMap(({ slices }) => slices.flatMap((slice) => slice.failures)),
      ...(few && { remark: `the least served process had ${figures.leastServed} sections` })
    }
  })
  return ratioToFloor(outcomes, contenders)
}

export const sections = (shape: Shape): Workload => ({
  name: shape.name,
  title: shape.title,
  about: shape.about,
  backends: ["redis", "etcd"],
  columns: columns(shape),
  run: (setting) => run(shape, setting)
})

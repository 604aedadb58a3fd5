import { percentile, spread, sum } from "./stats.ts"

/** What one process did in one round. Times are milliseconds of one clock that all processes of a machine share. */
export interface Slice {
  /** When it stopped to begin sections. */
  readonly until: number
  /** Of each task, one after the other: when it asked, when it was in, when it was about to release. */
  readonly tasks: ReadonlyArray<TaskTimes>
  /** Milliseconds of processor time. */
  readonly cpu: number
  readonly failures: ReadonlyArray<string>
}

/** The sections of a task, with the permits of each if they may differ. */
export interface TaskTimes {
  readonly key: string
  readonly times: ReadonlyArray<number>
  readonly permits?: ReadonlyArray<number>
}

/** The permits of a section beside which nobody may be. */
export const isAlone = 1_000_000

/** A round: all processes at the same time, and the requests that reached the server meanwhile. */
export interface Round {
  readonly slices: ReadonlyArray<Slice>
  readonly requests: number
}

export interface Section {
  readonly askedAt: number
  readonly enteredAt: number
  readonly leftAt: number
  /** One, unless given. */
  readonly permits?: number
}

const sectionsOf = ({ permits, times }: TaskTimes): ReadonlyArray<Section> =>
  Array.from({ length: times.length / 3 }, (_, index) => ({
    askedAt: times[index * 3]!,
    enteredAt: times[index * 3 + 1]!,
    leftAt: times[index * 3 + 2]!,
    permits: permits?.[index] ?? 1
  }))

/** How often somebody came in for whom there was no room, and how many were in at once at the most. */
export const overlaps = (
  sections: ReadonlyArray<Section>,
  capacity = 1
): { readonly found: number; readonly most: number } => {
  let inside: ReadonlyArray<Section> = []
  let [found, most] = [0, 0]
  for (const section of sections.toSorted((a, b) => a.enteredAt - b.enteredAt)) {
    inside = [...inside.filter(({ leftAt }) => leftAt > section.enteredAt), section]
    if (sum(inside.map(({ permits = 1 }) => permits)) > capacity) found++
    most = Math.max(most, inside.length)
  }
  return { found, most }
}

/** What a round says about exclusion: every section of every process, by key. */
export const violationsOf = ({ slices }: Round, capacity = 1): { readonly found: number; readonly most: number } => {
  const tasks = Map.groupBy(slices.flatMap((slice) => slice.tasks), ({ key }) => key)
  const all = [...tasks.values()].map((same) => overlaps(same.flatMap(sectionsOf), capacity))
  return { found: sum(all.map(({ found }) => found)), most: Math.max(0, ...all.map(({ most }) => most)) }
}

/** Counted over the part of each round in which every process ran; waits are those of all sections. */
export const figuresOf = (rounds: ReadonlyArray<Round>) => {
  const waits: Array<number> = []
  const writerWaits: Array<number> = []
  const served: Array<number> = []
  let [seconds, inside, all, bodies, cpu] = [0, 0, 0, 0, 0]
  for (const { slices } of rounds) {
    const byProcess = slices.map((slice) => slice.tasks.flatMap(sectionsOf))
    const from = Math.max(...byProcess.map((sections) => Math.min(...sections.map(({ askedAt }) => askedAt))))
    const to = Math.min(...slices.map(({ until }) => until))
    seconds += Math.max(0, to - from) / 1_000
    byProcess.forEach((sections, index) => {
      const counted = sections.filter(({ enteredAt }) => enteredAt >= from && enteredAt <= to).length
      served[index] = (served[index] ?? 0) + counted
      inside += counted
      all += sections.length
      for (const { askedAt, enteredAt, leftAt, permits } of sections) {
        waits.push(enteredAt - askedAt)
        if (permits === isAlone) writerWaits.push(enteredAt - askedAt)
        bodies += leftAt - enteredAt
      }
    })
    cpu += sum(slices.map((slice) => slice.cpu))
  }
  const sorted = Float64Array.from(waits).sort()
  return {
    perSecond: inside / seconds,
    p50: percentile(sorted, 0.5),
    p99: percentile(sorted, 0.99),
    max: percentile(sorted, 1),
    writers: writerWaits.length === 0 ? NaN : percentile(Float64Array.from(writerWaits).sort(), 0.99),
    body: bodies / all,
    spread: served.length > 1 ? spread(served) : NaN,
    leastServed: Math.min(...served),
    requests: sum(rounds.map(({ requests }) => requests)) / all,
    cpu: cpu * 1_000 / all
  }
}

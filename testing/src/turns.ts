import { random } from "./random.ts"
import { onMessage, report } from "./report.ts"

/** One section over several keys. Times are milliseconds of the clock that all processes of the machine share. */
export interface Turn {
  readonly keys: ReadonlyArray<string>
  readonly asked: number
  readonly entered: number
  readonly left: number
}

/** A time in which a process did not run: its timer was late. */
type Late = readonly [from: number, to: number]

/** What a process that takes turns reports: first that it is ready, then its turns and when it was late. */
export type TurnsReport =
  | { readonly ready: true }
  | { readonly turns: ReadonlyArray<Turn>; readonly late: ReadonlyArray<Late> }

const now = (): number => Number(process.hrtime.bigint()) / 1_000_000
const sleep = (millis: number) => new Promise<void>((resolve) => setTimeout(resolve, millis))

const period = 5

const recordLate = (): ReadonlyArray<Late> => {
  const late: Array<Late> = []
  let last = now()
  setInterval(() => {
    const due = last + period
    last = now()
    if (last > due + 1) late.push([due, last])
  }, period)
  return late
}

const all = ["k0", "k1", "k2", "k3", "k4", "k5"]

/**
 * For programs that `startWorker` runs with a number of turns and a seed: takes random subsets of six keys, one after
 * the other, each for up to 5 ms, from the moment at which the test sends its first message.
 */
export const takeTurns = async (
  [count, seed]: readonly [count: string, seed: string],
  withLocks: (keys: ReadonlyArray<string>, body: () => Promise<void>) => Promise<void>
): Promise<void> => {
  const { below, chance, pick } = random(Number(seed))
  const begin = new Promise<void>((resolve) => onMessage(() => resolve()))
  // The first section loads what the store needs.
  await withLocks([`warm-${seed}-0`, `warm-${seed}-1`], async () => {})
  report({ ready: true })
  await begin
  const late = recordLate()
  const turns: Array<Turn> = []
  for (let turn = 0; turn < Number(count); turn++) {
    const some = all.filter(() => chance(0.4)).sort(() => below(3) - 1)
    const keys = some.length === 0 ? [pick(all)] : some
    const asked = now()
    await withLocks(keys, async () => {
      const entered = now()
      await sleep(below(5))
      turns.push({ keys, asked, entered, left: now() })
    })
  }
  report({ turns, late } satisfies TurnsReport)
  process.exit(0)
}

/** Asks a server again and again, and records when it did not answer at once, until the signal is aborted. */
export const recordAnswers = async (ask: () => Promise<unknown>, signal: AbortSignal): Promise<ReadonlyArray<Late>> => {
  const late: Array<Late> = []
  while (!signal.aborted) {
    const sent = now()
    await ask()
    if (now() > sent + period) late.push([sent, now()])
    await sleep(period)
  }
  return late
}

/** Sections of one key that overlap. */
export const overlapsOf = (turns: ReadonlyArray<Turn>): ReadonlyArray<string> => {
  const found: Array<string> = []
  for (const key of all) {
    const ordered = turns.filter(({ keys }) => keys.includes(key)).toSorted((a, b) => a.entered - b.entered)
    ordered.forEach((later, index) => {
      const before = ordered[index - 1]
      if (before !== undefined && later.entered < before.left) {
        found.push(`${key}: entered ${(before.left - later.entered).toFixed(1)} ms before the other left`)
      }
    })
  }
  return found
}

/**
 * The longest time that a turn waited beyond what those before it needed, `perTurn` milliseconds for each hand-over
 * included. Those before it had asked earlier and were not yet through, whatever their keys: it waits for each of them
 * at most once. A time in which any of the processes or the server was late does not count.
 */
export const longestExcess = (
  turns: ReadonlyArray<Turn>,
  late: ReadonlyArray<Late>,
  perTurn: number
): number => {
  const ordered = turns.toSorted((a, b) => a.asked - b.asked)
  const stops = merged(late)
  let longest = 0
  ordered.forEach((turn, index) => {
    let allowed = perTurn
    // Two requests on their way at the same moment may arrive in either order.
    for (let other = 0; other < ordered.length; other++) {
      const before = ordered[other]!
      if (other === index || before.asked > turn.asked + perTurn) continue
      if (before.left > turn.asked) allowed += before.left - Math.max(before.entered, turn.asked) + perTurn
    }
    for (const [from, to] of stops) {
      if (to > turn.asked && from < turn.entered) allowed += Math.min(to, turn.entered) - Math.max(from, turn.asked)
    }
    longest = Math.max(longest, turn.entered - turn.asked - allowed)
  })
  return longest
}

/** The same times, each once. */
const merged = (times: ReadonlyArray<Late>): ReadonlyArray<Late> => {
  const union: Array<[number, number]> = []
  for (const [from, to] of times.toSorted(([a], [b]) => a - b)) {
    const last = union.at(-1)
    if (last !== undefined && from <= last[1]) last[1] = Math.max(last[1], to)
    else union.push([from, to])
  }
  return union
}

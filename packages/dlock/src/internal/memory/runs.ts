import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { Claim, Held, Period, RunRecord, RunStore } from "../../LockStore.ts"

interface Entry extends RunRecord {
  /** The claim of the run. */
  readonly id: string
  /** When a run last counted, in milliseconds since 1970. */
  readonly countedAt: number | undefined
  readonly keptUntil: number
}

/** Records of runs in this process's memory. */
export const make = (
  clock: Clock.Clock,
  isHeld: (held: Held) => boolean,
  entries = new Map<string, Entry>()
): RunStore => {
  let mostEntries = leastSwept
  const now = () => clock.currentTimeMillisUnsafe()

  const find = ({ key }: Claim): Entry | undefined => {
    const entry = entries.get(key)
    if (entry === undefined || entry.keptUntil > now()) return entry
    entries.delete(key)
    return undefined
  }

  /** Whenever the entries have doubled, those that have expired go out. */
  const put = ({ key }: Claim, period: Period, entry: Omit<Entry, "keptUntil">): void => {
    const keptFor = period._tag === "Slot" ? slotKeptFor : Duration.toMillis(period.interval)
    const keptUntil = Math.max(now() + keptFor, entries.get(key)?.keptUntil ?? 0)
    entries.set(key, { ...entry, keptUntil })
    if (entries.size < mostEntries) return
    const time = now()
    for (const [key, entry] of entries) if (entry.keptUntil <= time) entries.delete(key)
    mostEntries = Math.max(leastSwept, 2 * entries.size)
  }

  const isDue = (entry: Entry | undefined, period: Period): boolean => {
    if (entry === undefined) return true
    if (period._tag === "Slot") return entry.slot === undefined || entry.slot < period.slot
    return entry.countedAt === undefined || entry.countedAt + Duration.toMillis(period.interval) <= now()
  }

  const counting = (entry: Entry | undefined, period: Period, isCounted: boolean) => ({
    slot: isCounted && period._tag === "Slot" ? period.slot : entry?.slot,
    countedAt: isCounted && period._tag === "Interval" ? now() : entry?.countedAt
  })

  return {
    find: (claim, period) =>
      Effect.sync(() => {
        const last = find(claim)
        return { isDue: period === undefined || isDue(last, period), now: now(), last }
      }),
    begin: (held, period, counts) =>
      Effect.sync(() => {
        const { claim } = held
        if (!isHeld(held)) return "notHeld"
        const entry = find(claim)
        if (entry?.id === claim.id) return "due"
        if (!isDue(entry, period)) return "done"
        if (counts === "start") {
          put(claim, period, {
            ...counting(entry, period, true),
            id: claim.id,
            startedAt: now(),
            endedAt: undefined,
            outcome: undefined,
            holder: claim.holder
          })
        }
        return "due"
      }),
    end: (held, period, { counts, elapsed, outcome }) =>
      Effect.sync(() => {
        const { claim } = held
        if (!isHeld(held)) return "notHeld"
        const entry = find(claim)
        const mine = entry?.id === claim.id ? entry : undefined
        if (mine?.outcome === undefined) {
          put(claim, period, {
            ...counting(entry, period, counts === "success" && outcome === "succeeded"),
            id: claim.id,
            startedAt: mine?.startedAt ?? Math.round(now() - elapsed),
            endedAt: now(),
            outcome,
            holder: claim.holder
          })
        }
        return "recorded"
      })
  }
}

const leastSwept = 64

/** Milliseconds: 90 days. */
const slotKeptFor = 90 * 24 * 60 * 60 * 1_000

import type { Recorded } from "../events.ts"

/** A holder's stay inside a lock, as the resource saw it. */
export interface Stay {
  readonly who: string
  readonly key: string
  readonly from: number
  to: number
  /** When the resource was told that the lease was lost. */
  lostAt: number | undefined
  readonly reason: string | undefined
  /** Steps that the fence refused. */
  readonly refused: ReadonlyArray<number>
}

export interface FaultWindow {
  readonly kind: string
  readonly workers: "all" | ReadonlyArray<string>
  readonly from: number
  to: number
}

/** What the picture of a history shows. */
export interface Intervals {
  readonly stays: ReadonlyArray<Stay>
  readonly faultWindows: ReadonlyArray<FaultWindow>
  readonly end: number
}

type Growing = Omit<Stay, "refused" | "reason"> & { reason: string | undefined; readonly refused: Array<number> }

/** Reads a history in its order. */
export const intervalsOf = (history: Iterable<Recorded>): Intervals => {
  const stays = new Map<string, Growing>()
  const faultWindows = new Map<number, FaultWindow>()
  const keys = new Map<string, string>()
  let end = 0
  for (const event of history) {
    end = event.arrived
    if (event.t === "acquired") keys.set(event.id, event.key)
    else if (event.t === "enter" || event.t === "step" || event.t === "exit") {
      const key = keys.get(event.id)
      let stay = stays.get(event.id)
      if (key === undefined) continue
      if (stay === undefined) {
        stay = { who: event.who, key, from: end, to: Infinity, lostAt: undefined, reason: undefined, refused: [] }
        stays.set(event.id, stay)
      }
      if (!event.accepted) stay.refused.push(end)
      if (event.t === "exit") stay.to = end
    } else if (event.t === "lost") {
      const stay = stays.get(event.id)
      if (stay === undefined) continue
      stay.lostAt = end
      stay.reason = event.reason
    } else if (event.t === "gone") {
      for (const stay of stays.values()) if (stay.who === event.who) stay.to = Math.min(stay.to, end)
    } else if (event.t === "fault" && event.own !== true) {
      faultWindows.set(event.n, { kind: event.kind, workers: event.workers, from: event.from, to: Infinity })
    } else if (event.t === "healed") {
      const faultWindow = faultWindows.get(event.n)
      if (faultWindow !== undefined) faultWindow.to = event.to
    }
  }
  const whole = <A extends { to: number }>(all: Iterable<A>) =>
    Array.from(all, (one) => ({ ...one, to: Math.min(one.to, end) }))
  return { stays: whole(stays.values()), faultWindows: whole(faultWindows.values()), end }
}

/** The start of the span of so many milliseconds with the most losses and the most kinds of faults. */
export const busiest = ({ end, stays, faultWindows }: Intervals, span: number): number => {
  const first = faultWindows[0]?.from ?? stays[0]?.from ?? end
  let best = { from: first, score: -1 }
  for (let from = first; from + span <= end; from += span / 12) {
    const within = (at: number | undefined) => at !== undefined && at >= from && at < from + span
    const lost = stays.filter(({ lostAt }) => within(lostAt))
    const kinds = new Set(faultWindows.filter((one) => within(one.from)).map(({ kind }) => kind))
    const score = lost.length + 2 * new Set(lost.map(({ reason }) => reason)).size + 2 * kinds.size
    if (score > best.score) best = { from, score }
  }
  return best.from
}

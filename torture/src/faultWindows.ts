import type { Fault } from "./events.ts"

interface FaultWindow extends Fault {
  to: number
}

/** The faults of a campaign, with the time and the effects of each. */
export class FaultWindows {
  private readonly open = new Map<number, FaultWindow>()
  /** Those that may have made a backend forget: few enough to keep for good. */
  private readonly forgetting: Array<FaultWindow> = []
  private recent: Array<FaultWindow> = []
  total = 0
  hits = 0
  readonly kinds = new Map<string, number>()

  begin(fault: Fault): void {
    const faultWindow = { ...fault, to: Infinity }
    this.open.set(fault.n, faultWindow)
    this.recent.push(faultWindow)
    if (fault.forgets.length > 0) this.forgetting.push(faultWindow)
    if (fault.own === true) return
    this.total++
    if (fault.hit) this.hits++
    this.kinds.set(fault.kind, (this.kinds.get(fault.kind) ?? 0) + 1)
  }

  end(n: number, to: number): void {
    const faultWindow = this.open.get(n)
    if (faultWindow !== undefined) faultWindow.to = to
    this.open.delete(n)
  }

  /** What may have made the backend forget a lock on `key` that was held in this time. */
  findDataLoss(key: string, from: number, to: number): string | undefined {
    return this.forgetting.findLast((one) =>
      one.from <= to && one.to + margin >= from && (one.forgets === "all" || one.forgets.includes(key))
    )?.kind
  }

  /** When the last fault that may have made the backend forget `key`, and that went on in this time, has ended. */
  endOfDataLoss(key: string, from: number, to: number): number {
    return this.forgetting.reduce(
      (last, one) =>
        one.from <= to && one.to >= from && (one.forgets === "all" || one.forgets.includes(key))
          ? Math.max(last, one.to)
          : last,
      0
    )
  }

  /** Whether any fault hit this worker in this time. */
  hasHit(who: string, from: number, to: number): boolean {
    return this.recent.some((one) =>
      one.from <= to && one.to >= from && (one.workers === "all" || one.workers.some((name) => isOneOf(name, who)))
    )
  }

  /** When the last fault of any of these on a key had ended, with its after-effects; `Infinity` where one has not. */
  endOfLast(those: ReadonlySet<string>, key: string, before: number): number {
    let last = 0
    for (const { forgets, from, limbo = usualLimbo, to, workers } of this.recent) {
      // A fault of other keys does not affect this one.
      if (forgets !== "all" && forgets.length > 0 && !forgets.includes(key)) continue
      if (from > before || (workers !== "all" && !workers.some((name) => hasOneOf(those, name)))) continue
      last = Math.max(last, to + limbo)
    }
    return last
  }

  /** Whether an answer to this worker (any worker, if undefined) may have been lost or late in this time. */
  mayHaveLostAnswer(who: string | undefined, from: number, to: number): boolean {
    return this.recent.some((one) =>
      one.harmless !== true && one.from <= to && one.to + usualLimbo >= from &&
      (one.workers === "all" || who === undefined ||
        one.workers.some((name) => isOneOf(name, who) || isOneOf(who, name)))
    )
  }

  /** Whether in this time a fault hit what this worker is told, of locks on `key`. */
  mayHaveHit(who: string, key: string, from: number, to: number, limbo = usualLimbo): boolean {
    return this.recent.some((one) =>
      one.from <= to && one.to + limbo >= from &&
      (one.forgets === "all" || one.forgets.length === 0 || one.forgets.includes(key)) &&
      (one.workers === "all" || one.workers.some((name) => isOneOf(name, who) || isOneOf(who, name)))
    )
  }

  /** Whether the servers were away, or their time was changed, in this time. */
  wereServersAway(from: number, to: number): boolean {
    return this.recent.some((one) =>
      one.workers === "all" && one.to - one.from > atOnce && one.from <= to && one.to + usualLimbo >= from
    )
  }

  /** When they were back for the last time that they had not been for all of this time; 0 if they never were away. */
  endOfAbsence(from: number, to: number): number {
    return this.recent.reduce(
      (last, one) =>
        one.workers === "all" && one.to - one.from > atOnce && one.from <= to && one.to + usualLimbo >= from
          ? Math.max(last, one.to + usualLimbo)
          : last,
      0
    )
  }

  /** Whether the servers may refuse requests at this moment. */
  mayRefuse(at: number): boolean {
    return this.recent.some(({ from, kind, to }) => kind.startsWith("refuse the ") && from <= at && to >= at)
  }

  /** Whether any fault hit the servers in this time. */
  hasHitServers(from: number, to: number): boolean {
    return this.recent.some((one) => one.workers === "all" && one.from <= to && one.to >= from)
  }

  forget(before: number): void {
    this.recent = this.recent.filter(({ to }) => to >= before)
  }
}

/** Whether `name`, of a worker or of one of its processes, includes `who`. */
export const isOneOf = (name: string, who: string): boolean => who === name || who.startsWith(`${name}.`)

const hasOneOf = (those: ReadonlySet<string>, name: string): boolean =>
  those.has(name) || Array.from(those).some((who) => isOneOf(name, who))

/** Milliseconds in which a client has connected again and asked for what it missed. */
const usualLimbo = 3_000

/** Milliseconds within which a fault without duration is over. */
const atOnce = 100

/** A grant arrives a little later than it was given. */
const margin = 250

interface Interval {
  readonly from: number
  readonly to: number
}

/** Milliseconds within which a process that is inside tells of something. */
const talks = 300

/** Those on whose way everything lies. */
export const onTheWay: ReadonlyArray<string> = ["harness", "resource", "servers"]

/** Milliseconds that are in any of them. */
const lengthOf = (all: ReadonlyArray<Interval>): number => {
  let [sum, until] = [0, -Infinity]
  for (const { from, to } of all.toSorted((a, b) => a.from - b.from)) {
    sum += Math.max(0, to - Math.max(from, until))
    until = Math.max(until, to)
  }
  return sum
}

/** When which process stood still: stopped by a signal, stalled, or without a processor. */
export class Lags {
  private readonly of = new Map<string, Array<Interval>>()
  private readonly last = new Map<string, number>()
  /** Until when all is told of those who look at themselves. */
  private readonly told = new Map<string, number>()

  /** What `by` has seen of `who`. Who looks at itself has told of everything before that. */
  add(who: string, from: number, to: number, by = who): void {
    if (by === who) this.told.set(who, to)
    if (from === to) return
    const all = this.of.get(who) ?? []
    all.push({ from, to })
    this.of.set(who, all)
  }

  /** It has told of something: it runs. */
  heard(who: string, at: number): void {
    this.last.set(who, at)
  }

  /** Its process is over. What it stood still before that it could not tell any more. */
  ended(who: string, at: number): void {
    const last = this.last.get(who) ?? at
    const told = this.told.get(who)
    // Who looks at itself may have told of other things in the midst of a long turn.
    if (told !== undefined && at - told > talks) this.add(who, told, at)
    else if (at - last > talks) this.add(who, last, at)
    this.told.delete(who)
  }

  /** Whether more may be told of what it stood still before this moment. */
  isOpen(who: string, at: number): boolean {
    return (this.told.get(who) ?? at) < at
  }

  /** Whether it has told of nothing since long before this moment: it stands still for good. */
  isSilentSince(who: string, at: number): boolean {
    return (this.last.get(who) ?? at) < at - talks
  }

  /** How much of a stretch of time a process did not run, with what began before and ends after it. */
  within(who: string, from: number, to: number): number {
    return lengthOf(this.during(who, from, to))
  }

  /** The same of those on whose way everything lies: the proxies, the resource, and the servers. What is at once counts once. */
  onTheWay(from: number, to: number): number {
    return lengthOf(onTheWay.flatMap((who) => this.during(who, from, to)))
  }

  private during(who: string, from: number, to: number): ReadonlyArray<Interval> {
    return (this.of.get(who) ?? []).filter((one) => one.from <= to && one.to >= from)
  }

  /** The most that anybody stood still, with what lies on everybody's way. */
  ofAnybody(from: number, to: number): number {
    return Math.max(...Array.from(this.of.keys(), (who) => this.within(who, from, to)), 0) + this.onTheWay(from, to)
  }

  forget(before: number): void {
    for (const [who, all] of this.of) this.of.set(who, all.filter(({ to }) => to >= before))
  }
}

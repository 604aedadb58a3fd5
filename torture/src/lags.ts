interface Interval {
  readonly from: number
  readonly to: number
}

/** When which process stood still: stopped by a signal, stalled, or without a processor. */
export class Lags {
  private readonly of = new Map<string, Array<Interval>>()
  private readonly last = new Map<string, number>()

  add(who: string, from: number, to: number): void {
    const all = this.of.get(who) ?? []
    all.push({ from, to })
    this.of.set(who, all)
  }

  /** It has told of something: it runs. */
  heard(who: string, at: number): void {
    this.last.set(who, at)
  }

  /** How much of a stretch of time a process did not run, with what began before and ends after it. */
  within(who: string, from: number, to: number): number {
    // One that stands still cannot tell of it before it is over.
    const last = this.last.get(who) ?? to
    let sum = to - last > 300 ? to - Math.max(from, last) : 0
    for (const one of this.of.get(who) ?? []) if (one.from <= to && one.to >= from) sum += one.to - one.from
    return sum
  }

  /** The same of those on whose way everything lies: the proxies, and the resource. */
  onTheWay(from: number, to: number): number {
    return this.within("harness", from, to) + this.within("resource", from, to)
  }

  forget(before: number): void {
    for (const [who, all] of this.of) this.of.set(who, all.filter(({ to }) => to >= before))
  }
}

interface Interval {
  readonly from: number
  readonly to: number
}

/** When which process stood still: stopped by a signal, stalled, or without a processor. */
export class Lags {
  private readonly of = new Map<string, Array<Interval>>()

  add(who: string, from: number, to: number): void {
    const all = this.of.get(who) ?? []
    all.push({ from, to })
    this.of.set(who, all)
  }

  /** How much of a stretch of time a process did not run, with what began before and ends after it. */
  within(who: string, from: number, to: number): number {
    let sum = 0
    for (const one of this.of.get(who) ?? []) if (one.from <= to && one.to >= from) sum += one.to - one.from
    return sum
  }

  forget(before: number): void {
    for (const [who, all] of this.of) this.of.set(who, all.filter(({ to }) => to >= before))
  }
}

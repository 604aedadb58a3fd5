/** Times that were measured, in milliseconds. */
export class Samples {
  private readonly values: Array<number> = []

  add(millis: number): void {
    this.values.push(millis)
  }

  get count(): number {
    return this.values.length
  }

  /** What so large a share of them did not take longer than. `undefined` if there are none. */
  quantile(share: number): number | undefined {
    const sorted = this.values.toSorted((one, other) => one - other)
    return sorted[Math.min(sorted.length - 1, Math.ceil(sorted.length * share) - 1)]
  }
}

/** What is told of them. */
export interface Times {
  readonly count: number
  readonly p50Ms: number
  readonly p99Ms: number
  readonly maxMs: number
}

export const timesOf = (samples: Samples): Times | undefined =>
  samples.count === 0 ? undefined : {
    count: samples.count,
    p50Ms: samples.quantile(0.5)!,
    p99Ms: samples.quantile(0.99)!,
    maxMs: samples.quantile(1)!
  }

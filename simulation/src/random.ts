/** Mixes two numbers of 32 bits into one. */
export const mix = (a: number, b: number): number => {
  let hash = Math.imul(a ^ 0x9e3779b9, 0x85ebca6b) ^ Math.imul(b + 0x7f4a7c15, 0xc2b2ae35)
  hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d)
  hash = Math.imul(hash ^ (hash >>> 12), 0x297a2d39)
  return (hash ^ (hash >>> 15)) >>> 0
}

/**
 * Choices that a seed repeats. If all drew from one source, a fault that is left out would change everything after it.
 * So each thing draws from its own source, made by `of`.
 */
export class Random {
  private state: number

  constructor(seed: number) {
    this.state = seed >>> 0
  }

  static of(seed: number, ...names: ReadonlyArray<number>): Random {
    return new Random(names.reduce(mix, mix(seed, 0)))
  }

  /** From 0 to below 1. */
  next(): number {
    this.state = (this.state + 0x6d2b79f5) >>> 0
    let t = Math.imul(this.state ^ (this.state >>> 15), 1 | this.state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }

  chance(probability: number): boolean {
    return this.next() < probability
  }

  /** A whole number from `least` to `most`. */
  between(least: number, most: number): number {
    return least + Math.floor(this.next() * (most - least + 1))
  }

  /** Half of them are below the geometric mean, so short times are as frequent as long ones. */
  spread(least: number, most: number): number {
    return Math.round(least * (most / least) ** this.next())
  }

  pick<A>(list: ReadonlyArray<A>): A {
    return list[this.between(0, list.length - 1)] as A
  }

  /** One of the names, by their weights. */
  weighted<A extends string>(weights: Readonly<Record<A, number>>): A {
    const entries = Object.entries(weights) as Array<[A, number]>
    let left = this.next() * entries.reduce((sum, [, weight]) => sum + weight, 0)
    for (const [name, weight] of entries) {
      if (left < weight) return name
      left -= weight
    }
    return entries[0]![0]
  }
}

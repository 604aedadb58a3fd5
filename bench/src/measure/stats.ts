/** The value below which the given part of the values lies, by nearest rank. `NaN` of nothing. */
export const percentile = (sorted: ArrayLike<number>, part: number): number =>
  sorted.length === 0 ? NaN : sorted[Math.max(0, Math.ceil(part * sorted.length) - 1)] as number

/** Of an even number of values, the mean of the two in the middle. Values that are missing do not count. */
export const median = (values: ReadonlyArray<number>): number => {
  const sorted = values.filter((value) => !Number.isNaN(value)).toSorted((a, b) => a - b)
  if (sorted.length === 0) return NaN
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

export const sum = (values: Iterable<number>): number => {
  let total = 0
  for (const value of values) total += value
  return total
}

/** How many times as often the most served was served as the least served. */
export const spread = (served: ReadonlyArray<number>): number => Math.max(...served) / Math.min(...served)

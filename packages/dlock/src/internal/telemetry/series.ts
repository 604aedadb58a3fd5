import * as Context from "effect/Context"
import * as Metric from "effect/Metric"

type Attributes = Readonly<Record<string, string>>

/**
 * A count or a sum of values, where the values are added. An update of a metric of Effect looks up its registry and its
 * series each time, which takes about as long as all metrics of a lock may take together. So these keep their numbers
 * here, and the registry reads them when somebody looks.
 */
export class Total {
  count = 0

  add(): void {
    this.count++
  }
}

/** How often a value was at most each of some boundaries. */
export class Distribution {
  private readonly boundaries: ReadonlyArray<number>
  private readonly counts: Array<number>
  count = 0
  private sum = 0
  private min = Number.MAX_VALUE
  private max = -Number.MAX_VALUE

  constructor(boundaries: ReadonlyArray<number>) {
    this.boundaries = boundaries
    this.counts = boundaries.map(() => 0)
  }

  add(value: number): void {
    this.count++
    this.sum += value
    if (value < this.min) this.min = value
    if (value > this.max) this.max = value
    // Most values are small, so the first boundaries are tried first.
    const { boundaries } = this
    for (let index = 0; index < boundaries.length; index++) {
      if (value > boundaries[index]!) continue
      this.counts[index]!++
      return
    }
  }

  get state(): Metric.HistogramState {
    let sum = 0
    const buckets = this.boundaries.map((boundary, index): [number, number] => [boundary, sum += this.counts[index]!])
    return { buckets, count: this.count, min: this.min, max: this.max, sum: this.sum }
  }
}

/**
 * Where the function that reads a series keeps what it reads. Not in a map of this module: a process may have several
 * copies of this library, and the series of one must not take the place of another's. The number changes with what is kept.
 */
const source = Symbol.for("effect-dlock/metrics/1")

/**
 * Finds what a series is read from, or makes it. All lockers with the same attributes in one registry share it, so that
 * their values add up.
 */
const share = <Source extends object, State>(
  metric: Metric.Metric<any, State>,
  attributes: Attributes,
  context: Context.Context<never>,
  make: () => Source,
  read: (source: Source) => State
): Source => {
  const measured = Metric.withAttributes(metric, attributes)
  const existing = Context.get(context, Metric.MetricRegistry).get(keyOf(measured, context))
  const known = existing?.hooks.get as { (): State; readonly [source]?: Source } | undefined
  if (known?.[source] !== undefined) return known[source]
  const made = make()
  const get = Object.assign(() => read(made), { [source]: made })
  Metric.registerUnsafe(measured, context, { get, update: nothing, modify: nothing })
  return made
}

const nothing = (): void => {}

/** The key of a series in a registry, which only a registry tells. */
const keyOf = (metric: Metric.Metric<any, unknown>, context: Context.Context<never>): string => {
  const registry: Metric.MetricRegistry = new Map()
  metric.valueUnsafe(Context.add(context, Metric.MetricRegistry, registry))
  const [key] = registry.keys()
  return key!
}

export const counter = (
  metric: Metric.Counter<number>,
  attributes: Attributes,
  context: Context.Context<never>
): Total => share(metric, attributes, context, () => new Total(), ({ count }) => ({ count, incremental: true }))

export const distribution = (
  metric: Metric.Histogram<any>,
  attributes: Attributes,
  context: Context.Context<never>
): Distribution =>
  share(metric, attributes, context, () => new Distribution(boundariesOf(metric)), ({ state }) => state)

const boundariesOf = (metric: Metric.Histogram<any>): ReadonlyArray<number> =>
  metric.valueUnsafe(Context.make(Metric.MetricRegistry, new Map())).buckets.map(([boundary]) => boundary)

/** A gauge that is computed from its source when it is read. */
export const gauge = <Input extends number | bigint, Source extends object>(
  metric: Metric.Gauge<Input>,
  attributes: Attributes,
  context: Context.Context<never>,
  make: () => Source,
  read: (source: Source) => Metric.GaugeState<Input>["value"]
): Source => share(metric, attributes, context, make, (source) => ({ value: read(source) }))

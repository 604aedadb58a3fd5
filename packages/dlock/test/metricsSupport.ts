import { Effect, Metric } from "effect"
import { LockMetrics } from "effect-dlock"

/** The metrics of what runs with them, and of nothing else. */
export interface Measured {
  /** The value of a counter or a gauge, and how many values a timer has. 0 if there is no such series. */
  readonly count: (metric: Metric.Metric<any, unknown>, attributes?: Readonly<Record<string, string>>) => number
  /** The sum over all series of a metric whose attributes are among these. */
  readonly sum: (metric: Metric.Metric<any, unknown>, attributes?: Readonly<Record<string, string>>) => number
  readonly all: () => ReadonlyArray<Metric.Metric.Snapshot>
}

/** Runs an effect with a registry of its own. */
export const measured = <A, E, R>(body: (metrics: Measured) => Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.provideService(
    Effect.contextWith((context) => {
      const all = () => Metric.snapshotUnsafe(context)
      const found: Measured["sum"] = (metric, attributes = {}) =>
        all().filter(({ attributes: own = {}, id }) =>
          id === metric.id && Object.entries(attributes).every(([name, value]) => own[name] === value)
        ).reduce((sum, { state }) => sum + numberOf(state), 0)
      const count: Measured["count"] = (metric, attributes = {}) =>
        found(metric, { backend: "memory", kind: "mutex", ...attributes })
      return body({ count, sum: found, all })
    }),
    Metric.MetricRegistry,
    new Map()
  )

const numberOf = (state: Metric.Metric.Snapshot["state"]): number =>
  Number("value" in state ? state.value : "count" in state ? state.count : Number.NaN)

/** Whether every lock that was acquired was released, was lost or is held, for each kind. */
export const unexplained = ({ sum }: Measured): Readonly<Record<string, number>> => {
  const { acquired, held, lost, released } = LockMetrics
  const kinds = ["mutex", "semaphore", "readWrite"].map((kind) =>
    [kind, sum(acquired, { kind }) - sum(released, { kind }) - sum(lost, { kind }) - sum(held, { kind })] as const
  )
  return Object.fromEntries(kinds.filter(([, left]) => left !== 0))
}

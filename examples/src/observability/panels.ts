// The panels of the dashboard's JSON, and what Prometheus answers to their queries. It does what Grafana does before it
// asks: it puts values in the place of variables.
import type { Prometheus, Range } from "dlock-testing"
import { Effect, Schema } from "effect"

const Target = Schema.Struct({ expr: Schema.String, legendFormat: Schema.optional(Schema.String) })

const Steps = Schema.Array(Schema.Struct({ value: Schema.NullOr(Schema.Number), color: Schema.String }))

const Panel = Schema.Struct({
  type: Schema.Literals(["row", "stat", "timeseries"]),
  title: Schema.String,
  gridPos: Schema.Struct({ x: Schema.Number, y: Schema.Number, w: Schema.Number, h: Schema.Number }),
  targets: Schema.optional(Schema.Array(Target)),
  fieldConfig: Schema.optional(Schema.Struct({
    defaults: Schema.Struct({
      unit: Schema.optional(Schema.String),
      max: Schema.optional(Schema.Number),
      thresholds: Schema.optional(Schema.Struct({ steps: Steps })),
      custom: Schema.optional(Schema.Struct({
        fillOpacity: Schema.optional(Schema.Number),
        stacking: Schema.optional(Schema.Struct({ mode: Schema.optional(Schema.String) }))
      }))
    })
  }))
})

export interface Panel extends Schema.Schema.Type<typeof Panel> {}

const Dashboard = Schema.fromJsonString(Schema.Struct({ title: Schema.String, panels: Schema.Array(Panel) }))

export const read = Schema.decodeUnknownEffect(Dashboard)

/** A line of a panel, under the name that its legend has. */
export interface Line {
  readonly name: string
  readonly points: ReadonlyArray<readonly [seconds: number, value: number]>
}

export interface Answered {
  readonly panel: Panel
  readonly lines: ReadonlyArray<Line>
}

const expand = (expression: string, { from, to }: Range): string =>
  expression
    .replaceAll("$__rate_interval", "10s")
    .replaceAll("$__range", `${Math.ceil(to - from)}s`)
    .replaceAll(/\$(job|backend|kind|lock)\b/g, ".*")

const nameOf = (legend: string, labels: Readonly<Record<string, string>>): string =>
  legend.replaceAll(/\{\{(\w+)\}\}/g, (_, label: string) => labels[label] ?? "").trim()

/** What Grafana would draw in a panel. */
export const ask = (prometheus: Prometheus, panel: Panel, range: Range): Effect.Effect<Answered> =>
  Effect.map(
    Effect.forEach(panel.targets ?? [], ({ expr, legendFormat = "" }) =>
      Effect.map(
        Effect.promise(() => prometheus.query(expand(expr, range), range)),
        (found) =>
          found.map(({ labels, points }) => ({
            name: nameOf(legendFormat, labels),
            // A quantile of nothing is no number.
            points: points.filter(([, value]) => Number.isFinite(value))
          }))
      ), { concurrency: 4 }),
    (lines) => ({ panel, lines: lines.flat().filter(({ points }) => points.length > 0) })
  )

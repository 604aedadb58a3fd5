// The dashboard, built with Grafana's own library: its types are those of what Grafana imports. Run this file to write
// examples/observability/grafana-dashboard.json anew.
import {
  BigValueGraphMode,
  GraphThresholdsStyleConfigBuilder,
  GraphThresholdsStyleMode,
  LegendDisplayMode,
  LegendPlacement,
  ReduceDataOptionsBuilder,
  SortOrder,
  StackingConfigBuilder,
  StackingMode,
  TooltipDisplayMode,
  VisibilityMode,
  VizLegendOptionsBuilder,
  VizTooltipOptionsBuilder
} from "@grafana/grafana-foundation-sdk/common"
import {
  DashboardBuilder,
  DashboardCursorSync,
  DashboardLinkBuilder,
  DatasourceVariableBuilder,
  QueryVariableBuilder,
  RowBuilder,
  type Threshold,
  ThresholdsConfigBuilder,
  ThresholdsMode,
  VariableRefresh,
  VariableSort
} from "@grafana/grafana-foundation-sdk/dashboard"
import { DataqueryBuilder } from "@grafana/grafana-foundation-sdk/prometheus"
import { PanelBuilder as StatBuilder } from "@grafana/grafana-foundation-sdk/stat"
import { PanelBuilder } from "@grafana/grafana-foundation-sdk/timeseries"
import * as Fs from "node:fs"
import * as Path from "node:path"

const datasource = { type: "prometheus", uid: "${datasource}" }

/** What the variables on top of the dashboard leave of a metric. Store calls have no kind and no lock. */
const chosen = `job=~"$job", backend=~"$backend", kind=~"$kind", lock=~"$lock"`
const ofBackend = `job=~"$job", backend=~"$backend"`

/** A candidate is elected after hours and leads for days. That is no slow wait and no long hold. */
const withoutCandidates = "unless on (job, instance, lock) dlock_leader"

const query = (expression: string, legend: string, refId = "A") =>
  new DataqueryBuilder().expr(expression).legendFormat(legend).refId(refId).range()

const rate = (metric: string, labels: string): string => `rate(${metric}{${labels}}[$__rate_interval])`

const quantile = (part: number, metric: string, by: ReadonlyArray<string>, labels: string, rest = ""): string =>
  `histogram_quantile(${part}, sum by (${["le", ...by].join(", ")}) (${rate(`${metric}_bucket`, labels)}${rest}))`

const waitOf = (part: number, outcome: string): string =>
  quantile(part, "dlock_wait", ["outcome"], `${chosen}, outcome${outcome}`, ` ${withoutCandidates}`)

const thresholds = (...steps: ReadonlyArray<Threshold>) =>
  new ThresholdsConfigBuilder().mode(ThresholdsMode.Absolute).steps([...steps])

const stat = (title: string, description: string, expression: string) =>
  new StatBuilder()
    .title(title)
    .description(description)
    .datasource(datasource)
    .height(4)
    .span(4)
    .reduceOptions(new ReduceDataOptionsBuilder().calcs(["lastNotNull"]).values(false))
    .graphMode(BigValueGraphMode.Area)
    .withTarget(query(expression, ""))

const chart = (title: string, description: string, unit: string, span: number, ...targets: Array<DataqueryBuilder>) =>
  new PanelBuilder()
    .title(title)
    .description(description)
    .datasource(datasource)
    .unit(unit)
    .height(8)
    .span(span)
    .min(0)
    .lineWidth(2)
    .fillOpacity(8)
    .showPoints(VisibilityMode.Never)
    .legend(
      new VizLegendOptionsBuilder()
        .displayMode(LegendDisplayMode.List)
        .placement(LegendPlacement.Bottom)
        .showLegend(true)
        .calcs([])
    )
    .tooltip(new VizTooltipOptionsBuilder().mode(TooltipDisplayMode.Multi).sort(SortOrder.Descending))
    .targets(targets)

const stacked = (panel: PanelBuilder) =>
  panel.fillOpacity(40).stacking(new StackingConfigBuilder().mode(StackingMode.Normal).group("A"))

const area = (panel: PanelBuilder, ...steps: ReadonlyArray<Threshold>) =>
  panel.thresholds(thresholds(...steps)).thresholdsStyle(
    new GraphThresholdsStyleConfigBuilder().mode(GraphThresholdsStyleMode.Dashed)
  )

const now = [
  stat("Held now", "Locks that are held now, by all processes.", `sum(dlock_held{${chosen}})`),
  stat(
    "Waiting now",
    "Calls that ask for a lock now and have not got it, without candidates for a leadership.",
    `sum(dlock_waiting{${chosen}})`
  ),
  stat(
    "Oldest wait",
    "For how long the call has waited that waits longest now. It grows while a lock is stuck. Candidates for a leadership are left out.",
    `max(dlock_oldest_wait{${chosen}}) or vector(0)`
  ).unit("ms").thresholds(
    thresholds({ value: null, color: "green" }, { value: 10_000, color: "orange" }, { value: 60_000, color: "red" })
  ),
  stat(
    "Slack, 1st percentile",
    "Of 100 renewals, the worst one left this part of the ttl. A renewal that goes well leaves two thirds.",
    quantile(0.01, "dlock_deadline_slack_ratio", [], chosen)
  ).unit("percentunit").decimals(0).thresholds(
    thresholds({ value: null, color: "red" }, { value: 0.15, color: "orange" }, { value: 0.3, color: "green" })
  ),
  stat(
    "Lost in the range",
    "Locks that ended under their holder, without those that were revoked or held for their maxHold.",
    `sum(increase(dlock_lost_total{${chosen}, reason!~"Revoked|MaxHold"}[$__range]))`
  ).decimals(0).thresholds(thresholds({ value: null, color: "green" }, { value: 1, color: "red" })),
  stat("Leaders", "Leaderships that somebody has now.", `sum(dlock_leader{${ofBackend}})`)
]

const load = [
  chart(
    "Acquired per second",
    "Grants that reached their caller.",
    "ops",
    8,
    query(`sum by (kind, lock) (${rate("dlock_acquired_total", chosen)})`, "{{kind}} {{lock}}")
  ),
  stacked(chart(
    "Held now",
    "Locks that are held now.",
    "short",
    8,
    query(`sum by (kind, lock) (dlock_held{${chosen}})`, "{{kind}} {{lock}}")
  )),
  stacked(chart(
    "Waiting now",
    "Calls that ask for a lock now. A line that only rises is a lock that is stuck.",
    "short",
    8,
    query(`sum by (kind, lock) (dlock_waiting{${chosen}})`, "{{kind}} {{lock}}")
  ))
]

const waits = [
  chart(
    "Wait of those who got the lock",
    "From the call to the grant.",
    "ms",
    8,
    query(waitOf(0.5, "=\"granted\""), "p50"),
    query(waitOf(0.95, "=\"granted\""), "p95", "B"),
    query(waitOf(0.99, "=\"granted\""), "p99", "C")
  ),
  chart(
    "Wait of those who did not, p95",
    "Timed out, interrupted, or failed.",
    "ms",
    8,
    query(waitOf(0.95, "!=\"granted\""), "{{outcome}}")
  ),
  area(
    chart(
      "Oldest wait",
      "For how long the call has waited that waits longest now. Candidates for a leadership are left out.",
      "ms",
      8,
      query(
        `max by (kind, lock) (dlock_oldest_wait{${chosen}})`,
        "{{kind}} {{lock}}"
      )
    ),
    { value: null, color: "transparent" },
    { value: 60_000, color: "red" }
  )
]

const safety = [
  area(
    chart(
      "Deadline slack, as a part of the ttl",
      "What was left of the ttl when a renewal was confirmed. At 0 the lock is lost. This falls before anything breaks.",
      "percentunit",
      12,
      query(quantile(0.5, "dlock_deadline_slack_ratio", [], chosen), "p50"),
      query(quantile(0.05, "dlock_deadline_slack_ratio", [], chosen), "p5", "B"),
      query(quantile(0.01, "dlock_deadline_slack_ratio", [], chosen), "p1", "C")
    ).max(1),
    { value: null, color: "transparent" },
    { value: 0.3, color: "orange" }
  ),
  stacked(chart(
    "Lost, by reason",
    "Locks that ended under their holder, in the last minute.",
    "short",
    6,
    query(`sum by (reason) (increase(dlock_lost_total{${chosen}}[1m])) > 0`, "{{reason}}")
  )),
  chart(
    "Renewals that failed",
    "Not answered in time, or refused. Each is tried again until the deadline.",
    "ops",
    6,
    query(
      `sum by (instance) (${rate("dlock_renewal_failures_total", chosen)})`,
      "{{instance}}"
    )
  )
]

const backend = [
  chart(
    "Store calls, p95",
    "How long the backend takes to answer.",
    "ms",
    8,
    query(quantile(0.95, "dlock_store_calls", ["operation"], `${ofBackend}, outcome="answered"`), "{{operation}}")
  ),
  chart(
    "Store calls that failed",
    "Refused by the backend, or not answered in time.",
    "ops",
    8,
    query(
      `sum by (operation) (${rate("dlock_store_calls_count", `${ofBackend}, outcome="failed"`)})`,
      "{{operation}}"
    )
  ),
  chart(
    "Hold time, p95",
    "From the grant to the release or the loss. Leaderships are left out: they have no end.",
    "ms",
    8,
    query(quantile(0.95, "dlock_hold", ["kind", "lock"], chosen, ` ${withoutCandidates}`), "{{kind}} {{lock}}")
  )
]

const others = [
  chart(
    "Who leads",
    "1 for the process that leads.",
    "short",
    12,
    query(`max by (instance, lock) (dlock_leader{${ofBackend}})`, "{{instance}}: {{lock}}")
  ).max(1.2).fillOpacity(25),
  chart(
    "Found held",
    "Calls that do not wait and found the lock held.",
    "ops",
    12,
    query(`sum by (kind, lock) (${rate("dlock_busy_total", chosen)})`, "{{kind}} {{lock}}")
  )
]

const valuesOf = (name: string) =>
  new QueryVariableBuilder(name)
    .datasource(datasource)
    .query({ query: `label_values(dlock_acquired_total, ${name})`, refId: name })
    .refresh(VariableRefresh.OnTimeRangeChanged)
    .sort(VariableSort.AlphabeticalAsc)
    .multi(true)
    .includeAll(true)
    // Locks without a name have no label `lock`: everything includes them.
    .allValue(".*")
    .current({ selected: true, text: "All", value: "$__all" })

export const build = () => {
  const dashboard = new DashboardBuilder("Distributed locks")
    .uid("effect-dlock")
    .description("Metrics of effect-dlock: who waits, how close renewals are to their deadline, and what was lost.")
    .tags(["effect-dlock", "locks"])
    .time({ from: "now-1h", to: "now" })
    .timezone("browser")
    .refresh("30s")
    .tooltip(DashboardCursorSync.Crosshair)
    .link(
      new DashboardLinkBuilder("What to do")
        .url("https://github.com/effect-dlock/effect-dlock/blob/main/docs/monitoring.md")
        .targetBlank(true)
    )
    .withVariable(new DatasourceVariableBuilder("datasource").label("Prometheus").type("prometheus"))
  for (const name of ["job", "backend", "kind", "lock"]) dashboard.withVariable(valuesOf(name))
  const rows = [
    ["Now", now],
    ["Load", load],
    ["Waiting", waits],
    ["How safe it is", safety],
    ["Backend and holders", backend],
    ["Leaders and tries", others]
  ] as const
  for (const [title, panels] of rows) {
    dashboard.withRow(new RowBuilder(title))
    for (const panel of panels) dashboard.withPanel(panel)
  }
  return dashboard.build()
}

export const file = Path.resolve(import.meta.dirname, "../../observability/grafana-dashboard.json")

/** As it is committed: Grafana sets the keys that are absent. */
export const json = (): string => `${JSON.stringify(build(), null, 2)}\n`

if (import.meta.main) Fs.writeFileSync(file, json())

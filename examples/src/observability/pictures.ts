// Makes the pictures of docs/monitoring.md from a run of two minutes: a fleet works, three things go wrong, and then the
// dashboard's queries are asked and the traces are looked through.
//
//   npm run observe:pictures                 a run, then the pictures
//   npm run observe:pictures -- --redraw     the pictures of the last run, after a change to how they are drawn
import { NodeRuntime } from "@effect/platform-node"
import { Clock, Effect } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Collector from "./collector.ts"
import * as Dashboard from "./dashboard.ts"
import { draw as drawDashboard, type Incident, type Run } from "./drawDashboard.ts"
import { blockedIn, draw as drawTrace } from "./drawTrace.ts"
import * as Fleet from "./fleet.ts"
import * as Panels from "./panels.ts"

const root = Path.resolve(import.meta.dirname, "../../..")
const kept = Path.join(root, ".cache/observability-run.json")

interface Kept {
  readonly run: Run
  readonly spans: ReadonlyArray<Collector.Span>
}

const seconds = Effect.map(Clock.currentTimeMillis, (millis) => millis / 1_000)

const record = Effect.gen(function*() {
  const fleet = yield* Fleet.start({ driver: "redis" })
  // The first scrapes have nothing to compare with.
  yield* Effect.sleep("12 seconds")
  const from = yield* seconds
  const incidents: Array<Incident> = []
  const incident = Effect.fnUntraced(function*(name: string, fault: Effect.Effect<void>) {
    const begin = yield* seconds
    yield* fault
    incidents.push({ name, from: begin, to: yield* seconds })
    yield* Effect.log(name)
  })
  yield* Effect.sleep("20 seconds")
  const { spans } = yield* Collector.Collector
  const calm = [...spans]
  yield* incident("south: a flaky line to Redis", Fleet.flakyLine(fleet, 6))
  yield* Effect.sleep("15 seconds")
  yield* incident("the leader is frozen", Fleet.freeze(fleet, yield* Fleet.leader(fleet)))
  yield* Effect.sleep("20 seconds")
  yield* incident("south: no line to Redis", Fleet.deadLine(fleet))
  yield* Effect.sleep("24 seconds")
  const to = yield* seconds
  const { panels } = yield* Panels.read(Fs.readFileSync(Dashboard.file, "utf8"))
  const answers = yield* Effect.forEach(panels, (panel) => Panels.ask(fleet.prometheus, panel, { from, to, step: 2 }))
  const result: Kept = { run: { from, to, incidents, answers }, spans: calm }
  Fs.writeFileSync(kept, JSON.stringify(result))
}).pipe(Effect.scoped, Effect.provide(Collector.layer))

/** An order behind a stock count of another process: who waited longest for the one that let it in. */
const exampleOf = (spans: ReadonlyArray<Collector.Span>) => {
  const nameOfRoot = ({ traceId }: Collector.Span) =>
    spans.find((span) => span.traceId === traceId && span.parentSpanId === undefined)?.name
  const found = blockedIn(spans).find(({ blocker, waiter }) => {
    const hold = spans.find(({ name, parentSpanId, traceId }) =>
      name === "dlock.hold" && traceId === blocker.traceId && parentSpanId === blocker.parentSpanId
    )
    return waiter.instance !== blocker.instance && hold !== undefined && Math.abs(waiter.to - hold.to) < 20
      && nameOfRoot(waiter) === "order" && nameOfRoot(blocker) === "stock count" && waiter.from > hold.from
  })
  if (found === undefined) throw new Error("nobody waited for a stock count of another process: run it again")
  return found
}

const paint = Effect.sync(() => {
  const { run, spans }: Kept = JSON.parse(Fs.readFileSync(kept, "utf8"))
  Fs.writeFileSync(Path.join(root, "docs/monitoring-dashboard.svg"), drawDashboard("Distributed locks", run))
  Fs.writeFileSync(
    Path.join(root, "docs/monitoring-trace.svg"),
    drawTrace("An order waits, and its span leads to the holder in its way", exampleOf(spans), spans)
  )
})

NodeRuntime.runMain(process.argv.includes("--redraw") ? paint : Effect.andThen(record, paint))

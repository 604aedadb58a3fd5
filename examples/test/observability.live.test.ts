import { assert, describe, it } from "@effect/vitest"
import { find } from "dlock-testing"
import { Effect, Schedule } from "effect"
import { LockMetrics } from "effect-dlock"
import { execFileSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Collector from "../src/observability/collector.ts"
import * as Dashboard from "../src/observability/dashboard.ts"
import { blockedIn } from "../src/observability/drawTrace.ts"
import * as Fleet from "../src/observability/fleet.ts"
import * as Panels from "../src/observability/panels.ts"

const folder = Path.resolve(import.meta.dirname, "../observability")
const rules = Path.join(folder, "alerts.yml")

const promtool = (...args: ReadonlyArray<string>): string => {
  try {
    return execFileSync(find("promtool"), args, { cwd: folder, encoding: "utf8", stdio: "pipe" })
  } catch (error) {
    return assert.fail(`promtool ${args.join(" ")}: ${(error as { readonly stdout: string }).stdout}`)
  }
}

/** Polls until there is nothing left that is missing. */
const until = (what: string, missing: Effect.Effect<ReadonlyArray<string>>) =>
  missing.pipe(
    Effect.repeat({ until: (names) => names.length === 0, schedule: Schedule.spaced("250 millis") }),
    Effect.timeoutOrElse({
      duration: "45 seconds",
      orElse: () => Effect.flatMap(missing, (names) => Effect.die(`${what} without ${names.join("; ")}`))
    })
  )

describe("the alert rules", () => {
  it("are rules of Prometheus, each of which fires for what it names and for nothing else", () => {
    const tests = Fs.readFileSync(Path.join(folder, "alerts.test.yml"), "utf8")
    const names = Array.from(Fs.readFileSync(rules, "utf8").matchAll(/- alert: (\w+)/g), ([, name]) => name!)
    assert.isAtLeast(names.length, 5)
    assert.include(promtool("check", "rules", "alerts.yml"), `${names.length} rules found`)
    assert.include(promtool("test", "rules", "alerts.test.yml"), "SUCCESS")
    for (const name of names) {
      assert.match(tests, new RegExp(`alertname: ${name}\\n\\s+eval_time: .*\\n\\s+exp_alerts:\\n`), `${name} fires`)
      assert.match(tests, new RegExp(`alertname: ${name}, eval_time: .*exp_alerts: \\[\\]`), `${name} does not fire`)
    }
  })

  it("each say in the documents what to do", () => {
    const page = Fs.readFileSync(Path.resolve(import.meta.dirname, "../../docs/monitoring.md"), "utf8")
    const text = Fs.readFileSync(rules, "utf8")
    const anchors = Array.from(text.matchAll(/runbook_url: \S+\/docs\/monitoring\.md#(\S+)/g), ([, anchor]) => anchor)
    const headings = Array.from(page.matchAll(/^#+ (.*)$/gm), ([, heading]) => heading!.toLowerCase())
    const names = Array.from(text.matchAll(/- alert: (\w+)/g), ([, name]) => name!.toLowerCase())
    assert.deepStrictEqual(anchors, names)
    assert.deepStrictEqual(names.filter((name) => !headings.includes(name)), [])
  })
})

describe("the dashboard", () => {
  it("is what its program writes", () => {
    assert.strictEqual(Fs.readFileSync(Dashboard.file, "utf8"), Dashboard.json())
  })
})

describe("the observed service", () => {
  it.live(
    "is scraped with each metric, answers each query of the dashboard, and its traces name who is in the way",
    () =>
      Effect.gen(function*() {
        const fleet = yield* Fleet.start({ driver: "redis", rules: [rules] })
        const from = Date.now() / 1_000
        const { spans } = yield* Collector.Collector

        // A link leads from a caller's wait to the span of the holder, of another process.
        yield* until(
          "the traces",
          Effect.sync(() => {
            const across = blockedIn(spans).filter(({ blocker, waiter }) =>
              blocker.instance !== waiter.instance
              && blocker.attributes["dlock.key"] === waiter.attributes["dlock.key"]
              && spans.some(({ name, parentSpanId }) => name === "dlock.hold" && parentSpanId === blocker.parentSpanId)
            )
            return across.length > 0 ? [] : ["a link between processes"]
          })
        )
        // What the lock does for itself is in no trace.
        const names = Array.from(new Set(spans.map(({ name }) => name))).filter((name) => name.startsWith("dlock."))
        assert.deepStrictEqual(names.toSorted(), ["dlock.acquire", "dlock.hold"])

        // A counter has risen if it was seen before.
        yield* until(
          "the first scrapes",
          Effect.map(
            Effect.promise(() => {
              const now = Date.now() / 1_000
              return fleet.prometheus.query("dlock_renewal_failures_total", { from: now, to: now, step: 1 })
            }),
            (series) => Fleet.instances.filter((name) => !series.some(({ labels }) => labels.instance === name))
          )
        )
        // South's renewals are answered late, and then not at all. A leader that is frozen loses its lock.
        yield* Fleet.flakyLine(fleet, 1)
        // South holds a lock for long most of the time. If it held none, its line is cut again.
        const failures = Effect.map(
          Effect.promise(async () => (await fetch(fleet.metricsUrls.south)).text()),
          (page) =>
            Array.from(page.matchAll(/^dlock_renewal_failures_total\{.*\} (\d+)/gm), ([, count]) => Number(count))
        )
        const before = (yield* failures).join()
        yield* Effect.repeat(Effect.andThen(Fleet.deadLine(fleet), failures), {
          until: (counts) => counts.join() !== before,
          times: 4
        })
        yield* Effect.flatMap(Fleet.leader(fleet), (leader) => Fleet.freeze(fleet, leader))

        const pages = yield* Effect.forEach(
          Fleet.instances,
          (name) => Effect.promise(async () => (await fetch(fleet.metricsUrls[name])).text())
        )
        const absent = LockMetrics.all.map(({ id }) => id).filter((id) =>
          !pages.every((page) => new RegExp(`^${id}(_count)?\\{.*\\} \\d`, "m").test(page))
        )
        assert.deepStrictEqual(absent, [])

        const { panels } = yield* Effect.orDie(Panels.read(Fs.readFileSync(Dashboard.file, "utf8")))
        const charts = panels.filter(({ type }) => type !== "row")
        assert.isAtLeast(charts.length, 15)
        yield* until(
          "the dashboard",
          Effect.suspend(() => {
            const range = { from, to: Date.now() / 1_000, step: 1 }
            return Effect.map(
              Effect.forEach(charts, (panel) => Panels.ask(fleet.prometheus, panel, range)),
              (answers) => answers.filter(({ lines }) => lines.length === 0).map(({ panel }) => panel.title)
            )
          })
        )

        // The rules are loaded, and the line that was dead is told of.
        yield* until(
          "the alerts",
          Effect.map(Effect.promise(fleet.prometheus.alerts), (alerts) => {
            const told = alerts.map(({ labels }) => labels.alertname)
            return ["DlockLost", "DlockRenewalsFailing"].filter((name) => !told.includes(name))
          })
        )
      }).pipe(Effect.scoped, Effect.provide(Collector.layer)),
    90_000
  )
})

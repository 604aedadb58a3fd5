// A fleet to look at, with everything around it, until Ctrl-C:
//
//   npm run observe
//   npm run observe -- --driver etcd
//
// Three instances of the service work, Prometheus scrapes them and knows the alert rules, and every half minute something
// goes wrong: a flaky line to the server, a leader that is frozen, no line at all.
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Console, Effect } from "effect"
import { Command, Flag } from "effect/cli"
import * as Path from "node:path"
import * as Collector from "./collector.ts"
import { blockedIn } from "./drawTrace.ts"
import * as Fleet from "./fleet.ts"

const folder = Path.resolve(import.meta.dirname, "../../observability")

const faults = (fleet: Fleet.Fleet) =>
  [
    ["south has a flaky line to the server", Fleet.flakyLine(fleet, 6)],
    [
      "the leader is frozen for five seconds",
      Effect.flatMap(Fleet.leader(fleet), (leader) => Fleet.freeze(fleet, leader))
    ],
    ["south has no line to the server for six seconds", Fleet.deadLine(fleet)]
  ] as const

/** The longest wait of which both ends are known. */
const newestLink = Effect.map(Collector.Collector, ({ spans }) => {
  const [longest] = blockedIn(spans.slice(-5_000))
  if (longest === undefined) return "Nobody has waited yet."
  const { blocker, waiter } = longest
  return `${spans.length} spans. The longest wait: ${waiter.instance} waited ${
    Math.round(waiter.to - waiter.from)
  } ms for `
    + `"${waiter.attributes["dlock.key"]}" behind ${blocker.instance}, trace ${blocker.traceId}.`
})

const watch = Effect.fnUntraced(function*(driver: "redis" | "etcd") {
  yield* Console.log("Starting three instances of the service, a server for their locks, and a Prometheus ...")
  const fleet = yield* Fleet.start({ driver, rules: [`${folder}/alerts.yml`] })
  const { url } = yield* Collector.Collector
  yield* Console.log([
    `Prometheus:   ${fleet.prometheus.url}`,
    `alerts:       ${fleet.prometheus.url}/alerts`,
    ...Fleet.instances.map((name) => `${`${name}:`.padEnd(13)} ${fleet.metricsUrls[name]}`),
    `traces go to: ${url}/v1/traces`,
    `A Grafana of yours: add that Prometheus as a data source, and import ${folder}/grafana-dashboard.json`,
    "Ctrl-C ends it."
  ].join("\n"))
  return yield* Effect.forever(Effect.forEach(faults(fleet), ([what, fault]) =>
    Effect.sleep("30 seconds").pipe(
      Effect.andThen(newestLink),
      Effect.flatMap(Effect.log),
      Effect.andThen(Effect.log(what)),
      Effect.andThen(fault)
    ), { discard: true }))
}, Effect.scoped)

const observe = Command.make("observe", {
  driver: Flag.Literals("driver", ["redis", "etcd"]).pipe(
    Flag.withDescription("Where the locks are"),
    Flag.withDefault("redis")
  )
}, ({ driver }) => watch(driver)).pipe(
  Command.withDescription("Runs a small fleet whose locks can be watched, until Ctrl-C")
)

NodeRuntime.runMain(
  Command.run(observe, { version: "0.0.0" }).pipe(Effect.provide([Collector.layer, NodeServices.layer]))
)

// A service that can be seen: Prometheus scrapes its metrics, and its traces go to whatever speaks OTLP.
//
// What to learn from it:
// - The locks need no set-up. A locker counts into Effect's metrics, so the exporter that a service has exports them too.
// - `/metrics` is one layer. Each process has its own: a process that nobody scrapes has metrics that nobody sees.
// - A lock makes spans only inside a span of the program that is sampled. Sample there, and the locks follow.
// - Everything is configured by the variables that OpenTelemetry names: OTEL_TRACES_EXPORTER=otlp and
//   OTEL_EXPORTER_OTLP_ENDPOINT send traces, OTEL_METRICS_EXPORTER=otlp sends the metrics by OTLP as well.
//
// `npm run observe` starts three of them with a server, a collector of traces and a Prometheus. One by itself:
//
//   DLOCK_DRIVER=memory OTEL_SERVICE_NAME=shop METRICS_PORT=9464 node examples/src/observability/service.ts
import { NodeHttpServer, NodeRuntime } from "@effect/platform-node"
import { Config, Layer } from "effect"
import { FetchHttpClient, HttpMiddleware, HttpRouter } from "effect/http"
import { Otlp, OtlpSerialization, PrometheusMetrics } from "effect/observability"
import { createServer } from "node:http"
import { LockerLive } from "../locker.ts"
import * as Shop from "./shop.ts"

/** `GET /metrics`, for Prometheus. A scrape is neither logged nor traced. */
const MetricsLive = HttpRouter.serve(PrometheusMetrics.layerHttp(), { disableLogger: true }).pipe(
  Layer.provide(HttpMiddleware.layerTracerDisabledForUrls(["/metrics"])),
  Layer.provide(NodeHttpServer.layerConfig(
    createServer,
    Config.all({
      host: Config.String("METRICS_HOST").pipe(Config.withDefault("127.0.0.1")),
      port: Config.Port("METRICS_PORT").pipe(Config.withDefault(9464))
    })
  ))
)

/** Traces, metrics and logs, each of them only if its OTEL_*_EXPORTER says `otlp`. */
const OtlpLive = Otlp.layerFromConfig({ loggerMergeWithExisting: true }).pipe(
  Layer.provide([OtlpSerialization.layerJson, FetchHttpClient.layer])
)

NodeRuntime.runMain(Layer.launch(
  Layer.mergeAll(Shop.layer, MetricsLive).pipe(
    Layer.provide(LockerLive),
    // Last: what is below it has its tracer.
    Layer.provide(OtlpLive)
  )
))

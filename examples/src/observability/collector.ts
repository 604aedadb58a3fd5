// A collector of traces, as small as one can be: it takes OTLP in JSON over HTTP and keeps the spans.
import { NodeHttpServer } from "@effect/platform-node"
import { Context, Effect, Layer, Schema } from "effect"
import { HttpRouter, HttpServer, HttpServerRequest, HttpServerResponse } from "effect/http"
import { createServer } from "node:http"

const Value = Schema.Struct({
  stringValue: Schema.optional(Schema.String),
  intValue: Schema.optional(Schema.Union([Schema.Number, Schema.String])),
  doubleValue: Schema.optional(Schema.Number),
  boolValue: Schema.optional(Schema.Boolean)
})

const Attributes = Schema.Array(Schema.Struct({ key: Schema.String, value: Value }))

const Export = Schema.Struct({
  resourceSpans: Schema.Array(Schema.Struct({
    resource: Schema.Struct({ attributes: Attributes }),
    scopeSpans: Schema.Array(Schema.Struct({
      spans: Schema.Array(Schema.Struct({
        traceId: Schema.String,
        spanId: Schema.String,
        parentSpanId: Schema.optional(Schema.String),
        name: Schema.String,
        startTimeUnixNano: Schema.String,
        endTimeUnixNano: Schema.String,
        attributes: Attributes,
        links: Schema.Array(Schema.Struct({ traceId: Schema.String, spanId: Schema.String }))
      }))
    }))
  }))
})

export interface Span {
  readonly traceId: string
  readonly spanId: string
  readonly parentSpanId: string | undefined
  readonly name: string
  /** Which process made it. */
  readonly instance: string
  /** Milliseconds since 1970. */
  readonly from: number
  readonly to: number
  readonly attributes: Readonly<Record<string, string>>
  readonly links: ReadonlyArray<{ readonly traceId: string; readonly spanId: string }>
}

const attributesOf = (attributes: typeof Attributes.Type): Readonly<Record<string, string>> =>
  Object.fromEntries(attributes.map(({ key, value }) => [
    key,
    String(value.stringValue ?? value.intValue ?? value.doubleValue ?? value.boolValue)
  ]))

const millis = (nanos: string): number => Number(BigInt(nanos) / 1_000n) / 1_000

const spansIn = ({ resourceSpans }: typeof Export.Type): ReadonlyArray<Span> =>
  resourceSpans.flatMap(({ resource, scopeSpans }) => {
    const instance = attributesOf(resource.attributes)["service.instance.id"] ?? ""
    return scopeSpans.flatMap(({ spans }) =>
      spans.map((span) => ({
        traceId: span.traceId,
        spanId: span.spanId,
        parentSpanId: span.parentSpanId,
        name: span.name,
        instance,
        from: millis(span.startTimeUnixNano),
        to: millis(span.endTimeUnixNano),
        attributes: attributesOf(span.attributes),
        links: span.links
      }))
    )
  })

/** The spans that came so far, the newest ones at the end, and where they are to be sent. */
export class Collector extends Context.Service<Collector, {
  readonly url: string
  readonly spans: ReadonlyArray<Span>
}>()("examples/Collector") {}

const limit = 50_000

/** On a free port of loopback. */
export const layer = Layer.unwrap(Effect.sync(() => {
  const spans: Array<Span> = []
  const route = HttpRouter.add(
    "POST",
    "/v1/traces",
    Effect.map(HttpServerRequest.schemaBodyJson(Export), (body) => {
      spans.push(...spansIn(body))
      if (spans.length > limit) spans.splice(0, spans.length - limit)
      return HttpServerResponse.jsonUnsafe({})
    })
  )
  const collector = Layer.effect(
    Collector,
    HttpServer.addressFormattedWith((url) => Effect.succeed({ url, spans }))
  )
  return Layer.merge(HttpRouter.serve(route, { disableLogger: true, disableListenLog: true }), collector).pipe(
    Layer.provide(NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: 0 }))
  )
}))

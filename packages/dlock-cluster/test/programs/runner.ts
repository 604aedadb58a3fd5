/** A runner of the cluster, for ever. Arguments: the URL of the lock store, that of the resource, and the port. */
import { NodeClusterSocket } from "@effect/platform-node"
import { onMessage, report } from "dlock-testing/report"
import { Effect, Layer, References } from "effect"
import { MessageStorage } from "effect/cluster"
import { config, counter, storage } from "./counter.ts"

const [locks, resource, port] = process.argv.slice(2) as [string, string, string]
onMessage(() => {})

const cluster = counter(resource).pipe(
  Layer.provideMerge(NodeClusterSocket.layer({ storage: "byo", shardingConfig: config(Number(port)) })),
  Layer.provide([storage(locks, Number(port)), MessageStorage.layerNoop])
)

const program = Effect.andThen(Layer.build(cluster), Effect.sync(() => report({ started: true })))

const controller = new AbortController()
process.on("SIGTERM", () => controller.abort())
Effect.runPromise(
  Effect.scoped(Effect.andThen(program, Effect.never)).pipe(
    Effect.provideService(References.MinimumLogLevel, process.env.DLOCK_LOG === undefined ? "Error" : "All")
  ),
  { signal: controller.signal }
).then(() => {}, (error: unknown) => {
  if (!controller.signal.aborted) console.error(error)
  process.exit(controller.signal.aborted ? 0 : 1)
})

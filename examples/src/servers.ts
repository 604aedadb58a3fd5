import { describe, startRedis as start } from "dlock-testing"
import { Console, Effect, Schema } from "effect"

/** There is no Redis to be had. */
export class NoServer extends Schema.TaggedError<NoServer>("examples/NoServer")("NoServer", {
  cause: Schema.Defect()
}) {
  override get message(): string {
    return this.cause instanceof Error ? this.cause.message : String(this.cause)
  }
}

/** Starts a Redis of our own for as long as the scope is open, and gives its address. */
export const startRedis = Effect.gen(function*() {
  yield* Console.log("Starting a Redis for this demo alone (DLOCK_REDIS_URL would name yours) ...")
  const server = yield* Effect.acquireRelease(
    Effect.tryPromise({ try: () => start(), catch: (cause) => new NoServer({ cause }) }),
    (server) => Effect.promise(server.stop)
  )
  yield* Console.log(`... ${describe("redis-server")} on 127.0.0.1:${server.port}, with nothing on disk.`)
  return server.url
})

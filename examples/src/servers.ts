import { describe, type Server, startEtcd, startRedis } from "dlock-testing"
import { Config, Console, Effect, Option, Redacted, Schema } from "effect"

/** Where locks can be. */
export const drivers = ["memory", "redis", "etcd"] as const
export type Driver = typeof drivers[number]
export type ServerDriver = Exclude<Driver, "memory">

/** There is no server to be had. */
export class NoServer extends Schema.TaggedError<NoServer>("examples/NoServer")("NoServer", {
  cause: Schema.Defect()
}) {
  override get message(): string {
    return this.cause instanceof Error ? this.cause.message : String(this.cause)
  }
}

const servers = {
  redis: {
    article: "a",
    name: "Redis",
    program: "redis-server",
    variable: "DLOCK_REDIS_URL",
    // As the library advises: it warns of one that forgets.
    start: () => startRedis({ args: ["--appendonly", "yes"] })
  },
  etcd: { article: "an", name: "etcd", program: "etcd", variable: "DLOCK_ETCD_HOSTS", start: () => startEtcd() }
} as const

/**
 * The environment in which a program finds its locks: at the server that is configured, or at one of our own for as
 * long as the scope is open. Says which.
 */
export const environment = Effect.fnUntraced(function*(driver: Driver, purpose: string, remark = "") {
  if (driver === "memory") return { DLOCK_DRIVER: driver }
  const { article, name, program, start, variable } = servers[driver]
  const given = yield* Config.option(Config.Redacted(variable))
  if (Option.isSome(given)) {
    yield* Console.log(`Using the ${name} of ${variable}${remark}.`)
    return { DLOCK_DRIVER: driver, [variable]: given.value }
  }
  yield* Console.log(`Starting ${article} ${name} for this ${purpose} alone (${variable} would name yours) ...`)
  const server = yield* Effect.acquireRelease(
    Effect.tryPromise({ try: (): Promise<Server> => start(), catch: (cause) => new NoServer({ cause }) }),
    (server) => Effect.promise(server.stop)
  )
  yield* Console.log(`... ${describe(program)} on 127.0.0.1:${server.port}, with nothing on disk.`)
  return { DLOCK_DRIVER: driver, [variable]: Redacted.make(server.url) }
})

/** Variables of an environment, secrets or not. */
export type Environment = Readonly<Record<string, string | Redacted.Redacted<string>>>

import { type Proxy, type Server, startRedis } from "dlock-testing"
import { proxyTo, started } from "dlock-testing/live"
import { type Config, Context, Effect, Layer, References, type Scope } from "effect"
import { Lease, type LockBackendError, Locker, LockStore, SharedLease } from "effect-dlock"
import { RedisLocker, type RedisLockerOptions } from "effect-dlock-redis"
import { LockAdmin } from "effect-dlock/LockAdmin"
import { Conformance } from "effect-dlock/testing"
import { Redis } from "ioredis"

/** A Redis server for one test, which may stop, freeze and kill it. */
export const server: Effect.Effect<Server, never, Scope.Scope> = started(() => startRedis())

export { eventually, lag, proxyTo, started as group, timed, within } from "dlock-testing/live"

/** A plain client, which a test uses to inspect and change data. */
export const plainClient = (url: string): Effect.Effect<Redis, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => new Redis(url, { maxRetriesPerRequest: 1 }).on("error", () => {})),
    (client) => Effect.sync(() => client.disconnect())
  )

/**
 * A locker with its own connections, which is another process from the server's point of view. It does not log the
 * warnings that these test servers cause.
 */
export const locker = (options: RedisLockerOptions): Effect.Effect<
  Locker["Service"],
  Config.ConfigError | LockBackendError,
  Scope.Scope
> => built(RedisLocker.layer(options))

/** What a test about one server starts with, and the methods of a locker. */
export interface Setting extends Readonly<Locker["Service"]> {
  readonly redis: Server
  readonly admin: Redis
  /** One more locker, connected directly to the server: another process. */
  readonly another: Effect.Effect<Locker["Service"], Config.ConfigError | LockBackendError, Scope.Scope>
}

/** A server for the test alone, and a locker that talks to it. */
export const setting = (
  options?: Partial<RedisLockerOptions>
): Effect.Effect<Setting, Config.ConfigError | LockBackendError, Scope.Scope> =>
  Effect.gen(function*() {
    const redis = yield* server
    const admin = yield* plainClient(redis.url)
    const another = locker({ url: redis.url, ...options })
    return { redis, admin, another, ...yield* another }
  })

/** The same, but the locker talks to the server through a proxy. */
export const proxiedSetting = (options?: Partial<RedisLockerOptions>): Effect.Effect<
  Setting & { readonly proxy: Proxy },
  Config.ConfigError | LockBackendError,
  Scope.Scope
> =>
  Effect.gen(function*() {
    const redis = yield* server
    const admin = yield* plainClient(redis.url)
    const proxy = yield* proxyTo(redis.port)
    const another = locker({ url: redis.url, ...options })
    return { redis, admin, proxy, another, ...yield* locker({ url: proxy.url, ...options }) }
  })

/** The locker that a layer builds. */
export const built = <E, R>(layer: Layer.Layer<Locker, E, R>): Effect.Effect<Locker["Service"], E, R | Scope.Scope> =>
  Layer.build(Layer.fresh(layer)).pipe(
    Effect.provideService(References.MinimumLogLevel, "Error"),
    Effect.map((context) => Context.get(context, Locker))
  )

/** Runs an effect outside every section of the caller. */
export const asStranger = <A, E>(effect: Effect.Effect<A, E>): Effect.Effect<A, E> =>
  Effect.updateContext(effect, (context: Context.Context<never>) => Context.omit(Lease, SharedLease)(context))

/** The error with which a layer fails. */
export const fails = <A, E, R>(layer: Layer.Layer<A, E, R>) =>
  Effect.flip(Effect.scoped(Layer.build(Layer.fresh(layer))))

/** Runs the conformance cases on a store, each in its own setting, eight cases at a time. */
export const doesWhatEveryStoreDoes = <E>(layer: Layer.Layer<LockStore | LockAdmin, E>) => {
  const context = Effect.suspend(() => Layer.build(Layer.fresh(layer))).pipe(
    Effect.provideService(References.MinimumLogLevel, "Error"),
    Effect.orDie
  )
  const client = Effect.map(context, (context) => Context.get(context, LockStore))
  const admin = Effect.map(context, (context) => Context.get(context, LockAdmin))
  return Effect.forEach(
    // Long enough for eight cases at once on a machine that has other work. The conformance tests run more rounds.
    Conformance.cases({ client, admin, advance: Effect.sleep, rounds: 50, ttl: "3 seconds" }),
    ({ name, run }) => Effect.scoped(run).pipe(Effect.tapCause((cause) => Effect.logError(`the case: ${name}`, cause))),
    { concurrency: 8, discard: true }
  )
}

/** A section as the resource saw it. Times are milliseconds of one clock. */
export interface Section {
  readonly key: string
  readonly token: bigint
  readonly enteredAt: number
  readonly leftAt: number
}

/**
 * Returns what was wrong: sections of one lock that overlap, and tokens that do not grow in the order of entry.
 * `forgiven.overlap` excuses an overlap by its later section. `forgiven.token` excuses a token by either of the two
 * sections.
 */
export const violations = (
  sections: ReadonlyArray<Section>,
  forgiven: { readonly overlap?: (later: Section) => boolean; readonly token?: (one: Section) => boolean } = {}
) => {
  const found: Array<string> = []
  for (const [key, of] of Map.groupBy(sections, ({ key }) => key)) {
    const ordered = of.toSorted((a, b) => a.enteredAt - b.enteredAt)
    ordered.forEach((later, index) => {
      const before = ordered[index - 1]
      if (before === undefined) return
      if (later.token <= before.token && forgiven.token?.(later) !== true && forgiven.token?.(before) !== true) {
        found.push(
          `${key}: token ${later.token}, in at ${later.enteredAt}, after ${before.token}, in at ${before.enteredAt}`
        )
      }
      if (later.enteredAt < before.leftAt && forgiven.overlap?.(later) !== true) {
        found.push(`${key}: entered ${(before.leftAt - later.enteredAt).toFixed(1)} ms before the other left`)
      }
    })
  }
  return found
}

/** The number of commands that clients have sent so far, without the commands inside scripts. */
export const commandsSent = async (client: Redis): Promise<number> => {
  const stats = await client.info("commandstats")
  const sent = /^cmdstat_(evalsha|eval|ping|subscribe|get|set|exists|del|publish|hello|client\|\w+):calls=(\d+)/gm
  const outside = new Set(["evalsha", "eval", "ping", "subscribe", "hello"])
  let sum = 0
  for (const [, name, calls] of stats.matchAll(sent)) if (outside.has(name as string)) sum += Number(calls)
  return sum
}

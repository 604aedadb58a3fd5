import type { Diagnosis } from "effect-dlock/Diagnosis"
import * as StoreOptions from "effect-dlock/StoreOptions"
import type * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as References from "effect/References"
import * as Backend from "../backend.ts"
import { exitCodes } from "../exitCodes.ts"
import { Failure } from "../failure.ts"
import { notOpened, takeALock } from "./lockTaken.ts"
import { eventLoop, nodeFinding, ttlFindings } from "./ownSide.ts"
import type { Report } from "./report.ts"

export interface Options {
  readonly ttl: Option.Option<Duration.Duration>
  readonly observation: Duration.Duration
}

/** The default of the library. */
const defaultTtl = 30_000

const ofServer = (driver: Backend.Driver, prefix: string, ttl: number, observation: number) =>
  Effect.gen(function*(): Effect.fn.Return<Diagnosis, Config.ConfigError> {
    const examination = { prefix, ttl, observation }
    switch (driver) {
      case "redis":
        return yield* (yield* Effect.promise(() => import("effect-dlock-redis"))).RedisDoctor.diagnoseEnv(examination)
      case "etcd":
        return yield* (yield* Effect.promise(() => import("effect-dlock-etcd"))).EtcdDoctor.diagnoseEnv(examination)
      case "memory":
        return {
          findings: [{
            check: "memory",
            severity: "note",
            seen: "the driver memory has no server, so there is nothing to examine",
            why: "its locks hold within one process, and keep no other process out",
            fix: "set DLOCK_DRIVER to redis or etcd, except in tests"
          }]
        }
    }
  })

/** Examines the server and our own side, and takes a lock. What is logged meanwhile is among the findings. */
export const examine = (
  { observation, ttl: given }: Options
): Effect.Effect<Report, Config.ConfigError | Failure, Backend.Root> =>
  Effect.gen(function*() {
    const driver = yield* Backend.driver
    const provider = yield* Backend.variables
    const inEnvironment = Effect.provideService(ConfigProvider.ConfigProvider, provider)
    const { prefix, ttl } = yield* inEnvironment(Effect.gen(function*() {
      const ttl = Option.isSome(given)
        ? yield* checked("ttl", ttlParser, given.value)
        : yield* StoreOptions.variable("DLOCK_DEFAULT_TTL", ttlParser)
      const prefix = yield* StoreOptions.variable("DLOCK_PREFIX", StoreOptions.prefix)
      return { prefix: prefix ?? StoreOptions.defaultPrefix, ttl: ttl ?? defaultTtl }
    }))
    const watched = yield* checked("for", StoreOptions.duration(0, 3_600_000), observation)
    // Before the event loop is watched: loading takes a while.
    if (driver === "redis") yield* Effect.promise(() => Promise.all([import("effect-dlock-redis"), import("ioredis")]))
    if (driver === "etcd") yield* Effect.promise(() => import("effect-dlock-etcd"))
    const lateBy = yield* eventLoop
    const { findings, unreachable } = yield* inEnvironment(ofServer(driver, prefix, ttl, watched))
    const lock = unreachable === undefined
      ? [
        yield* takeALock(prefix, ttl).pipe(
          Effect.provide(Backend.store),
          Effect.catchTag("LockBackendError", (error) => Effect.succeed(notOpened(error)))
        )
      ]
      : []
    return {
      driver,
      ttl,
      unreachable,
      findings: [...findings, ...lock, ...ttlFindings(ttl, driver), nodeFinding, lateBy(ttl)]
    }
  }).pipe(Effect.scoped, Effect.provideService(References.MinimumLogLevel, "None"))

const ttlParser = StoreOptions.duration(100, StoreOptions.year)

/** The milliseconds of a flag. */
const checked = (
  flag: string,
  parser: StoreOptions.Parser<number>,
  duration: Duration.Duration
): Effect.Effect<number, Failure> => {
  const parsed = parser(duration)
  return parsed._tag === "Success"
    ? Effect.succeed(parsed.success)
    : Effect.fail(new Failure({ message: `--${flag} ${parsed.failure}`, exitCode: exitCodes.usage }))
}

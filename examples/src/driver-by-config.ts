// The backend by configuration: the program is the same, and DLOCK_DRIVER says where its locks are.
//
// What to learn from it:
// - A driver is a layer, or a function that loads one when it is chosen: only that client need be installed.
// - There is no default. A fleet whose instances silently fell back to their own memory would have no exclusion at all.
//   Unset or unknown is a `ConfigError` that says what there is.
// - Configuration is Effect's: the environment, or any `ConfigProvider`, as the second part shows.
import { NodeRuntime } from "@effect/platform-node"
import { ConfigProvider, Duration, Effect } from "effect"
import { Locker } from "effect-dlock"

const LockerLive = Locker.layerDriver({
  redis: async () => (await import("effect-dlock-redis")).RedisLockerLive,
  etcd: async () => (await import("effect-dlock-etcd")).EtcdLockerLive
})

const program = Effect.gen(function*() {
  const lease = yield* Locker.scoped("inventory:42")
  yield* Effect.log(
    `${lease.holder} holds "${lease.key}" under token ${lease.fencingToken}, for ${
      Duration.format(lease.ttl)
    } at a time`
  )
}).pipe(Effect.scoped, Effect.provide(LockerLive))

/** The same program with settings that do not come from the environment. */
const configured = (settings: Record<string, string>) =>
  program.pipe(
    Effect.provide(ConfigProvider.layer(ConfigProvider.fromUnknown(settings))),
    Effect.catchTag("ConfigError", (error) => Effect.log(`${JSON.stringify(settings)}: ${error.message}`))
  )

NodeRuntime.runMain(Effect.gen(function*() {
  yield* program
  yield* configured({ DLOCK_DRIVER: "memory", DLOCK_DEFAULT_TTL: "10 seconds" })
  yield* configured({ DLOCK_DRIVER: "paper" })
  yield* configured({})
}))

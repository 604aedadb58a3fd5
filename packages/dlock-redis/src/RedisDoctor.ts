/**
 * What is wrong with a Redis for locks, before it hurts.
 *
 * **When to use**
 *
 * Use in a check of a deployment, or in a program of an operator. The command `dlock doctor` prints what this module finds.
 *
 * **Details**
 *
 * The doctor reads settings and state, asks for permissions by name, and watches clock and latency. It takes no lock and
 * writes no key. What the user may not ask is not judged, and one note names it.
 *
 * @since 0.1.0
 */
import type * as Diagnosis from "effect-dlock/Diagnosis"
import * as StoreOptions from "effect-dlock/StoreOptions"
import type * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Address from "./internal/client/address.ts"
import * as Doctor from "./internal/doctor/doctor.ts"
import * as Options from "./internal/options.ts"
import type { RedisLockStoreOptions } from "./RedisLockStore.ts"

/**
 * Examines the servers of these options.
 *
 * **Details**
 *
 * It never fails because of a server. If the server cannot be reached, the diagnosis says why.
 *
 * **Example** (Printing what is wrong)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { RedisDoctor } from "effect-dlock-redis"
 *
 * const program = Effect.gen(function*() {
 *   const { findings } = yield* RedisDoctor.diagnose({ url: "redis://127.0.0.1:6379" }, { ttl: "10 seconds" })
 *   for (const { fix, seen, severity } of findings) yield* Effect.log(severity, seen, fix)
 * })
 * ```
 *
 * @category diagnosis
 * @since 0.1.0
 */
export const diagnose = (
  options: RedisLockStoreOptions,
  examination: Diagnosis.Examination = {}
): Effect.Effect<Diagnosis.Diagnosis, Config.ConfigError> => {
  const [address, rest] = StoreOptions.split(Address.fields, options)
  return examine(Address.parse(address), StoreOptions.parse(Options.fields, rest), examination)
}

/**
 * The same for the servers that the environment names, by the variables of `RedisLocker.layerEnv`.
 *
 * @category diagnosis
 * @since 0.1.0
 */
export const diagnoseEnv = (
  examination: Diagnosis.Examination = {}
): Effect.Effect<Diagnosis.Diagnosis, Config.ConfigError> =>
  examine(Address.fromEnvironment, StoreOptions.environment(Options.fields), examination)

const examine = (
  target: Effect.Effect<Address.Target, Config.ConfigError>,
  settings: Effect.Effect<Options.Settings, Config.ConfigError>,
  examination: Diagnosis.Examination
): Effect.Effect<Diagnosis.Diagnosis, Config.ConfigError> =>
  Effect.gen(function*() {
    const where = yield* target
    const how = yield* settings
    const what = yield* StoreOptions.parse(StoreOptions.examination, examination)
    return yield* Doctor.examine(where, how, what)
  })

/**
 * What is wrong with an etcd cluster for locks, before it hurts.
 *
 * **When to use**
 *
 * Use in a check of a deployment, or in a program of an operator. The command `dlock doctor` prints what this module finds.
 *
 * **Details**
 *
 * The doctor asks each member for its state and, if they are served, its metrics. It asks for permissions by name, and watches
 * latency and leadership. It takes no lock and writes no key; it grants one lease and revokes it.
 *
 * @since 0.1.0
 */
import type * as Diagnosis from "effect-dlock/Diagnosis"
import * as StoreOptions from "effect-dlock/StoreOptions"
import type * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import type { EtcdLockStoreOptions } from "./EtcdLockStore.ts"
import * as Doctor from "./internal/doctor/doctor.ts"
import * as Options from "./internal/options.ts"

/**
 * Examines the cluster of these options.
 *
 * **Details**
 *
 * It never fails because of a server. If no host can be reached, the diagnosis says why.
 *
 * **Example** (Printing what is wrong)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { EtcdDoctor } from "effect-dlock-etcd"
 *
 * const program = Effect.gen(function*() {
 *   const { findings } = yield* EtcdDoctor.diagnose({ hosts: "http://127.0.0.1:2379" }, { ttl: "10 seconds" })
 *   for (const { fix, seen, severity } of findings) yield* Effect.log(severity, seen, fix)
 * })
 * ```
 *
 * @category diagnosis
 * @since 0.1.0
 */
export const diagnose = (
  options: EtcdLockStoreOptions,
  examination: Diagnosis.Examination = {}
): Effect.Effect<Diagnosis.Diagnosis, Config.ConfigError> => examine(Options.parse(options), examination)

/**
 * The same for the cluster that the environment names, by the variables of `EtcdLocker.layerEnv`.
 *
 * @category diagnosis
 * @since 0.1.0
 */
export const diagnoseEnv = (
  examination: Diagnosis.Examination = {}
): Effect.Effect<Diagnosis.Diagnosis, Config.ConfigError> => examine(Options.fromEnvironment, examination)

const examine = (
  settings: Effect.Effect<Options.Settings, Config.ConfigError>,
  examination: Diagnosis.Examination
): Effect.Effect<Diagnosis.Diagnosis, Config.ConfigError> =>
  Effect.gen(function*() {
    const how = yield* settings
    const what = yield* StoreOptions.parse(StoreOptions.examination, examination)
    return yield* Doctor.examine(how, what)
  })

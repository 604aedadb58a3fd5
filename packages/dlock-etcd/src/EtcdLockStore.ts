/**
 * The store alone, for those who build their own locker over it or prove it with the conformance suite. Programs want
 * `EtcdLocker`.
 *
 * @since 0.1.0
 */
import type { LockBackendError } from "effect-dlock/LockError"
import { LockStore } from "effect-dlock/LockStore"
import * as StoreOptions from "effect-dlock/StoreOptions"
import type * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Etcd3, IOptions } from "etcd3"
import * as Connection from "./internal/client/connection.ts"
import * as Options from "./internal/options.ts"
import * as Store from "./internal/store/store.ts"

/**
 * The options of `EtcdLocker.layer` that are the store's.
 *
 * @category options
 * @since 0.1.0
 */
export type EtcdLockStoreOptions = Options.Options

const make = (settings: Options.Settings) => Effect.flatMap(Connection.open(settings), Store.make)

/**
 * A store on the etcd at `hosts`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: EtcdLockStoreOptions): Layer.Layer<LockStore, Config.ConfigError | LockBackendError> =>
  Layer.effect(LockStore, Effect.flatMap(Options.parse(options), make))

/**
 * A store whose options all come from the environment: those of `EtcdLockerLive` that are the store's.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerEnv: Layer.Layer<LockStore, Config.ConfigError | LockBackendError> = Layer.effect(
  LockStore,
  Effect.flatMap(Options.fromEnvironment, make)
)

/**
 * A store at the hosts of a client that is neither used nor closed.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerClient = (
  client: Etcd3,
  options: Omit<EtcdLockStoreOptions, "hosts" | "username" | "password" | "tls"> = {}
): Layer.Layer<LockStore, Config.ConfigError | LockBackendError> =>
  Layer.effect(
    LockStore,
    Effect.flatMap(
      StoreOptions.parse(StoreOptions.limits, options),
      (limits) => make({ target: (client as unknown as { readonly options: IOptions }).options, ...limits })
    )
  )

/**
 * Layers that provide the etcd `LockStore` and `LockAdmin` without a locker.
 *
 * **When to use**
 *
 * Use to build a locker over the store, or to run the conformance suite on the store. Programs that only need locks use
 * `EtcdLocker`.
 *
 * @since 0.1.0
 */
import type { LockAdmin } from "effect-dlock/LockAdmin"
import type { LockBackendError } from "effect-dlock/LockError"
import type { LockStore } from "effect-dlock/LockStore"
import * as StoreOptions from "effect-dlock/StoreOptions"
import type * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Etcd3, IOptions } from "etcd3"
import * as Connection from "./internal/client/connection.ts"
import * as Options from "./internal/options.ts"
import * as Store from "./internal/store/store.ts"

/**
 * The options of the etcd store: `EtcdLocker.layer` takes them too.
 *
 * @category options
 * @since 0.1.0
 */
export type EtcdLockStoreOptions = Options.Options

const make = (settings: Options.Settings) => Effect.flatMap(Connection.open(settings), Store.makeWithAdmin)

/**
 * Provides a store over the etcd cluster at `hosts`, and its admin.
 *
 * **When to use**
 *
 * Use when the program has the options as values.
 *
 * **Example** (Building a locker over the store)
 *
 * ```ts
 * import { Layer } from "effect"
 * import { Locker } from "effect-dlock"
 * import { EtcdLockStore } from "effect-dlock-etcd"
 *
 * const StoreLive = EtcdLockStore.layer({ hosts: "http://127.0.0.1:2379" })
 * const LockerLive = Locker.layer({ prefix: "shop/lock/" }).pipe(Layer.provide(StoreLive))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  options: EtcdLockStoreOptions
): Layer.Layer<LockStore | LockAdmin, Config.ConfigError | LockBackendError> =>
  Layer.effectContext(Effect.flatMap(Options.parse(options), make))

/**
 * Provides a store with all its options from the environment, read through Effect's `Config`.
 *
 * **When to use**
 *
 * Use when the deployment sets the options.
 *
 * **Details**
 *
 * The variables are those of `EtcdLocker.layerEnv` that concern the store: `DLOCK_ETCD_HOSTS` (required),
 * `DLOCK_ETCD_USERNAME`, `DLOCK_ETCD_PASSWORD`, `DLOCK_ETCD_CA`, `DLOCK_ETCD_CERT`, `DLOCK_ETCD_KEY`, `DLOCK_CONNECT_TIMEOUT`
 * and `DLOCK_OPERATION_TIMEOUT`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerEnv: Layer.Layer<LockStore | LockAdmin, Config.ConfigError | LockBackendError> = Layer.effectContext(
  Effect.flatMap(Options.fromEnvironment, make)
)

/**
 * Provides a store that takes its hosts and credentials from an existing etcd3 client.
 *
 * **When to use**
 *
 * Use when the program already has an etcd3 client, so that the hosts and credentials are configured once.
 *
 * **Gotchas**
 *
 * The layer opens its own connections and neither uses nor closes the client: the client's settings are not made for locks.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerClient = (
  client: Etcd3,
  options: Omit<EtcdLockStoreOptions, "hosts" | "username" | "password" | "tls"> = {}
): Layer.Layer<LockStore | LockAdmin, Config.ConfigError | LockBackendError> =>
  Layer.effectContext(
    Effect.flatMap(
      StoreOptions.parse(StoreOptions.limits, options),
      (limits) => make({ target: (client as unknown as { readonly options: IOptions }).options, ...limits })
    )
  )

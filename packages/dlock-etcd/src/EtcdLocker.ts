/**
 * Layers that provide a `Locker` over etcd. They work with etcd 3.4 or newer; etcd 3.5 or newer is recommended.
 *
 * **Details**
 *
 * Each layer opens new connections to every host, with settings that are safe for a lock. The layer waits for the first host
 * that answers. If no host answers within `connectTimeout`, the layer fails with `LockBackendError`. If the server refuses the
 * credentials, the layer fails at once. When the layer closes, it revokes its leases, so that none of its claims stays in etcd.
 *
 * **Gotchas**
 *
 * A ttl on etcd is a whole number of seconds, and the server raises a short ttl. `lease.ttl` is the ttl that was granted.
 *
 * @since 0.1.0
 */
import { Locker, type LockerOptions } from "effect-dlock/Locker"
import type { LockBackendError } from "effect-dlock/LockError"
import * as StoreOptions from "effect-dlock/StoreOptions"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import type { Etcd3 } from "etcd3"
import * as EtcdLockStore from "./EtcdLockStore.ts"
import * as Connection from "./internal/client/connection.ts"
import { backendError } from "./internal/client/failure.ts"
import * as Options from "./internal/options.ts"
import * as Epochs from "./internal/store/epochs.ts"

/**
 * The options of an etcd locker: those of every locker (`LockerOptions`) and those of the etcd store
 * (`EtcdLockStoreOptions`).
 *
 * @category options
 * @since 0.1.0
 */
export interface EtcdLockerOptions extends LockerOptions, EtcdLockStore.EtcdLockStoreOptions {}

/** The errors of a layer over etcd. */
type Failure = Config.ConfigError | LockBackendError

/**
 * Provides a locker over the etcd cluster at `hosts`.
 *
 * **When to use**
 *
 * Use when the program has the options as values.
 *
 * **Details**
 *
 * A wrong option fails the layer with `ConfigError`, before it connects. An unreachable cluster fails the layer with
 * `LockBackendError`.
 *
 * **Example** (Locking over etcd)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { withLock } from "effect-dlock"
 * import { EtcdLocker } from "effect-dlock-etcd"
 *
 * const EtcdLockerLive = EtcdLocker.layer({ hosts: "http://127.0.0.1:2379", prefix: "shop/lock/" })
 *
 * const program = withLock("inventory:42", Effect.log("alone")).pipe(Effect.provide(EtcdLockerLive))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: EtcdLockerOptions): Layer.Layer<Locker, Failure> => {
  const [ours, rest] = Locker.splitOptions(options)
  return Locker.layerWithStore(EtcdLockStore.layer(rest), ours)
}

/**
 * Provides a locker like `layer` does, with each option read from Effect's `Config`.
 *
 * **When to use**
 *
 * Use when the program chooses the names of its environment variables. `layerEnv` has fixed names.
 *
 * **Example** (Reading the hosts from a variable)
 *
 * ```ts
 * import { Config } from "effect"
 * import { EtcdLocker } from "effect-dlock-etcd"
 *
 * const LockerLive = EtcdLocker.layerConfig({ hosts: Config.String("ETCD_HOSTS"), prefix: Config.succeed("shop/lock/") })
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = (options: Config.Wrap<EtcdLockerOptions>): Layer.Layer<Locker, Failure> =>
  Layer.unwrap(Effect.map(Config.unwrap(options), layer))

/**
 * Provides a locker that takes its hosts and credentials from an existing etcd3 client.
 *
 * **When to use**
 *
 * Use when the program already has an etcd3 client, so that the hosts and credentials are configured once.
 *
 * **Gotchas**
 *
 * The layer opens its own connections and neither uses nor closes the client: the client's settings are not made for locks.
 *
 * **Example** (Reusing the address of a client)
 *
 * ```ts
 * import { EtcdLocker } from "effect-dlock-etcd"
 * import { Etcd3 } from "etcd3"
 *
 * const etcd = new Etcd3({ hosts: "http://127.0.0.1:2379" })
 * const LockerLive = EtcdLocker.layerClient(etcd, { prefix: "lock/" })
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerClient = (
  client: Etcd3,
  options: Omit<EtcdLockerOptions, "hosts" | "username" | "password" | "tls"> = {}
): Layer.Layer<Locker, Failure> => {
  const [ours, rest] = Locker.splitOptions(options)
  return Locker.layerWithStore(EtcdLockStore.layerClient(client, rest), ours)
}

/**
 * Provides a locker with all its settings from the environment, read through Effect's `Config`.
 *
 * **When to use**
 *
 * Use when the deployment sets the options. The program then names no server.
 *
 * **Details**
 *
 * - `DLOCK_ETCD_HOSTS` is required. Separate several hosts with commas.
 * - `DLOCK_ETCD_USERNAME` and `DLOCK_ETCD_PASSWORD` are the credentials.
 * - `DLOCK_ETCD_CA`, `DLOCK_ETCD_CERT` and `DLOCK_ETCD_KEY` are paths of PEM files for TLS.
 * - `DLOCK_CONNECT_TIMEOUT` and `DLOCK_OPERATION_TIMEOUT` limit the connections and calls.
 * - `DLOCK_PREFIX`, `DLOCK_DEFAULT_TTL`, `DLOCK_GUARD_GAP`, `DLOCK_HOLDER`, `DLOCK_DEFAULT_TIMEOUT`,
 *   `DLOCK_MAX_HOLD` and `DLOCK_WARN_AFTER`
 *   are the options of every locker.
 *
 * **Example** (Configuring by the environment)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { withLock } from "effect-dlock"
 * import { EtcdLocker } from "effect-dlock-etcd"
 *
 * // DLOCK_ETCD_HOSTS=http://etcd-1:2379,http://etcd-2:2379,http://etcd-3:2379
 * const program = withLock("inventory:42", Effect.log("alone")).pipe(Effect.provide(EtcdLocker.layerEnv))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerEnv: Layer.Layer<Locker, Failure> = Locker.layerEnvWithStore(EtcdLockStore.layerEnv)

/**
 * Provides the same locker as `layerEnv`. The root of the package exports the layer under this name.
 *
 * @category layers
 * @since 0.1.0
 */
export const EtcdLockerLive: Layer.Layer<Locker, Failure> = layerEnv

/**
 * The options of `raiseTokenEpoch`.
 *
 * @category options
 * @since 0.1.0
 */
export interface RaiseOptions extends EtcdLockStore.EtcdLockStoreOptions {
  /** The `prefix` of the lockers whose tokens are raised. The default is `dlock:`, as for lockers. */
  readonly prefix?: string | undefined
  /**
   * Every later claim gets a token above this number. Give the highest token that a protected resource may have seen. The
   * number is at least 0 and at most 2^63 - 2^53.
   */
  readonly above: bigint
}

/**
 * The token epoch of a prefix after `raiseTokenEpoch`, and the base that it replaced.
 *
 * @category models
 * @since 0.1.0
 */
export interface TokenEpoch {
  /** The number that is now added to the create revision of a new claim. The sum is the fencing token. */
  readonly base: bigint
  /** The number that was added before. It equals `base` if the tokens were high enough already. */
  readonly previous: bigint
}

/**
 * Raises the fencing tokens of all locks under a prefix. After it succeeds, every claim that enters a queue gets a token above
 * `above`.
 *
 * **When to use**
 *
 * Use when revisions alone would give tokens that are too low:
 *
 * - after a move from Redis, whose tokens are higher than the revisions of an etcd cluster;
 * - after restoring a snapshot, because the restored cluster repeats its revisions.
 *
 * **Details**
 *
 * The effect only raises tokens. If they are above `above` already, nothing changes. The effect may run at any time, any number
 * of times, and in several processes at once, while locks are held and waited for: the tokens of each key keep growing. A claim
 * that waits keeps its place and its token.
 *
 * `above` is at most 2^63 - 2^53, so that tokens stay below 2^63.
 *
 * **Gotchas**
 *
 * After restoring a snapshot, raise the tokens before any client reaches the cluster. A lock that is granted earlier may have a
 * token that another holder had before.
 *
 * **Example** (Moving from Redis)
 *
 * ```ts
 * import { EtcdLocker } from "effect-dlock-etcd"
 *
 * // Tokens of Redis are microseconds since 1970. This is a day above now.
 * const above = BigInt(Date.now() + 24 * 60 * 60 * 1_000) * 1_000n
 * const program = EtcdLocker.raiseTokenEpoch({ hosts: "http://127.0.0.1:2379", prefix: "shop/lock/", above })
 * ```
 *
 * @category fencing
 * @since 0.1.0
 */
export const raiseTokenEpoch = ({ above, prefix, ...rest }: RaiseOptions): Effect.Effect<TokenEpoch, Failure> =>
  Effect.flatMap(
    Effect.all([StoreOptions.parse(raiseFields, { above, prefix }), Options.parse(rest)]),
    ([raise, settings]) => raiseOver(settings, raise)
  )

/**
 * Does the same as `raiseTokenEpoch`, with all that a locker reads from the environment (see `layerEnv`), `DLOCK_PREFIX`
 * included.
 *
 * @category fencing
 * @since 0.1.0
 */
export const raiseTokenEpochEnv = (
  { above }: Pick<RaiseOptions, "above">
): Effect.Effect<TokenEpoch, Failure> =>
  Effect.gen(function*() {
    const { prefix } = yield* StoreOptions.environment({ prefix: raiseFields.prefix })
    const raise = yield* StoreOptions.parse(raiseFields, { above, prefix })
    return yield* raiseOver(yield* Options.fromEnvironment, raise)
  })

const raiseOver = (
  settings: Options.Settings,
  { above, prefix }: { readonly above: bigint; readonly prefix: string }
): Effect.Effect<TokenEpoch, Failure> =>
  Connection.open(settings).pipe(
    Effect.flatMap((port) => Effect.mapError(Epochs.raise(port, prefix, above), backendError("raise"))),
    Effect.scoped
  )

const raiseFields = {
  above: StoreOptions.required((value) =>
    typeof value === "bigint" && value >= 0n && value <= Epochs.mostBase
      ? Result.succeed(value)
      : Result.fail("must be a bigint from 0 to 2^63 - 2^53")
  ),
  prefix: StoreOptions.withDefault(StoreOptions.prefix, StoreOptions.defaultPrefix, "DLOCK_PREFIX")
} satisfies StoreOptions.Fields<Omit<RaiseOptions, keyof EtcdLockStore.EtcdLockStoreOptions>>

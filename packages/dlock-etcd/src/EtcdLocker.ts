/**
 * Lockers over etcd (3.4 or newer, 3.5 advised).
 *
 * Every layer opens connections of its own to each host, with settings that are safe for a lock. It waits until one
 * answers, at most `connectTimeout`, and fails with `LockBackendError` after that; credentials that the server refuses
 * fail at once. On closing, the layer revokes its leases, so that nothing of it is left.
 *
 * Times to live are whole seconds on etcd, and the server raises short ones: `lease.ttl` says what was granted.
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
 * What an etcd locker goes by besides `LockerOptions`.
 *
 * @category options
 * @since 0.1.0
 */
export interface EtcdLockerOptions extends LockerOptions, EtcdLockStore.EtcdLockStoreOptions {}

/** What a layer over etcd can fail with. */
type Failure = Config.ConfigError | LockBackendError

/**
 * A locker on the etcd at `hosts`.
 *
 * **Example**
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
 * The same, each option from Effect's `Config`.
 *
 * **Example**
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
 * A locker at the hosts, and with the credentials, of a client that the program already has. The client itself is
 * neither used nor closed: its settings are made for other work than a lock's.
 *
 * **Example**
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
 * A locker whose settings all come from the environment (Effect's `Config`): `DLOCK_ETCD_HOSTS` (required, with commas),
 * `DLOCK_ETCD_USERNAME`, `DLOCK_ETCD_PASSWORD`, the paths `DLOCK_ETCD_CA`, `DLOCK_ETCD_CERT` and `DLOCK_ETCD_KEY`,
 * `DLOCK_CONNECT_TIMEOUT`, `DLOCK_OPERATION_TIMEOUT`, `DLOCK_PREFIX`, `DLOCK_DEFAULT_TTL`, `DLOCK_GUARD_GAP` and
 * `DLOCK_HOLDER`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerEnv: Layer.Layer<Locker, Failure> = Locker.layerEnvWithStore(EtcdLockStore.layerEnv)

/**
 * The same as `layerEnv`, under the name that it has at the root of the package.
 *
 * @category layers
 * @since 0.1.0
 */
export const EtcdLockerLive: Layer.Layer<Locker, Failure> = layerEnv

/**
 * Where the tokens of a prefix are to be raised, and above what.
 *
 * @category options
 * @since 0.1.0
 */
export interface RaiseOptions extends EtcdLockStore.EtcdLockStoreOptions {
  /** That of the lockers; `dlock:`, which is theirs as well, unless given. */
  readonly prefix?: string | undefined
  /** The highest token that any fence of these locks may have seen. */
  readonly above: bigint
}

/**
 * What is added to the revision of each claim that comes from now on, and what it was before.
 *
 * @category models
 * @since 0.1.0
 */
export interface TokenEpoch {
  /** What is added to the revisions of new claims now. */
  readonly base: bigint
  /** What was added before the raise; the same as `base` where nothing had to be raised. */
  readonly previous: bigint
}

/**
 * Raises the fencing tokens of all locks under a prefix: once it has succeeded, each claim that is put in a queue has a token
 * above `above`. That is for whoever comes from Redis, whose tokens are higher than an etcd's revisions, and for a cluster
 * that was restored from a snapshot, which repeats its revisions.
 *
 * It only raises: where the tokens are above that already nothing changes. It may run at any time, as often as one likes and
 * in several places at once, while locks are held and waited for: tokens grow on each key all the while. What waits keeps
 * its place, and the token that comes with it.
 *
 * `above` is at least 0 and below 2^63 - 2^53, so that tokens stay below 2^63.
 *
 * **Example**
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
  Effect.all([StoreOptions.parse(raiseFields, { above, prefix }), Options.parse(rest)]).pipe(
    Effect.flatMap(([raise, settings]) =>
      Effect.flatMap(
        Connection.open(settings),
        (port) => Effect.mapError(Epochs.raise(port, raise.prefix, raise.above), backendError("raise"))
      )
    ),
    Effect.scoped
  )

const raiseFields = {
  above: StoreOptions.required((value) =>
    typeof value === "bigint" && value >= 0n && value <= Epochs.mostBase
      ? Result.succeed(value)
      : Result.fail("must be a bigint from 0 to 2^63 - 2^53")
  ),
  prefix: StoreOptions.withDefault(StoreOptions.prefix, StoreOptions.defaultPrefix)
} satisfies StoreOptions.Fields<Omit<RaiseOptions, keyof EtcdLockStore.EtcdLockStoreOptions>>

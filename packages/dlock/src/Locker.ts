/**
 * The `Locker` service, and the layers that build one.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type { Outside } from "./internal/lease/section.ts"
import * as Mutex from "./internal/mutex.ts"
import * as Driver from "./internal/options/driver.ts"
import * as Settings from "./internal/options/settings.ts"
import type { Lease } from "./Lease.ts"
import type { AcquireError, LockTimeout, OwnershipLost } from "./LockError.ts"
import type { LockerOptions, LockOptions, TryLockOptions } from "./LockOptions.ts"
import type { LockStore } from "./LockStore.ts"
import * as MemoryLockStore from "./MemoryLockStore.ts"
import * as StoreOptions from "./StoreOptions.ts"

export type { LockerOptions, LockOptions, TryLockOptions } from "./LockOptions.ts"

/** Why there is no lock, for those who do not wait for one. */
type TryError = Exclude<AcquireError, LockTimeout>

/**
 * The lock service. Provide it once at the edge of the program, by the layer of a backend or by `Locker.layerMemory`.
 *
 * `withLock` is what most programs want. `Locker.scoped` is for a lock that has to outlive one effect: it holds until
 * the scope closes, and leaves it to its caller to stop when the lease is lost, by `lease.whileHeld`, `lease.lost` or
 * `lease.renewal`.
 *
 * **Example**
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Locker } from "effect-dlock"
 *
 * const program = Effect.scoped(Effect.gen(function*() {
 *   const lease = yield* Locker.scoped("reports/daily", { ttl: "10 seconds", timeout: "1 minute" })
 *   yield* lease.whileHeld(Effect.log("writing the report"))
 * }))
 *
 * Effect.runFork(program.pipe(Effect.provide(Locker.layerMemory)))
 * ```
 *
 * @category services
 * @since 0.1.0
 */
export class Locker extends Context.Service<Locker, {
  /** Waits for the lock and holds it until the scope closes: `Locker.scoped` of this locker. */
  readonly scoped: (key: string, options?: LockOptions) => Effect.Effect<Lease, AcquireError, Scope.Scope>
  /** Holds the lock until the scope closes, or is `Option.none` at once: `Locker.scopedIfAvailable` of this locker. */
  readonly scopedIfAvailable: (
    key: string,
    options?: TryLockOptions
  ) => Effect.Effect<Option.Option<Lease>, TryError, Scope.Scope>
  /** Waits for the lock and runs a program under it: `withLock` with this locker. */
  readonly withLock: <A, E, R>(
    key: string,
    program: Mutex.Program<A, E, R>,
    options?: LockOptions
  ) => Effect.Effect<A, E | AcquireError | OwnershipLost, Outside<R>>
  /** Runs a program under the lock, or is `Option.none` at once: `withLockIfAvailable` with this locker. */
  readonly withLockIfAvailable: <A, E, R>(
    key: string,
    program: Mutex.Program<A, E, R>,
    options?: TryLockOptions
  ) => Effect.Effect<Option.Option<A>, E | TryError | OwnershipLost, Outside<R>>
}>()("effect-dlock/Locker") {
  /**
   * Waits for the lock, first come first served over all processes, and holds it until the scope closes. Fails with
   * `LockTimeout`, `LockAlreadyHeld`, `LockBackendError` or `InvalidLockRequest`, and has then left nothing behind.
   *
   * A key is a text of at most 1,024 bytes of UTF-8 with its prefix, not empty, without NUL; one with a closing brace
   * needs a whole hash tag (`{shop}:stock`). After a pause of the process, `lease.ensureHeld` tells whether the lock is
   * still held; nothing else does.
   */
  static readonly scoped = (
    key: string,
    options?: LockOptions
  ): Effect.Effect<Lease, AcquireError, Locker | Scope.Scope> => Locker.use((locker) => locker.scoped(key, options))

  /**
   * Holds the lock until the scope closes if it is free, and is `Option.none` at once if it is not. A backend that does
   * not answer is a `LockBackendError`, within a second.
   */
  static readonly scopedIfAvailable = (
    key: string,
    options?: TryLockOptions
  ): Effect.Effect<Option.Option<Lease>, TryError, Locker | Scope.Scope> =>
    Locker.use((locker) => locker.scopedIfAvailable(key, options))

  /** A locker over the `LockStore` that is provided. Options that make no sense are a `ConfigError`. */
  static readonly layer = (options?: LockerOptions): Layer.Layer<Locker, Config.ConfigError, LockStore> =>
    Layer.effect(Locker, Effect.flatMap(Settings.parse(options), Mutex.make))

  /** The same, each option from Effect's `Config`. */
  static readonly layerConfig = (
    options: Config.Wrap<LockerOptions>
  ): Layer.Layer<Locker, Config.ConfigError, LockStore> =>
    Layer.unwrap(Effect.map(Config.unwrap(options), Locker.layer))

  /**
   * A locker over the `LockStore` that is provided, with its settings from the environment (Effect's `Config`):
   * `DLOCK_PREFIX`, `DLOCK_DEFAULT_TTL`, `DLOCK_GUARD_GAP` and `DLOCK_HOLDER`.
   */
  static readonly layerEnv: Layer.Layer<Locker, Config.ConfigError, LockStore> = Layer.effect(
    Locker,
    Effect.flatMap(Settings.fromConfig, Mutex.make)
  )

  /**
   * For the packages of backends: a locker together with a store that nothing else uses. An option that makes no sense
   * fails the layer before the store is opened.
   */
  static readonly layerWithStore = <E, R>(
    store: Layer.Layer<LockStore, E, R>,
    options?: LockerOptions
  ): Layer.Layer<Locker, Config.ConfigError | E, R> => over(store, Settings.parse(options))

  /** For the packages of backends: `layerWithStore` with the settings of `layerEnv`. */
  static readonly layerEnvWithStore = <E, R>(
    store: Layer.Layer<LockStore, E, R>
  ): Layer.Layer<Locker, Config.ConfigError | E, R> => over(store, Settings.fromConfig)

  /** For the packages of backends: splits options into those of the locker and the others, which are the store's. */
  static readonly splitOptions = <Options extends LockerOptions>(
    options: Options
  ): readonly [LockerOptions, Omit<Options, keyof LockerOptions>] => StoreOptions.split(Settings.fields, options)

  /**
   * A locker in this process's memory, with every promise but the obvious one: other processes do not see it. For
   * tests, where it keeps the time of `TestClock`, and for programs that run once.
   */
  static readonly layerMemory: Layer.Layer<Locker> = Layer.effect(
    Locker,
    Effect.flatMap(Effect.orDie(Settings.parse()), Mutex.make)
  ).pipe(Layer.provide(MemoryLockStore.layer))

  /**
   * The locker that the configuration names: `DLOCK_DRIVER` is a key of the record, or `memory`, which is always there.
   * A driver is a layer, or a function that promises one, so that a program loads the client of one backend only.
   *
   * Unset, unknown or not installed is a `ConfigError` that says what there is. There is no default on purpose: a fleet
   * whose instances silently fell back to their own memory would have no exclusion at all.
   *
   * **Example**
   *
   * ```ts
   * import { Effect } from "effect"
   * import { Locker, withLock } from "effect-dlock"
   *
   * const LockerLive = Locker.layerDriver({
   *   redis: () => import("effect-dlock-redis").then((module) => module.RedisLockerLive),
   *   etcd: () => import("effect-dlock-etcd").then((module) => module.EtcdLockerLive)
   * })
   *
   * const program = withLock("inventory:42", Effect.log("alone")).pipe(Effect.provide(LockerLive))
   * ```
   */
  static readonly layerDriver = <const Drivers extends Readonly<Record<string, unknown>>>(
    drivers: Drivers & OfLockers<Drivers>
  ): Layer.Layer<
    Locker,
    Config.ConfigError | Layer.Error<Driver.LayerOf<Drivers[keyof Drivers]>>,
    Layer.Services<Driver.LayerOf<Drivers[keyof Drivers]>>
  > => {
    const memory = Locker.layerEnvWithStore(MemoryLockStore.layer)
    return Layer.unwrap(
      Driver.choose({ memory, ...drivers } as Record<string, Driver.Driver<Layer.Layer<Locker, any, any>>>)
    )
  }
}

/** A driver that gives something else than a locker does not compile. */
type OfLockers<Drivers> = {
  readonly [Name in keyof Drivers]: [Driver.LayerOf<Drivers[Name]>] extends [never] ? Driver.Driver<Layer.Layer<Locker>>
    : Driver.LayerOf<Drivers[Name]> extends Layer.Layer<Locker, infer _E, infer _R> ? unknown
    : Driver.Driver<Layer.Layer<Locker>>
}

/** What is wrong with the settings is said before the store connects to anything. */
const over = <E, R>(
  store: Layer.Layer<LockStore, E, R>,
  settings: Effect.Effect<Settings.Settings, Config.ConfigError>
): Layer.Layer<Locker, Config.ConfigError | E, R> =>
  Layer.unwrap(Effect.map(
    settings,
    (settings) => Layer.provide(Layer.effect(Locker, Mutex.make(settings)), store)
  ))

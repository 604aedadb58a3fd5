/**
 * The `Locker` service, and the layers that build it.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Outside } from "./internal/lease/section.ts"
import * as Mutex from "./internal/mutex.ts"
import * as Driver from "./internal/options/driver.ts"
import * as Settings from "./internal/options/settings.ts"
import type { Want } from "./internal/options/wants.ts"
import type { Lease } from "./Lease.ts"
import type { Leases } from "./Leases.ts"
import type { AcquireError, InvalidLockRequest, LockBackendError, OwnershipLost, TryError } from "./LockError.ts"
import type { LockInfo } from "./LockInfo.ts"
import type { LockerOptions, LockOptions, RevokeOptions, TryLockOptions } from "./LockOptions.ts"
import type { LockStore } from "./LockStore.ts"
import * as MemoryLockStore from "./MemoryLockStore.ts"
import * as StoreOptions from "./StoreOptions.ts"

export type { LockerOptions, LockOptions, RevokeOptions, TryLockOptions } from "./LockOptions.ts"

/**
 * The lock service. Provide it once at the edge of the program, with the layer of a backend or with
 * `Locker.layerMemory`.
 *
 * **When to use**
 *
 * Use `withLock` for most programs. Use `Locker.scoped` for a lock that must outlive one effect.
 *
 * **Details**
 *
 * `Locker.scoped` holds the lock until the scope closes. It interrupts nothing when the lock is lost: use
 * `lease.whileHeld`, `lease.lost` or `lease.renewal` to stop the work.
 *
 * **Example** (Hold a lock for a scope)
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
  /** Waits for the lock and holds it until the scope closes, like `Locker.scoped`. */
  readonly scoped: (key: string, options?: LockOptions) => Effect.Effect<Lease, AcquireError, Scope.Scope>
  /** Holds the lock until the scope closes if the lock is free, like `Locker.scopedIfAvailable`. */
  readonly scopedIfAvailable: (
    key: string,
    options?: TryLockOptions
  ) => Effect.Effect<Option.Option<Lease>, TryError, Scope.Scope>
  /** Waits for the lock and runs a program under it, like the function `withLock`. */
  readonly withLock: <A, E, R>(
    key: string,
    program: Mutex.Program<A, E, R>,
    options?: LockOptions
  ) => Effect.Effect<A, E | AcquireError | OwnershipLost, Outside<R>>
  /** Runs a program under the lock if the lock is free, like the function `withLockIfAvailable`. */
  readonly withLockIfAvailable: <A, E, R>(
    key: string,
    program: Mutex.Program<A, E, R>,
    options?: TryLockOptions
  ) => Effect.Effect<Option.Option<A>, E | TryError | OwnershipLost, Outside<R>>
  /** Waits for several locks and holds them until the scope closes, like `Locker.scopedAll`. */
  readonly scopedAll: (
    wants: ReadonlyArray<string | Want>,
    options?: LockOptions
  ) => Effect.Effect<Leases, AcquireError, Scope.Scope>
  /** Holds several locks until the scope closes if all are available, like `Locker.scopedAllIfAvailable`. */
  readonly scopedAllIfAvailable: (
    wants: ReadonlyArray<string | Want>,
    options?: TryLockOptions
  ) => Effect.Effect<Option.Option<Leases>, TryError, Scope.Scope>
  /** Waits for several locks and runs a program under them, like the function `withLocks`. */
  readonly withLocks: <A, E, R>(
    wants: ReadonlyArray<string | Want>,
    program: Mutex.ProgramOfAll<A, E, R>,
    options?: LockOptions
  ) => Effect.Effect<A, E | AcquireError | OwnershipLost, Outside<R, Leases>>
  /** Runs a program under several locks if all are available, like the function `withLocksIfAvailable`. */
  readonly withLocksIfAvailable: <A, E, R>(
    wants: ReadonlyArray<string | Want>,
    program: Mutex.ProgramOfAll<A, E, R>,
    options?: TryLockOptions
  ) => Effect.Effect<Option.Option<A>, E | TryError | OwnershipLost, Outside<R, Leases>>
  /** Tells who holds a lock and who waits for it, like `Locker.inspect`. */
  readonly inspect: (key: string) => Effect.Effect<LockInfo, LockBackendError | InvalidLockRequest>
  /** Finds all locks that are held or waited for, like `Locker.list`. */
  readonly list: (prefix?: string) => Stream.Stream<LockInfo, LockBackendError | InvalidLockRequest>
  /** Tells of a lock, and of each change of it, like `Locker.watchKey`. */
  readonly watchKey: (key: string) => Stream.Stream<LockInfo, LockBackendError | InvalidLockRequest>
  /** Takes a lock away without letting two in, like `Locker.revoke`. */
  readonly revoke: (
    key: string,
    options: RevokeOptions
  ) => Effect.Effect<"released" | "running" | "notHeld", LockBackendError | InvalidLockRequest>
  /** Takes a lock away at once, although two may be in then, like `Locker.breakLock`. */
  readonly breakLock: (
    key: string,
    options: { readonly token: bigint }
  ) => Effect.Effect<boolean, LockBackendError | InvalidLockRequest>
}>()("effect-dlock/Locker") {
  /**
   * Waits for the lock and holds it until the scope closes. Waiting callers of all processes get the lock in the order
   * in which they asked.
   *
   * **Details**
   *
   * Fails with `LockTimeout`, `LockAlreadyHeld`, `LockBackendError` or `InvalidLockRequest`. A failed call leaves no
   * claim behind.
   *
   * A key is a string that is not empty and contains no NUL character. With its prefix it has at most 1,024 bytes of
   * UTF-8. A key with a closing brace needs a whole hash tag, such as `{shop}:stock`.
   *
   * **Gotchas**
   *
   * After a pause of this process, only `lease.ensureHeld` tells whether the lock is still held.
   */
  static readonly scoped = (
    key: string,
    options?: LockOptions
  ): Effect.Effect<Lease, AcquireError, Locker | Scope.Scope> => Locker.use((locker) => locker.scoped(key, options))

  /**
   * Holds the lock until the scope closes if the lock is free. Otherwise it returns `Option.none` at once.
   *
   * **Details**
   *
   * If the backend does not answer, the call fails with `LockBackendError` within 1 second.
   *
   * It does not tell whether the work has been done before: use `Once` for a task that must run once.
   */
  static readonly scopedIfAvailable = (
    key: string,
    options?: TryLockOptions
  ): Effect.Effect<Option.Option<Lease>, TryError, Locker | Scope.Scope> =>
    Locker.use((locker) => locker.scopedIfAvailable(key, options))

  /**
   * Waits for several locks at once and holds them until the scope closes: all or none.
   *
   * **Details**
   *
   * A want is the key of a mutex, or is made with `Want`. The locks are asked for at one instant, so callers never wait
   * for each other in a circle, whatever they name in whatever order. Each lock is as fair as it is alone.
   *
   * `timeout` limits the wait for all of them. The `LockTimeout` names the first lock that was still missing.
   *
   * At most 64 wants. The same mutex twice is one, permits of one semaphore add up, and who writes a lock also reads it.
   */
  static readonly scopedAll = (
    wants: ReadonlyArray<string | Want>,
    options?: LockOptions
  ): Effect.Effect<Leases, AcquireError, Locker | Scope.Scope> =>
    Locker.use((locker) => locker.scopedAll(wants, options))

  /** Holds several locks until the scope closes if all are available. Otherwise it returns `Option.none` at once. */
  static readonly scopedAllIfAvailable = (
    wants: ReadonlyArray<string | Want>,
    options?: TryLockOptions
  ): Effect.Effect<Option.Option<Leases>, TryError, Locker | Scope.Scope> =>
    Locker.use((locker) => locker.scopedAllIfAvailable(wants, options))

  /**
   * Tells who holds a lock and who waits for it: a snapshot for people and dashboards. It changes nothing.
   *
   * **Gotchas**
   *
   * It is old when it arrives. Never decide by it whether to enter: use `withLockIfAvailable`.
   *
   * **Example** (Show who has a lock)
   *
   * ```ts
   * import { Effect } from "effect"
   * import { Locker } from "effect-dlock"
   *
   * const show = Effect.gen(function*() {
   *   const { holders, queueLength } = yield* Locker.inspect("inventory:42")
   *   for (const { holder, metadata, token } of holders) yield* Effect.log(holder, metadata, token)
   *   yield* Effect.log(`${queueLength} wait`)
   * })
   * ```
   */
  static readonly inspect = (key: string): Effect.Effect<LockInfo, LockBackendError | InvalidLockRequest, Locker> =>
    Locker.use((locker) => locker.inspect(key))

  /**
   * Finds all locks of this locker that are held or waited for and whose keys begin with `prefix`, in no order.
   *
   * **Details**
   *
   * The list is read in small steps, so neither the server nor the memory of the caller suffers from a long one. A lock that
   * is held from the beginning to the end is in it, and perhaps twice. One that comes or goes meanwhile may be.
   */
  static readonly list = (
    prefix?: string
  ): Stream.Stream<LockInfo, LockBackendError | InvalidLockRequest, Locker> =>
    Stream.unwrap(Locker.use((locker) => Effect.succeed(locker.list(prefix))))

  /**
   * Tells of a lock at once, and again each time that its holders, its queue or a revocation of it changed.
   *
   * **When to use**
   *
   * Use in a dashboard. Use `lease.contended` and `lease.revocation` in a holder.
   *
   * **Details**
   *
   * Changes that come quickly after each other are told as one, at most 20 times a second. That nobody holds the lock is
   * told if it lasts a second. Renewals are told too, though not each of them.
   *
   * While the backend does not answer the stream waits, and then goes on. It fails only for what will not pass by itself.
   */
  static readonly watchKey = (
    key: string
  ): Stream.Stream<LockInfo, LockBackendError | InvalidLockRequest, Locker> =>
    Stream.unwrap(Locker.use((locker) => Effect.succeed(locker.watchKey(key))))

  /**
   * Takes a lock away from its holder, and never lets two in: asks the holder to leave, interrupts its program after the
   * `grace`, and sees to it that its claim is renewed no more.
   *
   * **Details**
   *
   * It waits until the hold has ended, at most for the grace and a guard gap, and returns
   *
   * - `released`: the hold has ended.
   * - `running`: the program has not ended yet. Its claim is never renewed again, so it ends at the latest its `ttl` and
   *   guard gap after the last renewal. Others get in then, or when the program ends. Only a client of another library,
   *   which can be asked nothing, keeps the lock as it likes.
   * - `notHeld`: no hold with this token has the lock now. Nothing was changed.
   *
   * The holder reads who asks it to leave in `lease.revocation`, and in the `revocation` of its `OwnershipLost`.
   *
   * **Example** (Free a lock for a maintenance)
   *
   * ```ts
   * import { Effect } from "effect"
   * import { Locker } from "effect-dlock"
   *
   * const free = Effect.gen(function*() {
   *   const { holders } = yield* Locker.inspect("inventory:42")
   *   for (const { token } of holders) {
   *     yield* Locker.revoke("inventory:42", { token, grace: "10 seconds", why: "maintenance of the shelf" })
   *   }
   * })
   * ```
   */
  static readonly revoke = (
    key: string,
    options: RevokeOptions
  ): Effect.Effect<"released" | "running" | "notHeld", LockBackendError | InvalidLockRequest, Locker> =>
    Locker.use((locker) => locker.revoke(key, options))

  /**
   * **Unsafe**: deletes the hold with this token and lets the next caller in at once. Two programs may run then, since
   * nobody waits for the first one to end. Returns false if no hold with this token has the lock now.
   *
   * **When to use**
   *
   * Use for the lock of a client of another library that is gone and left no expiry, and otherwise only if nothing can go
   * wrong when two are in, for example since each write carries its fencing token. Otherwise use `revoke`.
   */
  static readonly breakLock = (
    key: string,
    options: { readonly token: bigint }
  ): Effect.Effect<boolean, LockBackendError | InvalidLockRequest, Locker> =>
    Locker.use((locker) => locker.breakLock(key, options))

  /**
   * A locker over the provided `LockStore`, and over the `LockAdmin` of the same store if one is provided beside it. An
   * invalid option fails the layer with a `ConfigError`.
   */
  static readonly layer = (options?: LockerOptions): Layer.Layer<Locker, Config.ConfigError, LockStore> =>
    Layer.effect(Locker, Effect.flatMap(Settings.parse(options), Mutex.make))

  /** A locker over the provided `LockStore`, with each option read from Effect's `Config`. */
  static readonly layerConfig = (
    options: Config.Wrap<LockerOptions>
  ): Layer.Layer<Locker, Config.ConfigError, LockStore> =>
    Layer.unwrap(Effect.map(Config.unwrap(options), Locker.layer))

  /**
   * A locker over the provided `LockStore`, with its options read from the environment through Effect's `Config`:
   * `DLOCK_PREFIX`, `DLOCK_DEFAULT_TTL`, `DLOCK_GUARD_GAP`, `DLOCK_HOLDER`, `DLOCK_DEFAULT_TIMEOUT`, `DLOCK_MAX_HOLD`
   * and `DLOCK_WARN_AFTER`.
   */
  static readonly layerEnv: Layer.Layer<Locker, Config.ConfigError, LockStore> = Layer.effect(
    Locker,
    Effect.flatMap(Settings.fromConfig, Mutex.make)
  )

  /**
   * A locker together with a store that nothing else uses.
   *
   * **When to use**
   *
   * Use in a backend's package, for its layer.
   *
   * **Details**
   *
   * If the layer provides a `LockAdmin` beside its `LockStore`, the locker uses it.
   *
   * An invalid option fails the layer before the store connects.
   */
  static readonly layerWithStore = <E, R>(
    store: Layer.Layer<LockStore, E, R>,
    options?: LockerOptions
  ): Layer.Layer<Locker, Config.ConfigError | E, R> => over(store, Settings.parse(options))

  /**
   * Like `layerWithStore`, with the options from the environment as in `layerEnv`.
   *
   * **When to use**
   *
   * Use in a backend's package, for its layer.
   */
  static readonly layerEnvWithStore = <E, R>(
    store: Layer.Layer<LockStore, E, R>
  ): Layer.Layer<Locker, Config.ConfigError | E, R> => over(store, Settings.fromConfig)

  /**
   * Splits options into those of the locker and the rest, which belong to the store.
   *
   * **When to use**
   *
   * Use in a backend's package whose layer takes both kinds of options in one record.
   */
  static readonly splitOptions = <Options extends LockerOptions>(
    options: Options
  ): readonly [LockerOptions, Omit<Options, keyof LockerOptions>] => StoreOptions.split(Settings.fields, options)

  /**
   * A locker whose locks are in this process's memory.
   *
   * **When to use**
   *
   * Use in tests, where `TestClock` controls its time, and in programs that have only one process.
   *
   * **Gotchas**
   *
   * Other processes do not see these locks.
   */
  static readonly layerMemory: Layer.Layer<Locker> = Layer.effect(
    Locker,
    Effect.flatMap(Effect.orDie(Settings.parse()), Mutex.make)
  ).pipe(Layer.provide(MemoryLockStore.layer))

  /**
   * The locker of the driver that the variable `DLOCK_DRIVER` names: a key of the record, or `memory`, which is always
   * there.
   *
   * **When to use**
   *
   * Use when the deployment chooses the backend. A driver is a layer, or a function that returns a promise of one, so
   * that a program loads the client of one backend only.
   *
   * **Details**
   *
   * There is no default. If some processes of a fleet silently used their own memory, the lock would exclude nobody. A
   * driver that is not set, unknown or not installed therefore fails the layer with a `ConfigError` that lists the
   * drivers.
   *
   * **Example** (Choose the backend by the environment)
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

/** Makes a driver that is not a layer of a `Locker` a compile error. */
type OfLockers<Drivers> = {
  readonly [Name in keyof Drivers]: [Driver.LayerOf<Drivers[Name]>] extends [never] ? Driver.Driver<Layer.Layer<Locker>>
    : Driver.LayerOf<Drivers[Name]> extends Layer.Layer<Locker, infer _E, infer _R> ? unknown
    : Driver.Driver<Layer.Layer<Locker>>
}

/** Reads the settings first, so that invalid settings fail the layer before the store connects. */
const over = <E, R>(
  store: Layer.Layer<LockStore, E, R>,
  settings: Effect.Effect<Settings.Settings, Config.ConfigError>
): Layer.Layer<Locker, Config.ConfigError | E, R> =>
  Layer.unwrap(Effect.map(
    settings,
    (settings) => Layer.provide(Layer.effect(Locker, Mutex.make(settings)), store)
  ))

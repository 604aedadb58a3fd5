/**
 * Locks that are types: code that needs one does not compile without it.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import type { Outside } from "./internal/lease/section.ts"
import type { Program } from "./internal/mutex.ts"
import * as Request from "./internal/options/request.ts"
import * as Rules from "./internal/options/rules.ts"
import type { Lease } from "./Lease.ts"
import { Locker } from "./Locker.ts"
import type { AcquireError, OwnershipLost, TryError } from "./LockError.ts"
import type { LockOptions, TryLockOptions } from "./LockOptions.ts"

/**
 * What a typed lock is made of: how its key comes from the arguments of a call, and the options of a call that gives no
 * others.
 *
 * @category options
 * @since 0.1.0
 */
export interface TypedLockOptions<Args extends ReadonlyArray<unknown>> extends LockOptions {
  /**
   * Makes the key. It is called whenever the lock is acquired. An error that it throws is a bug of the program, and so a
   * defect of the call; nothing is sent.
   */
  readonly key: (...args: Args) => string
}

/** The calls of a typed lock. They take the arguments of its key. */
interface Calls<Self, Args extends ReadonlyArray<unknown>> {
  /**
   * Waits for the lock and runs a program under it, like the function `withLock`. The program may ask for the typed lock
   * and for `Lease`.
   */
  readonly withLock: (...args: Args) => <A, E, R>(
    program: Program<A, E, R>,
    options?: LockOptions
  ) => Effect.Effect<A, E | AcquireError | OwnershipLost, Locker | Outside<R, Lease | Self>>
  /** Runs a program under the lock if the lock is free. Otherwise it returns `Option.none` at once. */
  readonly withLockIfAvailable: (...args: Args) => <A, E, R>(
    program: Program<A, E, R>,
    options?: TryLockOptions
  ) => Effect.Effect<Option.Option<A>, E | TryError | OwnershipLost, Locker | Outside<R, Lease | Self>>
  /**
   * Waits for the lock and holds it until the scope closes, like `Locker.scoped`. Provide the lease to the code that asks
   * for the typed lock: `Effect.provideService(program, StockLock, lease)`.
   */
  readonly scoped: (...args: Args) => Effect.Effect<Lease, AcquireError, Locker | Scope.Scope>
  /** Holds the lock until the scope closes if the lock is free. Otherwise it returns `Option.none` at once. */
  readonly scopedIfAvailable: (
    ...args: Args
  ) => Effect.Effect<Option.Option<Lease>, TryError, Locker | Scope.Scope>
}

/**
 * The class that `Lock.Service` returns: a service whose value is the lease of the section.
 *
 * @category models
 * @since 0.1.0
 */
export interface TypedLock<in out Self, Name extends string, Args extends ReadonlyArray<unknown>>
  extends Context.ServiceClass<Self, `effect-dlock/Lock/${Name}`, Lease>, Calls<Self, Args>
{
  /** The name of the lock, whatever its key: for metrics, logs and people. */
  readonly lockName: Name
  /** The key of a call with these arguments, without the locker's prefix: for `withLocks`, and for logs. */
  readonly keyOf: (...args: Args) => string
  /** The same lock with other options, for a scope and for a pipe. Options that are not given stay those of the lock. */
  readonly withOptions: (options: LockOptions) => Calls<Self, Args>
}

/**
 * Makes a lock a type of its own.
 *
 * **When to use**
 *
 * Use for a lock that several functions need. A function that asks for it compiles only under it, so nobody calls the
 * function and forgets the lock, and the key and the `ttl` are written once.
 *
 * **Details**
 *
 * The lock is a service, and its value is the `Lease` of the section. `StockLock.withLock(42)` takes the arguments of
 * the key; what it returns takes the program, and options that go before those of the lock.
 *
 * With the option `reentrant`, functions that each take the lock can call each other. The lock's own `ttl` counts for the
 * outermost.
 *
 * **Gotchas**
 *
 * The type says which lock, and not which key: under the lock of item 42 a function may touch item 43. Let it take what
 * it touches from the lease, or compare the `key` of the lease. In a section of the same lock for another item, the
 * service is the inner lease.
 *
 * The name must be unique in a program, as that of every service.
 *
 * **Example** (Code that does not compile without its lock)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Lock, Locker } from "effect-dlock"
 *
 * class StockLock extends Lock.Service<StockLock>()("stock", {
 *   key: (item: number) => `inventory:${item}`,
 *   ttl: "10 seconds"
 * }) {}
 *
 * declare const write: (statement: string, fencingToken: bigint) => Effect.Effect<void>
 *
 * const deduct = Effect.gen(function*() {
 *   const lease = yield* StockLock
 *   yield* write("left = left - 1", lease.fencingToken)
 * })
 *
 * const program = StockLock.withLock(42)(deduct).pipe(Effect.provide(Locker.layerMemory))
 * const impatient = StockLock.withLock(42)(deduct, { timeout: "1 second" })
 * const piped = deduct.pipe(StockLock.withOptions({ timeout: "1 second" }).withLock(42))
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
const Service = <Self>() =>
<const Name extends string, Args extends ReadonlyArray<unknown>>(
  name: Name,
  { key, ...options }: TypedLockOptions<Args>
): TypedLock<Self, Name, Args> => {
  const tag = Context.Service<Self, Lease>()(`effect-dlock/Lock/${name}`)
  // A name that metrics cannot have is no reason to refuse the lock.
  const named = Result.isSuccess(Rules.name(name)) ? { name, ...options } : options
  return Object.assign(tag, {
    lockName: name,
    keyOf: key,
    ...callsOf(tag, key, named),
    withOptions: (other: LockOptions) => callsOf(tag, key, Request.withDefaults(other, named))
  })
}

/**
 * Makes locks that are types.
 *
 * @category constructors
 * @since 0.1.0
 */
export const Lock = { Service }

const callsOf = <Self, Args extends ReadonlyArray<unknown>>(
  tag: Context.Service<Self, Lease>,
  key: (...args: Args) => string,
  options: LockOptions
): Calls<Self, Args> => {
  const waiting = optionsOf(options)
  const trying = optionsOf<TryLockOptions>(withoutWait(options))
  // The key is made when the lock is acquired, so that an error which it throws ends that call.
  const call = <A, E, R>(args: Args, run: (locker: Locker["Service"], key: string) => Effect.Effect<A, E, R>) =>
    Locker.use((locker) => run(locker, key(...args)))
  const inside = <A, E, R>(program: Program<A, E, R>) => (lease: Lease): Effect.Effect<A, E, Exclude<R, Self>> => {
    // The typed lock itself is an effect that is also a function, so `isEffect` must be asked first.
    const body = Effect.isEffect(program) ? program : (program as (lease: Lease) => Effect.Effect<A, E, R>)(lease)
    return Effect.provideService(body as Effect.Effect<A, E, R>, tag, lease)
  }
  return {
    withLock: (...args) => (program, options) =>
      call(args, (locker, key) => locker.withLock(key, inside(program), waiting(options))) as never,
    withLockIfAvailable: (...args) => (program, options) =>
      call(args, (locker, key) => locker.withLockIfAvailable(key, inside(program), trying(options))) as never,
    scoped: (...args) => call(args, (locker, key) => locker.scoped(key, waiting(undefined))),
    scopedIfAvailable: (...args) => call(args, (locker, key) => locker.scopedIfAvailable(key, trying(undefined)))
  }
}

/** The options of each call, which go before those of the lock. */
const optionsOf = <Options extends TryLockOptions>(
  ofLock: Options
): (options: Options | undefined) => Options | undefined => {
  const usual = Request.withDefaults(undefined, ofLock)
  return (options) => options === undefined ? usual : Request.withDefaults(options, ofLock)
}

/** Those options that a call which does not wait has too. Inherited ones count. */
const withoutWait = (options: LockOptions): TryLockOptions => {
  const all: Record<string, unknown> = {}
  for (const option in options) {
    if (!Object.hasOwn(Request.ofThoseWhoWait, option)) all[option] = options[option as keyof LockOptions]
  }
  return all
}

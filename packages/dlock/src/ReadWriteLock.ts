/**
 * A lock that many readers or one writer hold: a read-write lock.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { callForms } from "./internal/callForms.ts"
import { readWriteCapacity } from "./internal/capacity.ts"
import type { Shape } from "./internal/engine.ts"
import type { Outside } from "./internal/lease/section.ts"
import { neverWaits } from "./internal/mutex.ts"
import * as Named from "./internal/named.ts"
import * as Request from "./internal/options/request.ts"
import * as Rules from "./internal/options/rules.ts"
import * as Wants from "./internal/options/wants.ts"
import type { Lease } from "./Lease.ts"
import { Locker } from "./Locker.ts"
import type { AcquireError, InvalidLockRequest, LockNotHeld, OwnershipLost, TryError } from "./LockError.ts"
import type { LockOptions, TryLockOptions } from "./LockOptions.ts"
import type { SharedLease } from "./SharedLease.ts"
import type { Parser } from "./StoreOptions.ts"

/** The program of a section: an effect, or a function that takes the lease. */
type Program<A, E, R, Its> = Effect.Effect<A, E, R> | ((lease: Its) => Effect.Effect<A, E, R>)

/**
 * A write lock that is held.
 *
 * @category models
 * @since 0.1.0
 */
export interface WriteLease extends Lease {
  /**
   * Makes the write lock a read lock: readers come in, and no other writer does until this lease ends. It keeps its
   * place and its fencing token. A second downgrade does nothing.
   *
   * There is no way back: release the lock, take the write lock, and read again.
   *
   * While a section runs that has re-entered the write lock, a downgrade does nothing: one inside that section as well as
   * one of the outer lease. That section relies on being alone.
   */
  readonly downgrade: Effect.Effect<SharedLease, OwnershipLost | LockNotHeld>
}

/** A call that waits, in both call forms. */
interface WithLock<Its, Given> {
  /** Runs the piped program under the lock. */
  (options?: LockOptions): <A, E, R>(
    program: Program<A, E, R, Given>
  ) => Effect.Effect<A, E | AcquireError | OwnershipLost, Outside<R, Its>>
  /** Runs a program under the lock. */
  <A, E, R>(
    program: Program<A, E, R, Given>,
    options?: LockOptions
  ): Effect.Effect<A, E | AcquireError | OwnershipLost, Outside<R, Its>>
}

/** A call that does not wait, in both call forms. */
interface WithLockIfAvailable<Its, Given> {
  /** Runs the piped program under the lock if the lock is available. */
  (options?: TryLockOptions): <A, E, R>(
    program: Program<A, E, R, Given>
  ) => Effect.Effect<Option.Option<A>, E | TryError | OwnershipLost, Outside<R, Its>>
  /** Runs a program under the lock if the lock is available. */
  <A, E, R>(
    program: Program<A, E, R, Given>,
    options?: TryLockOptions
  ): Effect.Effect<Option.Option<A>, E | TryError | OwnershipLost, Outside<R, Its>>
}

/**
 * The options of a read-write lock.
 *
 * @category options
 * @since 0.1.0
 */
export interface ReadWriteLockOptions {
  /**
   * The `ttl` of a call that gives none. Default: the locker's `defaultTtl`, and for readers at most 10 seconds, because
   * a reader that dies keeps every writer out for that long.
   */
  readonly ttl?: Duration.Input | undefined
}

/**
 * A lock that any number of readers hold together, or one writer alone, over all processes.
 *
 * **When to use**
 *
 * Use for data that many read and few change, if a reader must not see a change half done. If the readers can live with
 * an old version, they need no lock at all.
 *
 * **Details**
 *
 * Readers and writers come in in the order in which they asked. A writer that waits stops later readers, so readers
 * cannot starve it. After a writer, all readers up to the next writer come in together.
 *
 * A read lock inside a section that already holds the lock re-enters it: it sends nothing and ends with the outer one at
 * the latest. With the option `reentrant`, so does a write lock inside a write lock. A write lock inside a read lock fails
 * at once with `LockAlreadyHeld`, with the option too.
 *
 * The fencing token of a writer is larger than that of every writer before. A reader has none.
 *
 * @category models
 * @since 0.1.0
 */
export interface ReadWriteLock {
  /** The key as the caller gave it, without the prefix. */
  readonly key: string
  /** Runs a program under a read lock: waits for it, and interrupts the program when the lock is lost. */
  readonly withReadLock: WithLock<SharedLease, SharedLease>
  /** Runs a program under the write lock: waits for it, and interrupts the program when the lock is lost. */
  readonly withWriteLock: WithLock<Lease, WriteLease>
  /** Runs a program under a read lock if no writer holds or waits. Otherwise it returns `Option.none` at once. */
  readonly withReadLockIfAvailable: WithLockIfAvailable<SharedLease, SharedLease>
  /** Runs a program under the write lock if nobody holds the lock or waits. Otherwise it returns `Option.none` at once. */
  readonly withWriteLockIfAvailable: WithLockIfAvailable<Lease, WriteLease>
  /** Waits for a read lock and holds it until the scope closes. Use `lease.whileHeld` to stop the work with the lock. */
  readonly readLock: (options?: LockOptions) => Effect.Effect<SharedLease, AcquireError, Scope.Scope>
  /** Waits for the write lock and holds it until the scope closes. Use `lease.whileHeld` to stop the work with the lock. */
  readonly writeLock: (options?: LockOptions) => Effect.Effect<WriteLease, AcquireError, Scope.Scope>
  /** Holds a read lock until the scope closes if no writer holds or waits. */
  readonly readLockIfAvailable: (
    options?: TryLockOptions
  ) => Effect.Effect<Option.Option<SharedLease>, TryError, Scope.Scope>
  /** Holds the write lock until the scope closes if nobody holds the lock or waits. */
  readonly writeLockIfAvailable: (
    options?: TryLockOptions
  ) => Effect.Effect<Option.Option<WriteLease>, TryError, Scope.Scope>
}

const rules = { ttl: Rules.ttl } satisfies { readonly [Name in keyof ReadWriteLockOptions]-?: Parser<unknown> }

const capacity = readWriteCapacity
const reader: Shape = { kind: "readWrite", permits: 1, capacity }
const writer: Shape = { kind: "readWrite", permits: capacity, capacity }

/** Milliseconds. A reader that dies keeps every writer out for that long. */
const longestUsualRead = 10_000

/**
 * Makes a read-write lock from a key.
 *
 * **Details**
 *
 * It sends nothing: the lock is a name. It keeps the locker from the context, so its methods need no further service.
 *
 * Fails with `InvalidLockRequest` for a key or an option that no store could honour.
 *
 * **Example** (A catalogue with many readers)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Locker, ReadWriteLock } from "effect-dlock"
 *
 * declare const render: Effect.Effect<string>
 * declare const rebuild: (fencingToken: bigint) => Effect.Effect<void>
 * declare const verify: Effect.Effect<void>
 *
 * const program = Effect.gen(function*() {
 *   const catalogue = yield* ReadWriteLock.make("catalogue")
 *   yield* catalogue.withReadLock(render)
 *   yield* catalogue.withWriteLock((write) =>
 *     Effect.gen(function*() {
 *       yield* rebuild(write.fencingToken)
 *       yield* write.downgrade
 *       // Readers come in, and no other writer does.
 *       yield* verify
 *     })
 *   )
 * }).pipe(Effect.provide(Locker.layerMemory))
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
const make = (
  key: string,
  options?: ReadWriteLockOptions
): Effect.Effect<ReadWriteLock, InvalidLockRequest, Locker> =>
  Effect.flatMap(Locker, (locker) =>
    Named.make(locker, key, rules, options, [], ({ engine, read: { ttl } }) => {
      const readTtl = ttl ?? Math.min(Duration.toMillis(engine.settings.ttl), longestUsualRead)
      const ttlOf = ({ permits }: Shape): number | undefined => permits === 1 ? readTtl : ttl
      const withTtl = <Options extends TryLockOptions>(shape: Shape, options: Options | undefined) =>
        Request.withTtl(options, ttlOf(shape))
      const section = (shape: Shape, program: any, options: any, mode: "queue" | "try") =>
        engine.section<any, any, any>(key, shape, program, withTtl(shape, options), mode)
      const hold = (shape: Shape, options: LockOptions | undefined, mode: "queue" | "try") =>
        engine.scoped(key, shape, withTtl(shape, options), mode)
      const waits = (shape: Shape) =>
        callForms(0, (program, options) => Effect.map(section(shape, program, options, "queue"), Named.some))
      const tries = (shape: Shape) =>
        callForms(0, (program, options) => neverWaits(section(shape, program, options, "try")))

      return Wants.register<ReadWriteLock>({
        key,
        withReadLock: waits(reader),
        withWriteLock: waits(writer),
        withReadLockIfAvailable: tries(reader),
        withWriteLockIfAvailable: tries(writer),
        readLock: (options) => Effect.map(hold(reader, options, "queue"), (lease) => lease!),
        writeLock: (options) => Effect.map(hold(writer, options, "queue"), (lease) => lease as WriteLease),
        readLockIfAvailable: (options) =>
          neverWaits(Effect.map(hold(reader, options, "try"), Option.fromUndefinedOr<SharedLease | undefined>)),
        writeLockIfAvailable: (options) =>
          neverWaits(
            Effect.map(hold(writer, options, "try"), (lease) => Option.fromUndefinedOr(lease as WriteLease | undefined))
          )
      }, { engine, key, shapeOf: (permits) => permits === 1 ? reader : writer, ttlOf })
    }))

/**
 * Makes read-write locks.
 *
 * @category constructors
 * @since 0.1.0
 */
export const ReadWriteLock = { make }

import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type { Lease } from "../Lease.ts"
import type { Leases } from "../Leases.ts"
import type { AcquireError, LockTimeout, OwnershipLost } from "../LockError.ts"
import type { LockOptions, TryLockOptions } from "../LockOptions.ts"
import * as Engine from "./engine.ts"
import type { HeldLease } from "./lease/heldLease.ts"
import type { Outside } from "./lease/section.ts"
import { mutex } from "./options/request.ts"
import type { Settings } from "./options/settings.ts"
import type { Want } from "./options/wants.ts"

/** The program of a section: an effect, or a function that takes the lease. */
export type Program<A, E, R> = Effect.Effect<A, E, R> | ((lease: Lease) => Effect.Effect<A, E, R>)

/** The program of a section under several locks. */
export type ProgramOfAll<A, E, R> = Effect.Effect<A, E, R> | ((leases: Leases) => Effect.Effect<A, E, R>)

type Wants = ReadonlyArray<string | Want>

/** The `Locker` whose locks are mutexes: 1 permit of 1. */
export const make = Effect.fnUntraced(function*(settings: Settings) {
  const engine = yield* Engine.make(settings)
  const { admin, scoped, scopedAll, section, sectionAll } = engine
  const locker = {
    scoped: (key: string, options?: LockOptions): Effect.Effect<Lease, AcquireError, Scope.Scope> =>
      Effect.map(scoped(key, mutex, options, "queue"), (lease) => lease as HeldLease),
    scopedIfAvailable: (key: string, options?: TryLockOptions) =>
      neverWaits(
        Effect.map(scoped(key, mutex, options, "try"), (lease) => Option.fromUndefinedOr(lease as Lease | undefined))
      ),
    withLock: <A, E, R>(
      key: string,
      program: Program<A, E, R>,
      options?: LockOptions
    ): Effect.Effect<A, E | AcquireError | OwnershipLost, Outside<R>> =>
      Effect.map(section(key, mutex, program, options, "queue"), (result) => (result as Option.Some<A>).value),
    withLockIfAvailable: <A, E, R>(key: string, program: Program<A, E, R>, options?: TryLockOptions) =>
      neverWaits(section(key, mutex, program, options, "try")),
    scopedAll: (wants: Wants, options?: LockOptions): Effect.Effect<Leases, AcquireError, Scope.Scope> =>
      Effect.map(scopedAll(wants, options, "queue"), (leases) => leases!),
    scopedAllIfAvailable: (wants: Wants, options?: TryLockOptions) =>
      neverWaits(Effect.map(scopedAll(wants, options, "try"), Option.fromUndefinedOr<Leases | undefined>)),
    withLocks: <A, E, R>(
      wants: Wants,
      program: ProgramOfAll<A, E, R>,
      options?: LockOptions
    ): Effect.Effect<A, E | AcquireError | OwnershipLost, Outside<R, Leases>> =>
      Effect.map(sectionAll(wants, program, options, "queue"), (result) => (result as Option.Some<A>).value),
    withLocksIfAvailable: <A, E, R>(wants: Wants, program: ProgramOfAll<A, E, R>, options?: TryLockOptions) =>
      neverWaits(sectionAll(wants, program, options, "try")),
    inspect: admin.inspect,
    list: admin.list,
    watchKey: admin.watchKey,
    revoke: admin.revoke,
    breakLock: admin.breakLock
  }
  Engine.register(locker, engine)
  return locker
})

/**
 * The type of a call that does not wait: acquiring never fails with `LockTimeout`. Only the type changes, because the program
 * of a section may wait for another lock, and its `LockTimeout` is its own.
 */
export const neverWaits = <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, Exclude<E, LockTimeout>, R> =>
  self as never

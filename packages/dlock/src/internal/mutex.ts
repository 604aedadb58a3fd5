import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type { Lease } from "../Lease.ts"
import {
  type AcquireError,
  CapacityMismatch,
  InvalidLockRequest,
  LockTimeout,
  type OwnershipLost
} from "../LockError.ts"
import type { LockOptions, TryLockOptions } from "../LockOptions.ts"
import * as Engine from "./engine.ts"
import type { Outside } from "./lease/section.ts"
import type { Settings } from "./options/settings.ts"

/** The program of a section: an effect, or a function that takes the lease. */
export type Program<A, E, R> = Effect.Effect<A, E, R> | ((lease: Lease) => Effect.Effect<A, E, R>)

const mutex: Engine.Shape = { kind: "mutex", permits: 1, capacity: 1 }

/** The `Locker` whose locks are mutexes: 1 permit of 1. */
export const make = Effect.fnUntraced(function*(settings: Settings) {
  const engine = yield* Engine.make(settings)
  const { scoped, section } = engine
  const locker = {
    scoped: (key: string, options?: LockOptions): Effect.Effect<Lease, AcquireError, Scope.Scope> =>
      Effect.mapBoth(scoped(key, mutex, options, "queue"), { onFailure: ofMutex, onSuccess: (lease) => lease! }),
    scopedIfAvailable: (key: string, options?: TryLockOptions) =>
      neverWaits(Effect.map(scoped(key, mutex, options, "try"), Option.fromUndefinedOr<Lease | undefined>)),
    withLock: <A, E, R>(
      key: string,
      program: Program<A, E, R>,
      options?: LockOptions
    ): Effect.Effect<A, E | AcquireError | OwnershipLost, Outside<R>> =>
      Effect.mapBoth(section(key, mutex, program, options, "queue"), {
        onFailure: ofMutex,
        onSuccess: (result) => (result as Option.Some<A>).value
      }),
    withLockIfAvailable: <A, E, R>(key: string, program: Program<A, E, R>, options?: TryLockOptions) =>
      neverWaits(section(key, mutex, program, options, "try"))
  }
  Engine.register(locker, engine)
  return locker
})

/**
 * The caller of a mutex gave no capacity, so `CapacityMismatch` would confuse them. The key is probably wrong, which
 * makes the request invalid.
 */
const ofMutex = <E>(error: E): Exclude<E, CapacityMismatch> | InvalidLockRequest =>
  error instanceof CapacityMismatch
    ? new InvalidLockRequest({
      key: error.key,
      parameter: "capacity",
      problem:
        `${error.requested} differs from the capacity in use on this key: does another kind of lock share the key?`
    })
    : error as Exclude<E, CapacityMismatch>

const neverWaits = <A, E, R>(
  self: Effect.Effect<A, E, R>
): Effect.Effect<A, Exclude<E, LockTimeout | CapacityMismatch> | InvalidLockRequest, R> =>
  Effect.catch(self, (error) => error instanceof LockTimeout ? Effect.die(error) : Effect.fail(ofMutex(error))) as never

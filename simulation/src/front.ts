import {
  DistributedSemaphore,
  Locker,
  type LockOptions,
  Once,
  ReadWriteLock,
  type TryLockOptions,
  Want
} from "effect-dlock"
import * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type { HeldLease } from "../../packages/dlock/src/internal/lease/heldLease.ts"
import type { LeaseGroup } from "../../packages/dlock/src/internal/lease/leaseGroup.ts"
import type { LeaseView } from "../../packages/dlock/src/internal/lease/leaseView.ts"
import { isExclusive, type LockShape } from "./lockShape.ts"
import type { JobPlan, SectionPlan } from "./plan.ts"

type Lease = HeldLease | LeaseGroup
/** What a section has that re-enters. */
export type Reentered = LeaseView | LeaseGroup

type Program = (lease: Lease) => Effect.Effect<unknown, unknown>

/** The four ways to use a lock, as users call them, whatever kind of lock it is. */
export interface Front {
  readonly withLock: (program: Program, options: LockOptions) => Effect.Effect<unknown, unknown>
  readonly withLockIfAvailable: (
    program: Program,
    options: TryLockOptions
  ) => Effect.Effect<Option.Option<unknown>, unknown>
  readonly scoped: (options: LockOptions) => Effect.Effect<Lease, unknown, Scope.Scope>
  readonly scopedIfAvailable: (
    options: TryLockOptions
  ) => Effect.Effect<Option.Option<Lease>, unknown, Scope.Scope>
  /** Runs a program in a section that re-enters the lock. */
  readonly reenter: (program: (lease: Reentered) => Effect.Effect<unknown, unknown>) => Effect.Effect<unknown, unknown>
}

/** The lock of a section. */
export const frontOf = (locker: Locker["Service"], plan: SectionPlan): Effect.Effect<Front> => {
  const { also, job, key, shape } = plan
  if (also.length > 0) return frontOfAll(locker, [plan, ...also])
  const made = <A, E>(lock: Effect.Effect<A, E, Locker>): Effect.Effect<A> =>
    Effect.orDie(Effect.provideService(lock, Locker, locker))
  // Inside, all leases are the same. The simulation reads their state.
  const over = (program: Program | Parameters<Front["reenter"]>[0]) =>
    program as (lease: unknown) => Effect.Effect<unknown, unknown>
  const one = <E, R>(lease: Effect.Effect<unknown, E, R>) => lease as Effect.Effect<HeldLease, E, R>
  const maybe = <E, R>(lease: Effect.Effect<Option.Option<unknown>, E, R>) =>
    lease as Effect.Effect<Option.Option<HeldLease>, E, R>
  switch (shape.kind) {
    case "mutex":
      return Effect.succeed({
        withLock: (program, options) => locker.withLock(key, over(program), options),
        withLockIfAvailable: (program, options) =>
          job === undefined
            ? locker.withLockIfAvailable(key, over(program), options)
            : Effect.provideService(runJob(key, job, over(program), options), Locker, locker),
        scoped: (options) => one(locker.scoped(key, options)),
        scopedIfAvailable: (options) => maybe(locker.scopedIfAvailable(key, options)),
        reenter: (program) => locker.withLock(key, over(program), reentrant)
      })
    case "semaphore": {
      const { capacity, permits } = shape
      return Effect.map(made(DistributedSemaphore.make(key, { permits: capacity })), (semaphore) => ({
        withLock: (program, options) => semaphore.withPermits(permits, options)(over(program)),
        withLockIfAvailable: (program, options) => semaphore.withPermitsIfAvailable(permits, options)(over(program)),
        scoped: (options) => one(semaphore.takeScoped(permits, options)),
        scopedIfAvailable: (options) => maybe(semaphore.takeScopedIfAvailable(permits, options)),
        reenter: () => Effect.die("permits are never re-entered")
      }))
    }
    case "readWrite":
      return Effect.map(made(ReadWriteLock.make(key)), (lock) =>
        isExclusive(shape)
          ? {
            withLock: (program, options) => lock.withWriteLock(over(program), options),
            withLockIfAvailable: (program, options) => lock.withWriteLockIfAvailable(over(program), options),
            scoped: (options) => one(lock.writeLock(options)),
            scopedIfAvailable: (options) => maybe(lock.writeLockIfAvailable(options)),
            reenter: (program) => lock.withWriteLock(over(program), reentrant)
          }
          : {
            withLock: (program, options) => lock.withReadLock(over(program), options),
            withLockIfAvailable: (program, options) => lock.withReadLockIfAvailable(over(program), options),
            scoped: (options) => one(lock.readLock(options)),
            scopedIfAvailable: (options) => maybe(lock.readLockIfAvailable(options)),
            reenter: (program) => lock.withReadLock(over(program))
          })
  }
}

const reentrant = { reentrant: true }

/** A run of a job, if it is due. */
const runJob = (
  key: string,
  { counts, slot, within }: JobPlan,
  program: (lease: unknown) => Effect.Effect<unknown, unknown>,
  options: TryLockOptions
) =>
  within === undefined
    ? Once.slot(key, slot, program, { ...options, counts })
    : Once.within(key, within, program, { ...options, counts })

/** Several locks at once. */
const frontOfAll = (
  locker: Locker["Service"],
  locks: ReadonlyArray<{ readonly key: string; readonly shape: LockShape }>
): Effect.Effect<Front> => {
  const want = ({ key, shape }: typeof locks[number]): Effect.Effect<Want | string, unknown, Locker> => {
    const { capacity, kind, permits } = shape
    if (kind === "mutex") return Effect.succeed(key)
    if (kind === "semaphore") {
      return Effect.map(DistributedSemaphore.make(key, { permits: capacity }), (one) => Want.permits(one, permits))
    }
    return Effect.map(ReadWriteLock.make(key), (lock) => isExclusive(shape) ? Want.write(lock) : Want.read(lock))
  }
  const over = (program: Program | Parameters<Front["reenter"]>[0]) =>
    program as (leases: unknown) => Effect.Effect<unknown, unknown>
  const wants = Effect.orDie(Effect.provideService(Effect.forEach(locks, want), Locker, locker))
  return Effect.map(wants, (wants): Front => ({
    withLock: (program, options) => locker.withLocks(wants, over(program), options),
    withLockIfAvailable: (program, options) => locker.withLocksIfAvailable(wants, over(program), options),
    scoped: (options) => locker.scopedAll(wants, options) as Effect.Effect<unknown, unknown, Scope.Scope> as never,
    scopedIfAvailable: (options) => locker.scopedAllIfAvailable(wants, options) as never,
    reenter: (program) => locker.withLocks(wants, over(program), reentrant)
  }))
}

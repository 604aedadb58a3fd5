import { DistributedSemaphore } from "effect-dlock/DistributedSemaphore"
import type { Lease } from "effect-dlock/Lease"
import type { Leases } from "effect-dlock/Leases"
import { Locker, type LockOptions } from "effect-dlock/Locker"
import type { AcquireError, OwnershipLost } from "effect-dlock/LockError"
import { ReadWriteLock } from "effect-dlock/ReadWriteLock"
import type { SharedLease } from "effect-dlock/SharedLease"
import { Want } from "effect-dlock/Want"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Failure } from "../failure.ts"
import type { Under } from "../process/underLock.ts"

/** Which locks a command runs under. */
export type Locks =
  | { readonly _tag: "Mutex"; readonly keys: ReadonlyArray<string> }
  | { readonly _tag: "Read" | "Write"; readonly keys: ReadonlyArray<string> }
  | {
    readonly _tag: "Permits"
    readonly keys: ReadonlyArray<string>
    readonly permits: number
    readonly capacity: number
  }

type Program = (under: Under) => Effect.Effect<number, Failure>

type Ran = Effect.Effect<Option.Option<number>, Failure | AcquireError | OwnershipLost, Locker>

/** Runs a program under the locks. `None` if it was not to wait, and another has one of them. */
export const withTheLocks = (locks: Locks, isTry: boolean, options: LockOptions, program: Program): Ran => {
  const { timeout: _, ...tryOptions } = options
  const some = Effect.map(Option.some<number>)
  if (locks._tag === "Mutex" && locks.keys.length === 1) {
    const key = locks.keys[0]!
    const use = (lease: Lease) => program(ofOne(lease))
    return Effect.flatMap(
      Locker,
      (locker) => isTry ? locker.withLockIfAvailable(key, use, tryOptions) : some(locker.withLock(key, use, options))
    )
  }
  if (locks._tag === "Permits" && locks.keys.length === 1) {
    return Effect.flatMap(DistributedSemaphore.make(locks.keys[0]!, { permits: locks.capacity }), (semaphore) => {
      const use = (lease: SharedLease) => program(ofShared(lease))
      return isTry
        ? semaphore.withPermitsIfAvailable(locks.permits, tryOptions)(use)
        : some(semaphore.withPermits(locks.permits, options)(use))
    })
  }
  if (locks._tag === "Read" && locks.keys.length === 1) {
    return Effect.flatMap(ReadWriteLock.make(locks.keys[0]!), (lock) => {
      const use = (lease: SharedLease) => program(ofShared(lease))
      return isTry ? lock.withReadLockIfAvailable(use, tryOptions) : some(lock.withReadLock(use, options))
    })
  }
  if (locks._tag === "Write" && locks.keys.length === 1) {
    return Effect.flatMap(ReadWriteLock.make(locks.keys[0]!), (lock) => {
      const use = (lease: Lease) => program(ofOne(lease))
      return isTry ? lock.withWriteLockIfAvailable(use, tryOptions) : some(lock.withWriteLock(use, options))
    })
  }
  return Effect.gen(function*() {
    const locker = yield* Locker
    const wants = yield* Effect.forEach(locks.keys, (key) => wantOf(locks, key))
    const use = (leases: Leases) => program(ofAll(leases, locks))
    return yield* isTry
      ? locker.withLocksIfAvailable(wants, use, tryOptions)
      : some(locker.withLocks(wants, use, options))
  })
}

const wantOf = (locks: Locks, key: string) => {
  switch (locks._tag) {
    case "Mutex":
      return Effect.succeed(Want.lock(key))
    case "Read":
      return Effect.map(ReadWriteLock.make(key), Want.read)
    case "Write":
      return Effect.map(ReadWriteLock.make(key), Want.write)
    case "Permits":
      return Effect.map(
        DistributedSemaphore.make(key, { permits: locks.capacity }),
        (semaphore) => Want.permits(semaphore, locks.permits)
      )
  }
}

/** A lease of one holder, whose token is a fence. */
export const ofOne = ({ fencingToken, holder, key, remaining, revocation }: Lease): Under => ({
  keys: [key],
  tokens: [fencingToken],
  holder,
  remaining,
  revocation
})

const ofShared = ({ holder, key, remaining, revocation }: SharedLease): Under => ({
  keys: [key],
  tokens: undefined,
  holder,
  remaining,
  revocation
})

const ofAll = (leases: Leases, { _tag }: Locks): Under => ({
  keys: leases.keys,
  tokens: _tag === "Mutex" || _tag === "Write" ? leases.keys.map(leases.tokenOf) : undefined,
  holder: leases.holder,
  remaining: leases.remaining,
  revocation: leases.revocation
})

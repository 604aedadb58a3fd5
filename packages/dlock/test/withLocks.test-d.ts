import { Context, Effect, type Option, type Scope } from "effect"
import {
  type AcquireError,
  type DistributedSemaphore,
  Leases,
  Locker,
  type LockTimeout,
  type OwnershipLost,
  type ReadWriteLock,
  type TryError,
  Want,
  withLocks,
  withLocksIfAvailable
} from "effect-dlock"
import { describe, expectTypeOf, it } from "vitest"

class Db extends Context.Service<Db, { readonly url: string }>()("test/Db") {}
class MyError extends Error {
  readonly _tag = "MyError"
}

declare const program: Effect.Effect<number, MyError, Db>
declare const semaphore: DistributedSemaphore
declare const lock: ReadWriteLock

describe("withLocks", () => {
  it("adds the errors of a lock and the need of a locker, in both forms", () => {
    type Result = Effect.Effect<number, MyError | AcquireError | OwnershipLost, Db | Locker>
    expectTypeOf(withLocks(["a", "b"], program)).toEqualTypeOf<Result>()
    expectTypeOf(program.pipe(withLocks(["a", "b"], { timeout: "1 second" }))).toEqualTypeOf<Result>()
  })

  it("gives the program its leases, and its scope", () => {
    const reads = Effect.map(Leases, (leases) => leases.tokenOf("a"))
    expectTypeOf(withLocks(["a"], reads)).toEqualTypeOf<
      Effect.Effect<bigint, AcquireError | OwnershipLost, Locker>
    >()
    expectTypeOf(withLocks(["a"], (leases) => Effect.succeed(leases.tokenOf("a")))).toEqualTypeOf<
      Effect.Effect<bigint, AcquireError | OwnershipLost, Locker>
    >()
    expectTypeOf(withLocks(["a"], Effect.addFinalizer(() => Effect.void))).toEqualTypeOf<
      Effect.Effect<void, AcquireError | OwnershipLost, Locker>
    >()
  })

  it("takes keys and wants, and nothing else", () => {
    const wants = ["a", Want.lock("b"), Want.permits(semaphore, 2), Want.read(lock), Want.write(lock)]
    expectTypeOf(withLocks(wants, program)).not.toBeAny()
    // @ts-expect-error: a semaphore needs a number of permits
    withLocks([semaphore], program)
    // @ts-expect-error: a read-write lock is read or written
    withLocks([lock], program)
    // @ts-expect-error: one key is `withLock`
    withLocks("a", program)
    // @ts-expect-error: a semaphore has no read lock
    Want.read(semaphore)
    // @ts-expect-error: a read-write lock has no permits
    Want.permits(lock, 1)
    // @ts-expect-error: a want is made with `Want` only
    withLocks([{ key: "a" }], program)
    // @ts-expect-error: an option that does not exist
    expectTypeOf(withLocks(["a"], program, { timeOut: "1 second" })).not.toBeAny()
    // @ts-expect-error: a value is no program
    withLocks(["a"], 1)
  })
})

describe("withLocksIfAvailable", () => {
  it("tells whether it ran, and cannot time out", () => {
    type Result = Effect.Effect<Option.Option<number>, MyError | TryError | OwnershipLost, Db | Locker>
    expectTypeOf(withLocksIfAvailable(["a"], program)).toEqualTypeOf<Result>()
    expectTypeOf(program.pipe(withLocksIfAvailable(["a"]))).toEqualTypeOf<Result>()
    expectTypeOf<Extract<TryError, LockTimeout>>().toEqualTypeOf<never>()
    // @ts-expect-error: a try has no timeout
    expectTypeOf(withLocksIfAvailable(["a"], program, { timeout: "1 second" })).not.toBeAny()
  })
})

describe("Locker.scopedAll", () => {
  it("needs a scope, and gives the leases", () => {
    expectTypeOf(Locker.scopedAll(["a", "b"])).toEqualTypeOf<
      Effect.Effect<Leases, AcquireError, Locker | Scope.Scope>
    >()
    expectTypeOf(Locker.scopedAllIfAvailable(["a", "b"])).toEqualTypeOf<
      Effect.Effect<Option.Option<Leases>, TryError, Locker | Scope.Scope>
    >()
  })
})

import { Context, Effect, type Option, type Scope } from "effect"
import {
  type AcquireError,
  type CapacityMismatch,
  DistributedSemaphore,
  type InvalidLockRequest,
  Lease,
  type LockAlreadyHeld,
  type LockBackendError,
  type Locker,
  type LockNotHeld,
  type LockTimeout,
  type OwnershipLost,
  ReadWriteLock,
  type SharedLease,
  type TakeError,
  type TryError,
  type WriteLease
} from "effect-dlock"
import { describe, expectTypeOf, it } from "vitest"

class Db extends Context.Service<Db, { readonly query: Effect.Effect<string, "down"> }>()("test/Db") {}

const query = Db.use((db) => db.query)
const shared: Effect.Effect<number, never, Scope.Scope | SharedLease | Db> = null!
const fenced: Effect.Effect<bigint, never, Lease> = Effect.map(Lease, (lease) => lease.fencingToken)
const sem: DistributedSemaphore = null!
const rw: ReadWriteLock = null!

type Waited<A, E = never, R = never> = Effect.Effect<A, E | AcquireError | OwnershipLost, R>
type Tried<A, E = never, R = never> = Effect.Effect<Option.Option<A>, E | TryError | OwnershipLost, R>

describe("a semaphore", () => {
  it("is made from a key and asks for a locker once", () => {
    expectTypeOf(DistributedSemaphore.make("api", { permits: 2 })).toEqualTypeOf<
      Effect.Effect<DistributedSemaphore, InvalidLockRequest, Locker>
    >()
    expectTypeOf<TryError>().toEqualTypeOf<LockAlreadyHeld | LockBackendError | InvalidLockRequest | CapacityMismatch>()
    expectTypeOf<TakeError>().toEqualTypeOf<TryError | LockTimeout>()
    void [
      // @ts-expect-error the number of permits is missing
      DistributedSemaphore.make("api", {}),
      // @ts-expect-error nobody waits in make
      DistributedSemaphore.make("api", { permits: 2, timeout: "1 second" }),
      // @ts-expect-error permits are never re-entered
      sem.withPermits(2, { reentrant: true }),
      // @ts-expect-error permits are never re-entered
      sem.takeScopedIfAvailable(2, { reentrant: true })
    ]
  })

  it("keeps the program's value, errors and services, and adds the lock's errors", () => {
    expectTypeOf(sem.withPermits(2)(query)).toEqualTypeOf<Waited<string, "down", Db>>()
    expectTypeOf(query.pipe(sem.withPermits(2, { timeout: "1 second" }))).toEqualTypeOf<Waited<string, "down", Db>>()
    expectTypeOf(Effect.scoped(sem.withPermits(2)(shared))).toEqualTypeOf<Waited<number, never, Db>>()
    expectTypeOf(
      sem.withPermits(2)((lease) => {
        expectTypeOf(lease).toEqualTypeOf<SharedLease>()
        return query
      })
    ).toEqualTypeOf<Waited<string, "down", Db>>()
    expectTypeOf(sem.withPermit(query)).toEqualTypeOf<Waited<string, "down", Db>>()
    expectTypeOf(query.pipe(sem.withPermit())).toEqualTypeOf<Waited<string, "down", Db>>()
    expectTypeOf(query.pipe(sem.withPermitsIfAvailable(2))).toEqualTypeOf<Tried<string, "down", Db>>()
    expectTypeOf(sem.takeScoped(2)).toEqualTypeOf<Effect.Effect<SharedLease, AcquireError, Scope.Scope>>()
    expectTypeOf(sem.takeScopedIfAvailable(2)).toEqualTypeOf<
      Effect.Effect<Option.Option<SharedLease>, TryError, Scope.Scope>
    >()
    expectTypeOf(sem.available).toEqualTypeOf<Effect.Effect<number, LockBackendError>>()
  })

  it("gives no fence: what asks for a Lease still asks for it", () => {
    expectTypeOf(sem.withPermits(2)(fenced)).toEqualTypeOf<Waited<bigint, never, Lease>>()
    expectTypeOf<SharedLease>().not.toExtend<Lease>()
    const write = (lease: Lease) => Effect.succeed(lease.fencingToken)
    void [
      // @ts-expect-error a shared lease is no lease
      sem.withPermits(2)(write),
      // @ts-expect-error it has no fencing token
      sem.withPermits(2)((lease) => Effect.succeed(lease.fencingToken)),
      // @ts-expect-error it does not wait
      sem.withPermitsIfAvailable(2, { timeout: "1 second" })
    ]
  })
})

describe("a read-write lock", () => {
  it("is made from a key and asks for a locker once", () => {
    expectTypeOf(ReadWriteLock.make("catalogue")).toEqualTypeOf<
      Effect.Effect<ReadWriteLock, InvalidLockRequest, Locker>
    >()
  })

  it("gives readers a shared lease and writers a lease, in both call forms", () => {
    expectTypeOf(query.pipe(rw.withReadLock())).toEqualTypeOf<Waited<string, "down", Db>>()
    expectTypeOf(rw.withReadLock(query, { ttl: "5 seconds" })).toEqualTypeOf<Waited<string, "down", Db>>()
    expectTypeOf(Effect.scoped(rw.withReadLock(shared))).toEqualTypeOf<Waited<number, never, Db>>()
    expectTypeOf(rw.withReadLock(fenced)).toEqualTypeOf<Waited<bigint, never, Lease>>()
    expectTypeOf(rw.withWriteLock(fenced)).toEqualTypeOf<Waited<bigint>>()
    expectTypeOf(fenced.pipe(rw.withWriteLock())).toEqualTypeOf<Waited<bigint>>()
    expectTypeOf(rw.withWriteLock((write) => {
      expectTypeOf(write).toEqualTypeOf<WriteLease>()
      return write.downgrade
    })).toEqualTypeOf<Waited<SharedLease, LockNotHeld>>()
    expectTypeOf(rw.withReadLockIfAvailable(query)).toEqualTypeOf<Tried<string, "down", Db>>()
    expectTypeOf(fenced.pipe(rw.withWriteLockIfAvailable())).toEqualTypeOf<Tried<bigint>>()
    expectTypeOf(rw.readLock()).toEqualTypeOf<Effect.Effect<SharedLease, AcquireError, Scope.Scope>>()
    expectTypeOf(rw.writeLock()).toEqualTypeOf<Effect.Effect<WriteLease, AcquireError, Scope.Scope>>()
  })

  it("does not compile where a reader is taken for a writer", () => {
    const write = (lease: Lease) => Effect.succeed(lease.fencingToken)
    void [
      // @ts-expect-error a read lease is no lease
      rw.withReadLock(write),
      // @ts-expect-error and cannot become one
      rw.withReadLock((lease) => lease.downgrade),
      // @ts-expect-error it does not wait
      rw.withWriteLockIfAvailable(query, { timeout: "1 second" })
    ]
  })
})

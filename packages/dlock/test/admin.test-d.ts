import type { Duration, Effect, Stream } from "effect"
import {
  type InvalidLockRequest,
  type Lease,
  type Leases,
  type LockAdmin,
  type LockBackendError,
  Locker,
  type LockInfo,
  type LockStore,
  MemoryLockStore,
  type OwnershipLost,
  type Revocation,
  type SharedLease
} from "effect-dlock"
import type { Layer } from "effect/Layer"
import { describe, expectTypeOf, it } from "vitest"

type Failure = LockBackendError | InvalidLockRequest

describe("the calls about locks as seen from outside", () => {
  it("need a locker, and fail with typed errors", () => {
    expectTypeOf(Locker.inspect("k")).toEqualTypeOf<Effect.Effect<LockInfo, Failure, Locker>>()
    expectTypeOf(Locker.list()).toEqualTypeOf<Stream.Stream<LockInfo, Failure, Locker>>()
    expectTypeOf(Locker.list("shelf/")).toEqualTypeOf<Stream.Stream<LockInfo, Failure, Locker>>()
    expectTypeOf(Locker.watchKey("k")).toEqualTypeOf<Stream.Stream<LockInfo, Failure, Locker>>()
    expectTypeOf(Locker.revoke("k", { token: 1n, grace: "1 second", why: "maintenance" })).toEqualTypeOf<
      Effect.Effect<"released" | "running" | "notHeld", Failure, Locker>
    >()
    expectTypeOf(Locker.breakLock("k", { token: 1n })).toEqualTypeOf<Effect.Effect<boolean, Failure, Locker>>()
  })

  it("need the token that was seen", () => {
    // @ts-expect-error: which hold?
    void Locker.revoke("k", {})
    // @ts-expect-error: a number cannot be the token
    void Locker.revoke("k", { token: 1 })
    // @ts-expect-error: which hold?
    void Locker.breakLock("k")
    // @ts-expect-error: there is no grace for a lock that is broken
    void Locker.breakLock("k", { token: 1n, grace: "1 second" })
  })

  it("are members of the service too, without requirements", () => {
    expectTypeOf<Locker["Service"]["inspect"]>().returns.toEqualTypeOf<Effect.Effect<LockInfo, Failure>>()
    expectTypeOf<Locker["Service"]["list"]>().returns.toEqualTypeOf<Stream.Stream<LockInfo, Failure>>()
    expectTypeOf<Locker["Service"]["watchKey"]>().returns.toEqualTypeOf<Stream.Stream<LockInfo, Failure>>()
  })
})

describe("a revocation", () => {
  it("is read on every kind of lease, and never fails", () => {
    expectTypeOf<Lease["revocation"]>().toEqualTypeOf<Effect.Effect<Revocation>>()
    expectTypeOf<SharedLease["revocation"]>().toEqualTypeOf<Effect.Effect<Revocation>>()
    expectTypeOf<Leases["revocation"]>().toEqualTypeOf<Effect.Effect<Revocation>>()
    expectTypeOf<Revocation["grace"]>().toEqualTypeOf<Duration.Duration>()
  })

  it("is a part of OwnershipLost", () => {
    expectTypeOf<NonNullable<OwnershipLost["revocation"]>>().toEqualTypeOf<
      { readonly by: string; readonly why?: string }
    >()
  })
})

it("a store provides its LockAdmin beside it", () => {
  expectTypeOf(MemoryLockStore.layer).toEqualTypeOf<Layer<LockStore | LockAdmin>>()
  expectTypeOf(Locker.layerWithStore(MemoryLockStore.layer)).toExtend<Layer<Locker, unknown>>()
})

import { Config, Context, Effect, type Fiber, type Layer, type Option, type Scope } from "effect"
import {
  type AcquireError,
  type CapacityMismatch,
  type InvalidLockRequest,
  Lease,
  type LockAlreadyHeld,
  type LockBackendError,
  Locker,
  type LockNotHeld,
  type LockStore,
  type LockTimeout,
  type OwnershipLost,
  withLock,
  withLockIfAvailable
} from "effect-dlock"
import { describe, expectTypeOf, it } from "vitest"

class Db extends Context.Service<Db, { readonly query: Effect.Effect<string, "down"> }>()("test/Db") {}

const query = Db.use((db) => db.query)
const opens: Effect.Effect<number, never, Scope.Scope | Lease | Db> = null!
type WithLock = Effect.Effect<string, "down" | AcquireError | OwnershipLost, Locker | Db>
type TryLock = Effect.Effect<
  Option.Option<string>,
  "down" | Exclude<AcquireError, LockTimeout> | OwnershipLost,
  Locker | Db
>

describe("withLock", () => {
  it("keeps the program's value, errors and services, and adds the lock's, in both call forms", () => {
    expectTypeOf(withLock("k", query)).toEqualTypeOf<WithLock>()
    expectTypeOf(withLock("k", query, { ttl: "5 seconds", timeout: "1 minute" })).toEqualTypeOf<WithLock>()
    expectTypeOf(query.pipe(withLock("k"))).toEqualTypeOf<WithLock>()
    expectTypeOf(query.pipe(withLock("k", { ttl: "5 seconds" }))).toEqualTypeOf<WithLock>()
  })

  it("takes a function of the lease, in both call forms", () => {
    expectTypeOf(withLock("k", (lease) => {
      expectTypeOf(lease).toEqualTypeOf<Lease>()
      return query
    })).toEqualTypeOf<WithLock>()
    expectTypeOf(withLock("k")((lease: Lease) => Effect.as(query, lease.key))).toEqualTypeOf<WithLock>()
  })

  it("brings the lease and a scope, and asks for the rest", () => {
    type Expected = Effect.Effect<number, AcquireError | OwnershipLost, Locker | Db>
    expectTypeOf(withLock("k", opens)).toEqualTypeOf<Expected>()
    expectTypeOf(opens.pipe(withLock("k"))).toEqualTypeOf<Expected>()
    expectTypeOf(withLock("k", () => opens)).toEqualTypeOf<Expected>()
  })

  it("stands in Effect.scoped, as the README has it", () => {
    const program = Effect.scoped(withLock("inventory:42", query)).pipe(
      Effect.catchTag("OwnershipLost", (lost) => Effect.succeed(lost.reason))
    )
    expectTypeOf<Effect.Services<typeof program>>().toEqualTypeOf<Locker | Db>()
    expectTypeOf<Effect.Error<typeof program>>().toEqualTypeOf<"down" | AcquireError>()
  })

  it("gives a lease only inside", () => {
    const ensure = Effect.flatMap(Lease, (lease) => lease.ensureHeld)
    expectTypeOf<Effect.Services<typeof ensure>>().toEqualTypeOf<Lease>()
    // What `runPromise` takes: a program that wants a lease does not run outside a lock.
    expectTypeOf(ensure).not.toExtend<Effect.Effect<unknown, unknown>>()
    const inside = withLock("k", ensure)
    expectTypeOf<Effect.Services<typeof inside>>().toEqualTypeOf<Locker>()
    expectTypeOf<Effect.Error<typeof inside>>().toEqualTypeOf<AcquireError | OwnershipLost | LockNotHeld>()
    // Nor does a lock without a locker.
    expectTypeOf(inside).not.toExtend<Effect.Effect<unknown, unknown>>()
    expectTypeOf(Effect.provide(inside, Locker.layerMemory)).toExtend<Effect.Effect<void, unknown>>()
  })

  it("has no option that does not exist", () => {
    expectTypeOf(withLock("k", query, { reentrant: true })).toEqualTypeOf<WithLock>()
    expectTypeOf(withLockIfAvailable("k", query, { reentrant: true })).toEqualTypeOf<TryLock>()
    void [
      // @ts-expect-error it does not exist
      withLock("k", query, { priority: 1 }),
      // @ts-expect-error not a duration
      withLock("k", query, { ttl: {} as Date })
    ]
  })
})

describe("withLockIfAvailable", () => {
  it("is an option, never times out, and takes no timeout", () => {
    expectTypeOf(withLockIfAvailable("k", query)).toEqualTypeOf<TryLock>()
    expectTypeOf(query.pipe(withLockIfAvailable("k"))).toEqualTypeOf<TryLock>()
    expectTypeOf(query.pipe(withLockIfAvailable("k", { ttl: "5 seconds" }))).toEqualTypeOf<TryLock>()
    expectTypeOf(withLockIfAvailable("k", () => query)).toEqualTypeOf<TryLock>()
    void [
      // @ts-expect-error it does not wait
      withLockIfAvailable("k", query, { timeout: "1 second" })
    ]
  })
})

describe("Locker", () => {
  it("scoped asks for a scope and cannot fail with OwnershipLost", () => {
    expectTypeOf(Locker.scoped("k")).toEqualTypeOf<
      Effect.Effect<Lease, AcquireError, Locker | Scope.Scope>
    >()
    expectTypeOf(Locker.scopedIfAvailable("k")).toEqualTypeOf<
      Effect.Effect<
        Option.Option<Lease>,
        LockAlreadyHeld | LockBackendError | InvalidLockRequest | CapacityMismatch,
        Locker | Scope.Scope
      >
    >()
    expectTypeOf<AcquireError>().toEqualTypeOf<
      LockTimeout | LockAlreadyHeld | LockBackendError | InvalidLockRequest | CapacityMismatch
    >()
    void [
      // @ts-expect-error it does not wait
      Locker.scopedIfAvailable("k", { timeout: "1 second" })
    ]
  })

  it("has layers that say what they need and how they fail", () => {
    expectTypeOf(Locker.layerMemory).toEqualTypeOf<Layer.Layer<Locker>>()
    expectTypeOf<Layer.Services<ReturnType<typeof Locker.layer>>>().toEqualTypeOf<LockStore>()
    expectTypeOf<Layer.Error<ReturnType<typeof Locker.layer>>["_tag"]>().toEqualTypeOf<"ConfigError">()
    expectTypeOf(Locker.layerEnv).toEqualTypeOf<Layer.Layer<Locker, Config.ConfigError, LockStore>>()
    expectTypeOf(Locker.layerConfig({ prefix: Config.String("PREFIX") })).toEqualTypeOf<typeof Locker.layerEnv>()
  })
})

describe("Lease", () => {
  it("fails with what can happen to it", () => {
    expectTypeOf<Lease["renewal"]>().toEqualTypeOf<Fiber.Fiber<never, OwnershipLost>>()
    expectTypeOf<Lease["lost"]>().toEqualTypeOf<Effect.Effect<never, OwnershipLost>>()
    expectTypeOf<Lease["ensureHeld"]>().toEqualTypeOf<Effect.Effect<void, OwnershipLost | LockNotHeld>>()
    expectTypeOf<Lease["release"]>().toEqualTypeOf<Effect.Effect<void>>()
    expectTypeOf<Lease["fencingToken"]>().toEqualTypeOf<bigint>()
    const lease: Lease = null!
    const guarded = () => lease.whileHeld(query)
    expectTypeOf(guarded).returns.toEqualTypeOf<Effect.Effect<string, "down" | OwnershipLost | LockNotHeld, Db>>()
  })

  it("is a type and a service of the same name", () => {
    const save = (lease: Lease) => Effect.as(lease.ensureHeld, lease.fencingToken)
    const program = Effect.gen(function*() {
      const lease = yield* Lease
      expectTypeOf(lease).toEqualTypeOf<Lease>()
      return yield* save(lease)
    })
    expectTypeOf(program).toEqualTypeOf<Effect.Effect<bigint, OwnershipLost | LockNotHeld, Lease>>()
    const provided = (lease: Lease) => Effect.provideService(program, Lease, lease)
    expectTypeOf(provided).returns.toEqualTypeOf<Effect.Effect<bigint, OwnershipLost | LockNotHeld>>()
    expectTypeOf(Locker.scoped("k").pipe(Effect.flatMap(save))).toEqualTypeOf<
      Effect.Effect<bigint, AcquireError | OwnershipLost | LockNotHeld, Locker | Scope.Scope>
    >()
    expectTypeOf(withLock("k", save)).toEqualTypeOf<
      Effect.Effect<bigint, AcquireError | OwnershipLost | LockNotHeld, Locker>
    >()
  })
})

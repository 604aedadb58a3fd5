import { Context, Effect, type Option, type Scope } from "effect"
import {
  type AcquireError,
  type Lease,
  Lock,
  Locker,
  type LockNotHeld,
  type OwnershipLost,
  type TryError,
  type TypedLock,
  withLock
} from "effect-dlock"
import { describe, expectTypeOf, it } from "vitest"

class StockLock extends Lock.Service<StockLock>()("stock", {
  key: (item: number) => `inventory:${item}`,
  ttl: "10 seconds"
}) {}
class PriceLock
  extends Lock.Service<PriceLock>()("price", { key: (shop: string, item: number) => `${shop}/${item}` })
{}
class ReportLock extends Lock.Service<ReportLock>()("report", { key: () => "report" }) {}

class Db extends Context.Service<Db, { readonly query: Effect.Effect<string, "down"> }>()("test/Db") {}

const query = Db.use((db) => db.query)
const deduct = Effect.gen(function*() {
  const lease = yield* StockLock
  yield* lease.ensureHeld
  return `${yield* query} ${lease.fencingToken}`
})

type Ours = "down" | OwnershipLost | LockNotHeld
type Held = Effect.Effect<string, Ours | AcquireError, Locker | Db>
type Tried = Effect.Effect<Option.Option<string>, Ours | TryError, Locker | Db>
/** What `runPromise` takes. */
type Runnable = Effect.Effect<unknown, unknown>

describe("a typed lock", () => {
  it("is asked for by what needs it, which does not run outside it", () => {
    expectTypeOf(deduct).toEqualTypeOf<Effect.Effect<string, Ours, StockLock | Db>>()
    const unlocked = deduct.pipe(Effect.provide(Locker.layerMemory), Effect.provideService(Db, { query: null! }))
    expectTypeOf(unlocked).not.toExtend<Runnable>()
    expectTypeOf<Effect.Services<typeof unlocked>>().toEqualTypeOf<StockLock>()
    const locked = StockLock.withLock(42)(deduct).pipe(
      Effect.provide(Locker.layerMemory),
      Effect.provideService(Db, { query: null! })
    )
    expectTypeOf(locked).toExtend<Runnable>()
  })

  it("is provided in every form, and the rest is asked for", () => {
    expectTypeOf(StockLock.withLock(42)(deduct)).toEqualTypeOf<Held>()
    expectTypeOf(StockLock.withLock(42)(deduct, { timeout: "1 second" })).toEqualTypeOf<Held>()
    expectTypeOf(deduct.pipe(StockLock.withLock(42))).toEqualTypeOf<Held>()
    expectTypeOf(deduct.pipe(StockLock.withOptions({ timeout: 0 }).withLock(42))).toEqualTypeOf<Held>()
    expectTypeOf(StockLock.withLockIfAvailable(42)(deduct)).toEqualTypeOf<Tried>()
    expectTypeOf(deduct.pipe(StockLock.withLockIfAvailable(42))).toEqualTypeOf<Tried>()
    expectTypeOf(
      StockLock.withLock(42)((lease) => {
        expectTypeOf(lease).toEqualTypeOf<Lease>()
        return deduct
      })
    ).toEqualTypeOf<Held>()
    // The scope and the lease of any lock are there too.
    const opens: Effect.Effect<number, never, Scope.Scope | Lease | StockLock | Db> = null!
    expectTypeOf(StockLock.withLock(42)(opens)).toEqualTypeOf<
      Effect.Effect<number, AcquireError | OwnershipLost, Locker | Db>
    >()
  })

  it("is not provided by another lock, typed or not", () => {
    type Unmet = Locker | Db | StockLock
    expectTypeOf<Effect.Services<ReturnType<typeof other>>>().toEqualTypeOf<Unmet>()
    expectTypeOf<Effect.Services<ReturnType<typeof plain>>>().toEqualTypeOf<Unmet>()
    const other = () => PriceLock.withLock("shop", 42)(deduct)
    const plain = () => withLock("inventory:42", deduct)
    const both = Effect.andThen(deduct, PriceLock)
    expectTypeOf(both.pipe(StockLock.withLock(42), PriceLock.withLock("shop", 42))).toExtend<
      Effect.Effect<Lease, unknown, Locker | Db>
    >()
  })

  it("takes the arguments of its key, and those only", () => {
    expectTypeOf(PriceLock.withLock).parameters.toEqualTypeOf<[shop: string, item: number]>()
    expectTypeOf(ReportLock.scoped).parameters.toEqualTypeOf<[]>()
    expectTypeOf(StockLock.keyOf).toEqualTypeOf<(item: number) => string>()
    void [
      // @ts-expect-error which item?
      StockLock.withLock(),
      // @ts-expect-error an item is a number
      StockLock.withLock("42"),
      // @ts-expect-error there is no item
      ReportLock.withLock(42)
    ]
  })

  it("does not take just anything where the key is generic, or says no types", () => {
    class AnyLock
      extends Lock.Service<AnyLock>()("any", { key: <T extends string | number>(item: T) => `any:${item}` })
    {}
    void [
      AnyLock.withLock("42"),
      // @ts-expect-error neither a string nor a number
      AnyLock.withLock(true),
      // @ts-expect-error an item without a type has no id
      Lock.Service<AnyLock>()("any", { key: (item) => item.id as string })
    ]
  })

  it("has a scoped form, whose lease is provided by hand", () => {
    expectTypeOf(StockLock.scoped(42)).toEqualTypeOf<Effect.Effect<Lease, AcquireError, Locker | Scope.Scope>>()
    expectTypeOf(StockLock.scopedIfAvailable(42)).toEqualTypeOf<
      Effect.Effect<Option.Option<Lease>, TryError, Locker | Scope.Scope>
    >()
    const provided = (lease: Lease) => Effect.provideService(deduct, StockLock, lease)
    expectTypeOf(provided).returns.toEqualTypeOf<Effect.Effect<string, Ours, Db>>()
  })

  it("has a name that can be read, and a type", () => {
    expectTypeOf(StockLock.lockName).toEqualTypeOf<"stock">()
    expectTypeOf(StockLock).toExtend<TypedLock<StockLock, "stock", [item: number]>>()
  })

  it("takes no options that do not exist", () => {
    void [
      // @ts-expect-error misspelt
      Lock.Service<StockLock>()("stock", { key: () => "k", timeOut: 1 }),
      // @ts-expect-error a lock has a key
      Lock.Service<StockLock>()("stock", { ttl: "10 seconds" }),
      // @ts-expect-error a key is a string
      Lock.Service<StockLock>()("stock", { key: (item: number) => item }),
      // @ts-expect-error it does not wait
      StockLock.withLockIfAvailable(42)(deduct, { timeout: 0 })
    ]
  })
})

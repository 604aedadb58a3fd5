import { Context, type DateTime, type Duration, Effect, type Layer, type Option, type Scope, type Stream } from "effect"
import {
  type CapacityMismatch,
  type InvalidLockRequest,
  Leader,
  type Lease,
  type LockAlreadyHeld,
  type LockBackendError,
  type Locker,
  type OwnershipLost
} from "effect-dlock"
import { describe, expectTypeOf, it } from "vitest"

class Db extends Context.Service<Db, { readonly query: Effect.Effect<string, "down"> }>()("test/Db") {}

const query = Db.use((db) => db.query)
const opens: Effect.Effect<number, "no", Scope.Scope | Lease | Db> = null!

type Failures = LockBackendError | InvalidLockRequest | LockAlreadyHeld | CapacityMismatch | OwnershipLost

describe("Leader", () => {
  it("keeps the program's value, errors and services, in both call forms", () => {
    type Expected = Effect.Effect<string, "down" | Failures, Locker | Db>
    expectTypeOf(Leader.run("role", query)).toEqualTypeOf<Expected>()
    expectTypeOf(query.pipe(Leader.run("role"))).toEqualTypeOf<Expected>()
    expectTypeOf(query.pipe(Leader.run("role", { restart: "never" }))).toEqualTypeOf<Expected>()
    expectTypeOf(Leader.run("role", (lease) => {
      expectTypeOf(lease).toEqualTypeOf<Lease>()
      return query
    }, { cooldown: "1 minute", healthy: Effect.succeed(true), ttl: "10 seconds" })).toEqualTypeOf<Expected>()
  })

  it("brings the lease and a scope, and asks for the rest", () => {
    expectTypeOf(Leader.run("role", opens)).toEqualTypeOf<Effect.Effect<number, "no" | Failures, Locker | Db>>()
    expectTypeOf(Leader.layer("role", opens)).toEqualTypeOf<Layer.Layer<never, never, Locker | Db>>()
    expectTypeOf(Leader.layer("role", () => opens)).toEqualTypeOf<Layer.Layer<never, never, Locker | Db>>()
  })

  it("can be resigned only where there is a lease", () => {
    expectTypeOf(Leader.resign).toEqualTypeOf<Effect.Effect<never, never, Lease>>()
    expectTypeOf(Leader.run("role", Leader.resign)).toEqualTypeOf<Effect.Effect<never, Failures, Locker>>()
  })

  it("has the options of a lock that is not waited for with a limit, and takes it anew each time", () => {
    type Options = Leader.LeaderOptions
    expectTypeOf<Options>().not.toHaveProperty("timeout")
    expectTypeOf<Options>().not.toHaveProperty("maxQueue")
    expectTypeOf<Options>().not.toHaveProperty("reentrant")
    expectTypeOf<Options["restart"]>().toEqualTypeOf<"always" | "never" | undefined>()
    // A check may fail, and needs nothing.
    expectTypeOf<Effect.Effect<boolean, "down">>().toExtend<Options["healthy"]>()
    expectTypeOf<Effect.Effect<boolean, never, Db>>().not.toExtend<Options["healthy"]>()
    expectTypeOf<Effect.Effect<string>>().not.toExtend<Options["healthy"]>()
  })

  it("is seen from outside", () => {
    expectTypeOf(Leader.observe("role")).toEqualTypeOf<
      Stream.Stream<Option.Option<Leader.LeaderInfo>, LockBackendError | InvalidLockRequest, Locker>
    >()
    expectTypeOf(Leader.current("role")).toEqualTypeOf<
      Effect.Effect<Option.Option<Leader.LeaderInfo>, LockBackendError | InvalidLockRequest, Locker>
    >()
    expectTypeOf<Leader.LeaderInfo>().toEqualTypeOf<{
      readonly holder: string
      readonly metadata: Readonly<Record<string, string>>
      readonly term: bigint
      readonly since: Option.Option<DateTime.Utc>
    }>()
    expectTypeOf(Leader.status("role")).toEqualTypeOf<Effect.Effect<Leader.LeaderStatus, never, Locker>>()
    expectTypeOf<Leader.LeaderStatus>().toEqualTypeOf<{
      readonly state: "leading" | "standing" | "lost" | "idle"
      readonly lastConfirmedAgo: Option.Option<Duration.Duration>
    }>()
  })
})

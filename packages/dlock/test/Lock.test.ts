import { assert, describe, it } from "@effect/vitest"
import { Cause, Duration, Effect, Exit, Fiber, Option } from "effect"
import { InvalidLockRequest, Lease, Lock, Locker, OwnershipLost, Want } from "effect-dlock"
import { TestClock } from "effect/testing"
import { fork, outside, setting } from "./support.ts"

class StockLock extends Lock.Service<StockLock>()("stock", {
  key: (item: number) => `inventory:${item}`,
  ttl: "10 seconds",
  guardGap: "2 seconds",
  timeout: "3 seconds",
  metadata: { job: "stock" }
}) {}

class PriceLock extends Lock.Service<PriceLock>()("price", {
  key: (shop: string, item: number) => `${shop}/${item}`,
  reentrant: true,
  ttl: "4 seconds"
}) {}

class ReportLock extends Lock.Service<ReportLock>()("report", { key: () => "report" }) {}

/** A program with a locker whose calls are seen. */
const over = <A, E, R>(
  body: (context: Effect.Success<ReturnType<typeof setting>>) => Effect.Effect<A, E, R>
) => Effect.flatMap(setting(), (context) => Effect.provideService(body(context), Locker, context.locker))

const claims = ({ sent }: Effect.Success<ReturnType<typeof setting>>) => sent("request").map(({ claims }) => claims[0]!)

const key = Effect.map(StockLock, (lease) => lease.key)

describe("a typed lock", () => {
  it.effect("is the lease of its section, in every form", () =>
    over((context) =>
      Effect.gen(function*() {
        const [lease, token, same] = yield* StockLock.withLock(42)((lease) =>
          Effect.gen(function*() {
            yield* lease.ensureHeld
            return [lease, (yield* StockLock).fencingToken, (yield* Lease) === (yield* StockLock)] as const
          })
        )
        assert.deepStrictEqual([lease.key, token, same], ["inventory:42", lease.fencingToken, true])
        assert.strictEqual((yield* Effect.flip(lease.ensureHeld))._tag, "LockNotHeld")
        // The service itself is a program.
        assert.strictEqual((yield* StockLock.withLock(42)(StockLock)).key, "inventory:42")
        assert.strictEqual(yield* key.pipe(StockLock.withLock(7)), "inventory:7")
        assert.deepStrictEqual(yield* StockLock.withLockIfAvailable(42)(key), Option.some("inventory:42"))
        assert.strictEqual(yield* Effect.scoped(Effect.map(StockLock.scoped(42), ({ key }) => key)), "inventory:42")
        const tried = yield* Effect.scoped(
          Effect.map(StockLock.scopedIfAvailable(42), Option.map(({ key }) => key))
        )
        assert.deepStrictEqual(tried, Option.some("inventory:42"))
        const held = Effect.all([
          StockLock.withLockIfAvailable(42)(key),
          Effect.scoped(StockLock.scopedIfAvailable(42))
        ])
        assert.deepStrictEqual(
          yield* StockLock.withLock(42)(outside(Effect.provideService(held, Locker, context.locker))),
          [Option.none(), Option.none()]
        )
      })
    ))

  it.effect("makes its key of any arguments, also of none, and tells it", () =>
    over((context) =>
      Effect.gen(function*() {
        yield* PriceLock.withLock("shop", 7)(Effect.void)
        yield* ReportLock.withLock()(Effect.void)
        assert.deepStrictEqual(claims(context).map(({ key }) => key), ["dlock:shop/7", "dlock:report"])
        assert.deepStrictEqual([PriceLock.keyOf("shop", 7), ReportLock.keyOf()], ["shop/7", "report"])
        assert.deepStrictEqual(
          [StockLock.lockName, PriceLock.lockName, ReportLock.lockName],
          ["stock", "price", "report"]
        )
      })
    ))

  it.effect("has options of its own, and a call has others", () =>
    over((context) =>
      Effect.gen(function*() {
        yield* StockLock.withLock(1)(Effect.void)
        yield* StockLock.withLock(1)(Effect.void, { ttl: "1 second", metadata: undefined })
        yield* StockLock.withLockIfAvailable(1)(Effect.void, { guardGap: 0 })
        yield* Effect.scoped(StockLock.withOptions({ ttl: "2 seconds" }).scoped(1))
        yield* Effect.scoped(StockLock.withOptions({ ttl: "2 seconds", timeout: 0 }).scopedIfAvailable(1))
        yield* StockLock.withOptions({ ttl: "2 seconds" }).withLock(1)(Effect.void, { guardGap: "1 second" })
        yield* ReportLock.withLock()(Effect.void)
        const seconds = (duration: Duration.Duration) => Duration.toSeconds(duration)
        assert.deepStrictEqual(
          claims(context).map((
            { guardGap, holder, ttl }
          ) => [seconds(ttl), seconds(guardGap), holder.includes("stock")]),
          [[10, 2, true], [1, 2, true], [10, 0, true], [2, 2, true], [2, 2, true], [2, 1, true], [9, 0.9, false]]
        )
      })
    ))

  it.effect("waits as long as it says, or as the call says", () =>
    over(() =>
      Effect.gen(function*() {
        const wait = (seconds: number, waiting: Effect.Effect<unknown, { readonly _tag: string }, Locker>) =>
          Effect.gen(function*() {
            const fiber = yield* fork(Effect.flip(waiting))
            yield* TestClock.adjust(seconds * 1_000 - 1)
            assert.isUndefined(fiber.pollUnsafe())
            yield* TestClock.adjust(100)
            assert.strictEqual((yield* Fiber.join(fiber))._tag, "LockTimeout")
          })
        yield* fork(StockLock.withLock(1)(Effect.never))
        yield* wait(3, StockLock.withLock(1)(key))
        yield* wait(5, StockLock.withLock(1)(key, { timeout: "5 seconds" }))
        yield* wait(1, key.pipe(StockLock.withOptions({ timeout: "1 second" }).withLock(1)))
        yield* wait(3, Effect.scoped(StockLock.scoped(1)))
      })
    ))

  it.effect("is another lock than one of another name, and an inner one shadows an outer one", () =>
    over(() =>
      Effect.gen(function*() {
        const keys = yield* StockLock.withLock(1)(Effect.all([
          key,
          StockLock.withLock(2)(key),
          PriceLock.withLock("shop", 3)(Effect.all([key, Effect.map(PriceLock, ({ key }) => key)])),
          key
        ]))
        assert.deepStrictEqual(keys, ["inventory:1", "inventory:2", ["inventory:1", "shop/3"], "inventory:1"])
        const again = yield* StockLock.withLock(1)(Effect.flip(StockLock.withLock(1)(key)))
        assert.strictEqual(again._tag, "LockAlreadyHeld")
      })
    ))

  it.effect("that may be re-entered lets functions that each take it call each other, with one ttl", () =>
    over((context) =>
      Effect.gen(function*() {
        const token = Effect.map(PriceLock, (lease) => lease.fencingToken)
        const inner = PriceLock.withLock("shop", 1)(token)
        const outer = PriceLock.withLock("shop", 1)(Effect.all([token, inner, Effect.all([inner])]))
        const [first, second, [third]] = yield* outer
        assert.deepStrictEqual([second, third], [first, first])
        assert.deepStrictEqual(claims(context).map(({ ttl }) => ttl), [Duration.seconds(4)])
        // The call's own does nothing, and so is refused.
        const refused = yield* PriceLock.withLock("shop", 1)(
          Effect.flip(PriceLock.withLock("shop", 1)(token, { ttl: "1 second" }))
        )
        assert(refused instanceof InvalidLockRequest)
        assert.strictEqual(refused.parameter, "ttl")
        const not = PriceLock.withLock("shop", 1)(token, { reentrant: false })
        assert.strictEqual((yield* PriceLock.withLock("shop", 1)(Effect.flip(not)))._tag, "LockAlreadyHeld")
      })
    ))

  it.effect("that is lost interrupts its program", () =>
    over(({ faulty }) =>
      Effect.gen(function*() {
        const section = yield* fork(Effect.flip(StockLock.withLock(1)(Effect.andThen(StockLock, Effect.never))))
        yield* faulty.answerRenewals({ _tag: "Gone" })
        yield* TestClock.adjust("4 seconds")
        const error = yield* Fiber.join(section)
        assert(error instanceof OwnershipLost)
        assert.strictEqual(error.key, "inventory:1")
      })
    ))

  it.effect("takes its place among several locks by its key", () =>
    over((context) =>
      Effect.gen(function*() {
        const program = Locker.use((locker) =>
          locker.withLocks([Want.lock(StockLock.keyOf(1)), StockLock.keyOf(2)], Effect.succeed("in"))
        )
        assert.strictEqual(yield* program, "in")
        assert.strictEqual(context.sent("request").length, 1)
      })
    ))
})

describe("a typed lock that cannot be asked for", () => {
  it.effect("because its key function throws, dies with that error, and nothing is sent", () =>
    over(({ faulty }) =>
      Effect.gen(function*() {
        class Broken extends Lock.Service<Broken>()("broken", {
          key: (item: { readonly id: string }) => `item:${item.id.toUpperCase()}`
        }) {}
        const nothing = null as unknown as { readonly id: string }
        const calls = [
          Broken.withLock(nothing)(Effect.void),
          Broken.withLockIfAvailable(nothing)(Effect.void),
          Effect.scoped(Broken.scoped(nothing)),
          Effect.scoped(Broken.scopedIfAvailable(nothing))
        ]
        for (const call of calls) {
          const exit = yield* Effect.exit(call as Effect.Effect<unknown, unknown, Locker>)
          assert(Exit.isFailure(exit) && Cause.hasDies(exit.cause))
          assert.instanceOf(Cause.squash(exit.cause), TypeError)
        }
        assert.isEmpty(faulty.calls)
      })
    ))

  it.effect("because of its key or an option, fails with InvalidLockRequest, and nothing is sent", () =>
    over(({ faulty }) =>
      Effect.gen(function*() {
        class Empty extends Lock.Service<Empty>()("empty", { key: () => "" }) {}
        class NoText extends Lock.Service<NoText>()("no text", { key: () => undefined as never }) {}
        class Misspelt extends Lock.Service<Misspelt>()("misspelt", { key: () => "k", ...({ timeOut: 1 } as {}) }) {}
        class Short extends Lock.Service<Short>()("short", { key: () => "k", ttl: 1 }) {}
        const parameters = []
        for (const lock of [Empty, NoText, Misspelt, Short]) {
          const error = yield* Effect.flip(lock.withLock()(Effect.void))
          assert(error instanceof InvalidLockRequest)
          const tried = yield* Effect.flip(Effect.scoped(lock.scopedIfAvailable()))
          assert(tried instanceof InvalidLockRequest)
          assert.strictEqual(tried.parameter, error.parameter)
          parameters.push(error.parameter)
        }
        assert.deepStrictEqual(parameters, ["key", "key", "timeOut", "ttl"])
        const late = yield* Effect.flip(StockLock.withLockIfAvailable(1)(Effect.void, { timeout: 1 } as {}))
        assert(late instanceof InvalidLockRequest)
        assert.strictEqual(late.parameter, "timeout")
        assert.isEmpty(faulty.calls)
      })
    ))
})

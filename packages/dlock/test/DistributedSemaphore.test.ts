import { assert, describe, it } from "@effect/vitest"
import { Deferred, Duration, Effect, Exit, Fiber, Option, Scope } from "effect"
import {
  DistributedSemaphore,
  type InvalidLockRequest,
  Lease,
  Locker,
  LockStore,
  SharedLease,
  withLock
} from "effect-dlock"
import { TestClock } from "effect/testing"
import { fork, lockerOver, outside, setting, withLogs } from "./support.ts"

const semaphore = (locker: Locker["Service"], permits: number, options?: Partial<DistributedSemaphoreOptions>) =>
  DistributedSemaphore.make("api", { permits, ...options }).pipe(Effect.provideService(Locker, locker))

type DistributedSemaphoreOptions = Parameters<typeof DistributedSemaphore.make>[1]

const refusal = (error: { readonly _tag: string }): readonly [string, string] => {
  assert.strictEqual(error._tag, "InvalidLockRequest")
  const { parameter, problem } = error as InvalidLockRequest
  return [parameter, problem]
}

describe("a semaphore", () => {
  it.effect("lets in as many as fit, in the order in which they asked", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting()
      const api = yield* semaphore(locker, 3)
      const entered: Array<string> = []
      const enter = (name: string, permits: number) =>
        Effect.gen(function*() {
          const gate = yield* Deferred.make<void>()
          const program = Effect.andThen(Effect.sync(() => entered.push(name)), Deferred.await(gate))
          const fiber = yield* fork(program.pipe(api.withPermits(permits)))
          return { leave: Effect.andThen(Deferred.succeed(gate, undefined), Fiber.join(fiber)) }
        })
      const one = yield* enter("one", 1)
      const two = yield* enter("two", 1)
      yield* enter("large", 3)
      yield* enter("small", 1)
      assert.deepStrictEqual(entered, ["one", "two"], "a free permit idles behind a caller that waits for 3")
      yield* one.leave
      assert.deepStrictEqual(entered, ["one", "two"])
      yield* two.leave
      assert.deepStrictEqual(entered, ["one", "two", "large"])
    }))

  it.effect("tells how many permits are free", () =>
    Effect.gen(function*() {
      const { memory: store } = yield* setting()
      const memory = yield* Effect.provide(
        Effect.gen(function*() {
          const api = yield* DistributedSemaphore.make("api", { permits: 4 })
          const before = yield* api.available
          const inside = yield* api.withPermits(3)(api.available)
          return [before, inside, yield* api.available, api.capacity]
        }),
        Locker.layerMemory
      )
      assert.deepStrictEqual(memory, [4, 1, 4, 4])
      const { used: _, ...plain } = store
      const api = yield* semaphore(yield* lockerOver(LockStore.of(plain)), 4)
      const error = yield* Effect.flip(api.available)
      assert.deepStrictEqual([error._tag, error.retryable, error.key], ["LockBackendError", false, "api"])
    }))

  it.effect("gives its program a shared lease without a fence", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting()
      const api = yield* semaphore(locker, 3, { ttl: "5 seconds" })
      const seen = yield* api.withPermits(2, { metadata: { for: "test" } })(
        Effect.gen(function*() {
          const lease = yield* SharedLease
          yield* lease.ensureHeld
          assert.isTrue(Option.isNone(yield* Effect.serviceOption(Lease)), "no lease of a mutex")
          return {
            key: lease.key,
            permits: lease.permits,
            ttl: Duration.toMillis(lease.ttl),
            json: JSON.stringify(lease)
          }
        })
      )
      assert.deepInclude(seen, { key: "api", permits: 2, ttl: 5_000 })
      assert.match(seen.json, /SharedLease/)
      assert.notMatch(seen.json, /fencingToken/)
      const given = yield* api.withPermit((lease) => Effect.succeed(lease.permits))
      assert.strictEqual(given, 1)
      assert.strictEqual(yield* Effect.succeed("piped").pipe(api.withPermit()), "piped")
    }))

  it.effect("is None at once where the permits are not free, and while somebody waits", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting()
      const api = yield* semaphore(locker, 2)
      const { release } = yield* api.takeScoped(1)
      assert.isTrue(Option.isNone(yield* outside(api.withPermitsIfAvailable(2)(Effect.void))))
      assert.deepStrictEqual(yield* outside(api.withPermitsIfAvailable(1)(Effect.succeed("in"))), Option.some("in"))
      const waiting = yield* fork(outside(api.withPermits(2)(Effect.void)))
      assert.isTrue(Option.isNone(yield* outside(api.withPermitsIfAvailable(1)(Effect.void))))
      assert.isTrue(Option.isNone(yield* Effect.scoped(api.takeScopedIfAvailable(1))))
      yield* release
      yield* Fiber.join(waiting)
      const free = yield* Effect.scoped(api.takeScopedIfAvailable(2))
      assert.isTrue(Option.isSome(free))
    }))

  it.effect("refuses what it can never grant, before anything is sent", () =>
    Effect.gen(function*() {
      const { faulty, locker } = yield* setting()
      const api = yield* semaphore(locker, 3)
      for (const permits of [0, -1, 4, 1.5, NaN, "2" as never]) {
        for (
          const call of [
            api.withPermits(permits)(Effect.void),
            api.withPermitsIfAvailable(permits)(Effect.void),
            Effect.scoped(api.takeScoped(permits)),
            Effect.scoped(api.takeScopedIfAvailable(permits))
          ]
        ) {
          const [parameter, problem] = refusal(yield* Effect.flip(call))
          assert.strictEqual(parameter, "permits")
          assert.match(problem, /from 1 to 3/)
        }
      }
      const wrong: ReadonlyArray<readonly [options: unknown, parameter: string]> = [
        [{}, "permits"],
        [{ permits: 0 }, "permits"],
        [{ permits: 2 ** 31 }, "permits"],
        [{ permits: 2, ttl: 1 }, "ttl"],
        [{ permits: 2, onCapacityChange: "widest" }, "onCapacityChange"],
        [{ permits: 2, lease: 1 }, "lease"],
        [7, "options"]
      ]
      for (const [options, parameter] of wrong) {
        const made = DistributedSemaphore.make("api", options as never).pipe(Effect.provideService(Locker, locker))
        assert.strictEqual(refusal(yield* Effect.flip(made))[0], parameter)
      }
      const named = DistributedSemaphore.make("", { permits: 1 }).pipe(Effect.provideService(Locker, locker))
      assert.strictEqual(refusal(yield* Effect.flip(named))[0], "key")
      const unknown = api.withPermits(1, { tll: "1 second" } as never)(Effect.void)
      assert.strictEqual(refusal(yield* Effect.flip(unknown))[0], "tll")
      assert.isEmpty(faulty.calls)
    }))

  it.effect("inside its own permits is already held", () =>
    Effect.gen(function*() {
      const { locker, sent } = yield* setting()
      const api = yield* semaphore(locker, 4)
      const nested = yield* api.withPermits(2)(Effect.flip(api.withPermits(1)(Effect.void)))
      assert.strictEqual(nested._tag, "LockAlreadyHeld")
      const tried = yield* api.withPermits(2)(Effect.flip(api.withPermitsIfAvailable(1)(Effect.void)))
      assert.strictEqual(tried._tag, "LockAlreadyHeld")
      const inScope = yield* Effect.scoped(Effect.andThen(api.takeScoped(1), Effect.flip(api.takeScoped(1))))
      assert.strictEqual(inScope._tag, "LockAlreadyHeld")
      assert.strictEqual(sent("request").length, 3)
    }))

  it.effect("around a lock and inside one, each has its own lease", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting()
      const api = yield* semaphore(locker, 4)
      const keys = Effect.gen(function*() {
        const [lease, shared] = [yield* Lease, yield* SharedLease]
        const again = yield* Effect.flip(locker.withLock("mutex", Effect.void))
        const permits = yield* Effect.flip(api.withPermit(Effect.void))
        return [lease.key, shared.key, again._tag, permits._tag]
      })
      const expected = ["mutex", "api", "LockAlreadyHeld", "LockAlreadyHeld"]
      const outer = keys.pipe(api.withPermit(), withLock("mutex"), Effect.provideService(Locker, locker))
      const inner = keys.pipe(withLock("mutex"), api.withPermit(), Effect.provideService(Locker, locker))
      assert.deepStrictEqual(yield* outer, expected)
      assert.deepStrictEqual(yield* inner, expected)
    }))

  it.effect("that loses its permits interrupts only the program that had them", () =>
    Effect.gen(function*() {
      const { faulty, locker } = yield* setting()
      const api = yield* semaphore(locker, 2)
      const lost = yield* fork(api.withPermit(Effect.never))
      const kept = yield* fork(api.withPermit((lease) => Effect.as(Effect.sleep("5 seconds"), lease.permits)))
      const [first] = faulty.calls.filter(({ operation }) => operation === "request")
      yield* faulty.lose(first!.claims[0]!.id, "Expired")
      const error = yield* Effect.flip(Fiber.join(lost))
      assert.strictEqual(error._tag, "OwnershipLost")
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual(yield* Fiber.join(kept), 1)
    }))

  it.effect("keeps permits that are taken in a scope until it closes or until the release", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting()
      const api = yield* semaphore(locker, 2)
      const scope = yield* Scope.make()
      const lease = yield* Scope.provide(api.takeScoped(2), scope)
      assert.isTrue(Option.isNone(yield* api.withPermitsIfAvailable(1)(Effect.void)))
      const work = yield* fork(lease.whileHeld(Effect.never))
      yield* lease.release
      assert.strictEqual((yield* Effect.flip(Fiber.join(work)))._tag, "LockNotHeld")
      assert.isTrue(Option.isSome(yield* api.withPermitsIfAvailable(2)(Effect.void)))
      yield* Scope.close(scope, Exit.void)
    }))
})

describe("a capacity that changes", () => {
  it.effect("never lets in more than the smaller one allows, tells so once, and fails nobody", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        const { locker, memory } = yield* setting()
        const old = yield* semaphore(locker, 2)
        const newer = yield* semaphore(yield* lockerOver(memory), 4)
        const held = yield* old.takeScoped(1)
        const beside = yield* newer.takeScoped(1)
        assert.isTrue(Option.isNone(yield* outside(newer.withPermitsIfAvailable(1)(Effect.void))))
        const waiting = yield* fork(outside(newer.withPermits(3)(Effect.succeed("in"))))
        yield* beside.release
        yield* held.release
        assert.strictEqual(yield* Fiber.join(waiting), "in")
        const told = lines.filter(({ message }) => message.includes("capacity"))
        assert.strictEqual(told.length, 1)
        assert.match(told[0]!.message, /4 here, 2 in use/)
        assert.strictEqual(yield* newer.withPermits(4)(Effect.succeed("all")), "all")
      })
    ))

  it.effect("fails where a semaphore was told to", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting()
      const [old, strict] = [yield* semaphore(locker, 2), yield* semaphore(locker, 4, { onCapacityChange: "fail" })]
      yield* old.takeScoped(1)
      const error = yield* Effect.flip(outside(strict.withPermit(Effect.void)))
      assert(error._tag === "CapacityMismatch")
      assert.deepStrictEqual([error.key, error.requested, error.inUse, error.kind], ["api", 4, 2, "semaphore"])
      assert.match(error.message, /in use by a semaphore of 2/)
    }))

  it.effect("is another kind of lock's error too", () =>
    Effect.gen(function*() {
      const { locker } = yield* setting()
      const api = yield* semaphore(locker, 2)
      yield* api.takeScoped(1)
      const error = yield* Effect.flip(outside(locker.withLock("api", Effect.void)))
      assert(error._tag === "CapacityMismatch")
      assert.deepStrictEqual([error.requested, error.inUse, error.kind], [1, 2, "semaphore"])
      const tried = yield* Effect.flip(outside(locker.withLockIfAvailable("api", Effect.void)))
      assert.strictEqual(tried._tag, "CapacityMismatch")
    }))
})

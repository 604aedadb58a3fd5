import { assert, describe, it } from "@effect/vitest"
import { Cause, Clock, Duration, Effect, Exit, Fiber, Scope } from "effect"
import { LockBackendError, OwnershipLost } from "effect-dlock"
import type { Claim } from "effect-dlock/LockStore"
import { ClusterError } from "effect/cluster"
import { TestClock } from "effect/testing"
import { address, expiry, fork, heldKeys, memory, numbers, processOn, shards, shiftedClock, two } from "./support.ts"

const here = address(1)
const there = address(2)

/** The loss that a refresh died of. */
const lossOf = (exit: Exit.Exit<unknown, unknown>): OwnershipLost => {
  assert.isTrue(Exit.isFailure(exit) && Cause.hasDies(exit.cause), "it did not die")
  const defect = Exit.isFailure(exit) ? Cause.squash(exit.cause) : undefined
  assert.instanceOf(defect, ClusterError.PersistenceError)
  const { cause } = defect as ClusterError.PersistenceError
  assert.instanceOf(cause, OwnershipLost)
  return cause as OwnershipLost
}

describe("acquiring shards", () => {
  it.effect("gives a shard to one runner at a time, and each runner what is free", () =>
    Effect.gen(function*() {
      const { one, other } = yield* two
      assert.deepStrictEqual(numbers(yield* one.acquire(here, shards(1, 2))), [1, 2])
      assert.deepStrictEqual(numbers(yield* other.acquire(there, shards(1, 2, 3))), [3])
      yield* one.release(here, shards(1)[0]!)
      assert.deepStrictEqual(numbers(yield* other.acquire(there, shards(1, 2))), [1])
    }))

  it.effect("again gives what is held, confirmed anew", () =>
    Effect.gen(function*() {
      const { one, other } = yield* two
      yield* one.acquire(here, shards(1))
      yield* TestClock.adjust("6 seconds")
      assert.deepStrictEqual(numbers(yield* one.acquire(here, shards(1, 2))), [1, 2])
      yield* TestClock.adjust("6 seconds")
      assert.deepStrictEqual(numbers(yield* other.acquire(there, shards(1))), [])
    }))

  it.effect("steals nothing from an earlier life of the same runner, which may only be paused", () =>
    Effect.gen(function*() {
      const { one, other } = yield* two
      yield* one.acquire(here, shards(1))
      assert.deepStrictEqual(yield* other.acquire(here, shards(1)), [])
      yield* other.releaseAll(here)
      yield* other.release(here, shards(1)[0]!)
      yield* TestClock.adjust("9999 millis")
      assert.deepStrictEqual(yield* other.acquire(here, shards(1)), [])
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(numbers(yield* other.acquire(here, shards(1))), [1])
    }))

  it.effect("leaves nothing behind when Sharding's limit interrupts it", () =>
    Effect.gen(function*() {
      const shared = yield* memory
      const one = yield* processOn(shared)
      const hold = yield* one.faulty.holdReplies("request")
      const acquiring = yield* fork(one.acquire(here, shards(1, 2)))
      yield* hold.caught
      yield* Fiber.interrupt(acquiring)
      yield* hold.release
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* heldKeys(shared), [])
      assert.deepStrictEqual(numbers(yield* one.acquire(here, shards(1, 2))), [1, 2])
    }))

  it.effect("gives back what was granted before that, too", () =>
    Effect.gen(function*() {
      const shared = yield* memory
      const one = yield* processOn(shared)
      yield* one.faulty.hang("request", 1)
      const acquiring = yield* fork(one.acquire(here, shards(1, 2)))
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* heldKeys(shared), ["shard/default:2"])
      yield* Fiber.interrupt(acquiring)
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* heldKeys(shared), [])
    }))

  it.effect("gives what was answered, and withdraws a claim whose answer was lost", () =>
    Effect.gen(function*() {
      const shared = yield* memory
      const one = yield* processOn(shared)
      yield* one.faulty.dropReplies("request", 1)
      assert.deepStrictEqual(numbers(yield* one.acquire(here, shards(1, 2))), [2])
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* heldKeys(shared), ["shard/default:2"])
    }))

  it.effect("gives what was answered in time, though one shard gets no answer at all", () =>
    Effect.gen(function*() {
      const shared = yield* memory
      const one = yield* processOn(shared)
      yield* one.faulty.hang("request", 1)
      const acquiring = yield* fork(one.acquire(here, shards(1, 2, 3)))
      yield* TestClock.adjust("1500 millis")
      assert.deepStrictEqual(numbers(yield* Fiber.join(acquiring)), [2, 3])
      assert.deepStrictEqual(yield* heldKeys(shared), ["shard/default:2", "shard/default:3"])
      yield* one.faulty.heal()
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(numbers(yield* one.acquire(here, shards(1))), [1])
    }))

  it.effect("withdraws together what the store does not let it withdraw", () =>
    Effect.gen(function*() {
      const shared = yield* memory
      let calls = 0
      const error = new LockBackendError({ operation: "acquire", retryable: true, cause: new Error("away") })
      const fails = () => Effect.suspend(() => (calls++, Effect.fail(error)))
      const withdrawAll = (claims: ReadonlyArray<Claim>) => Effect.sync(() => (calls++, claims.map(() => error)))
      const one = yield* processOn({
        ...shared,
        store: { ...shared.store, request: fails, withdraw: fails, withdrawAll }
      })
      yield* Effect.flip(one.acquire(here, shards(...Array.from({ length: 100 }, (_, id) => id + 1))))
      assert.strictEqual(calls, 200)
      yield* TestClock.adjust("1 minute")
      // Once in 300 ms, for as long as one of them may still be there.
      assert.isAtMost(calls - 200, 20_000 / 300)
      yield* TestClock.adjust("1 minute")
      assert.isAtMost(calls - 200, 20_000 / 300)
    }))

  it.effect("fails if nothing was answered", () =>
    Effect.gen(function*() {
      const { one } = yield* two
      yield* one.faulty.fail("request")
      assert.instanceOf(yield* Effect.flip(one.acquire(here, shards(1, 2))), ClusterError.PersistenceError)
    }))

  it.effect("reports no shard whose grant is older than a refresh would be", () =>
    Effect.gen(function*() {
      const { clock, shift } = yield* shiftedClock
      const shared = yield* memory
      const one = yield* Effect.provideService(processOn(shared), Clock.Clock, clock)
      const hold = yield* one.faulty.holdReplies("request")
      const acquiring = yield* fork(one.acquire(here, shards(1)))
      yield* hold.caught
      shift.monotonic += 3_001
      yield* hold.release
      assert.deepStrictEqual(yield* Fiber.join(acquiring), [])
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* heldKeys(shared), [])
    }))
})

describe("refreshing shards", () => {
  it.effect("keeps what it names, and nothing else keeps a shard", () =>
    Effect.gen(function*() {
      const { memory, one, other } = yield* two
      yield* one.acquire(here, shards(1, 2))
      assert.deepStrictEqual(numbers(yield* one.refresh(here, shards(1, 2))), [1, 2])
      for (let round = 0; round < 3; round++) {
        yield* TestClock.adjust("3 seconds")
        assert.deepStrictEqual(numbers(yield* one.refresh(here, shards(1))), [1])
      }
      yield* TestClock.adjust("999 millis")
      assert.deepStrictEqual(yield* other.acquire(there, shards(1, 2)), [])
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(numbers(yield* other.acquire(there, shards(1, 2))), [2])
      yield* TestClock.adjust(expiry)
      assert.deepStrictEqual(yield* heldKeys(memory), [])
    }))

  it.effect("sends one call for all shards", () =>
    Effect.gen(function*() {
      const { one } = yield* two
      const many = shards(...Array.from({ length: 300 }, (_, index) => index + 1))
      yield* one.acquire(here, many)
      assert.strictEqual((yield* one.refresh(here, many)).length, 300)
      assert.deepStrictEqual(one.sent("renew").map(({ claims }) => claims.length), [300])
    }))

  it.effect("renews a shard that was just acquired, though Sharding does not name it yet", () =>
    Effect.gen(function*() {
      const { one } = yield* two
      // Twice: Sharding may have forgotten what it named before.
      for (let times = 0; times < 2; times++) {
        yield* one.acquire(here, shards(1))
        yield* TestClock.adjust("3 seconds")
        yield* one.refresh(here, [])
        yield* TestClock.adjust("8 seconds")
        assert.deepStrictEqual(numbers(yield* one.refresh(here, shards(1))), [1])
      }
    }))

  it.effect("lets a shard run out that Sharding never names", () =>
    Effect.gen(function*() {
      const { one, other } = yield* two
      yield* one.acquire(here, shards(1))
      for (let round = 0; round < 5; round++) {
        yield* TestClock.adjust("3 seconds")
        yield* one.refresh(here, [])
      }
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(numbers(yield* other.acquire(there, shards(1))), [1])
    }))

  it.effect("is what keeps a shard even in a store that renews all claims of a process together", () =>
    Effect.gen(function*() {
      const shared = yield* memory
      const lasting = (claim: Claim): Claim => ({ ...claim, ttl: Duration.hours(1) })
      const request: typeof shared.store.request = (claim, mode) => shared.store.request(lasting(claim), mode)
      const one = yield* processOn({ ...shared, store: { ...shared.store, request } })
      const other = yield* processOn(shared)
      yield* one.acquire(here, shards(1))
      yield* TestClock.adjust("9 seconds")
      assert.deepStrictEqual(yield* other.acquire(there, shards(1)), [])
      yield* TestClock.adjust("3 seconds")
      assert.deepStrictEqual(numbers(yield* other.acquire(there, shards(1))), [1])
      lossOf(yield* Effect.exit(one.refresh(here, shards(1))))
      yield* one.releaseAll(here)
      assert.deepStrictEqual(numbers(yield* other.refresh(there, shards(1))), [1])
    }))

  it.effect("asks again while the answer is not known, up to Sharding's own limit", () =>
    Effect.gen(function*() {
      const { one } = yield* two
      yield* one.acquire(here, shards(1))
      yield* one.faulty.fail("renew", undefined, 2)
      const refreshing = yield* fork(one.refresh(here, shards(1)))
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(numbers(yield* Fiber.join(refreshing)), [1])

      yield* one.faulty.fail("renew")
      const failing = yield* fork(Effect.flip(one.refresh(here, shards(1))))
      yield* TestClock.adjust("2999 millis")
      assert.isUndefined(failing.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      assert.instanceOf(yield* Fiber.join(failing), ClusterError.PersistenceError)
    }))

  it.effect("dies at the deadline of a shard, though an answer is still awaited", () =>
    Effect.gen(function*() {
      const { one } = yield* two
      yield* one.acquire(here, shards(1))
      yield* TestClock.adjust("7 seconds")
      yield* one.faulty.hang("renew")
      const refreshing = yield* fork(one.refresh(here, shards(1)))
      yield* TestClock.adjust("1999 millis")
      assert.isUndefined(refreshing.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      assert.strictEqual(lossOf(yield* Fiber.await(refreshing)).reason, "Stalled")
    }))

  it.effect("ends at the limit even if the store lets nobody interrupt it", () =>
    Effect.gen(function*() {
      const shared = yield* memory
      const deaf = { ...shared.store, renew: () => Effect.uninterruptible(Effect.as(Effect.sleep("1 minute"), [])) }
      const one = yield* processOn({ ...shared, store: deaf })
      yield* one.acquire(here, shards(1))
      const failing = yield* fork(Effect.flip(one.refresh(here, shards(1))))
      yield* TestClock.adjust("3 seconds")
      assert.instanceOf(yield* Fiber.join(failing), ClusterError.PersistenceError)
      yield* TestClock.adjust("1 minute")
    }))

  it.effect("dies of a shard that another runner has", () =>
    Effect.gen(function*() {
      const { memory, one, other } = yield* two
      yield* one.acquire(here, shards(1, 2))
      const on = { key: "cluster/shard/default:2", prefix: "cluster/" }
      const [holder] = (yield* memory.admin.inspect(on)).holders
      assert.strictEqual(holder!.holder, "localhost:1")
      yield* memory.admin.breakLock(on, holder!.token)
      yield* other.acquire(there, shards(2))
      const loss = lossOf(yield* Effect.exit(one.refresh(here, shards(1, 2))))
      assert.strictEqual(loss.key, "shard/default:2")
      assert.strictEqual(loss.reason, "Replaced")
      // Until Sharding has stopped its entities, and releases all.
      assert.strictEqual(lossOf(yield* Effect.exit(one.refresh(here, shards(2)))).reason, "Replaced")
      assert.deepStrictEqual(numbers(yield* one.refresh(here, shards(1))), [1])
      yield* one.releaseAll(here)
      assert.deepStrictEqual(yield* one.refresh(here, shards(1, 2)), [])
      assert.deepStrictEqual(numbers(yield* other.refresh(there, shards(2))), [2])
    }))

  it.effect("dies after a pause before it has asked anybody", () =>
    Effect.gen(function*() {
      for (const clockThatTells of ["monotonic", "wall"] as const) {
        const { clock, shift } = yield* shiftedClock
        const one = yield* Effect.provideService(processOn(yield* memory), Clock.Clock, clock)
        yield* one.acquire(here, shards(1))
        yield* one.refresh(here, shards(1))
        const sent = one.sent("renew").length
        shift[clockThatTells] += 9_001
        assert.strictEqual(lossOf(yield* Effect.exit(one.refresh(here, shards(1)))).reason, "Stalled")
        assert.strictEqual(one.sent("renew").length, sent)
      }
    }))

  it.effect("asks again for an answer that is as old as a refresh may be, since the process was paused", () =>
    Effect.gen(function*() {
      const { clock, shift } = yield* shiftedClock
      const one = yield* Effect.provideService(Effect.flatMap(memory, processOn), Clock.Clock, clock)
      yield* one.acquire(here, shards(1))
      const hold = yield* one.faulty.holdReplies("renew")
      const refreshing = yield* fork(one.refresh(here, shards(1)))
      yield* hold.caught
      shift.monotonic += 5_000
      yield* hold.release
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(numbers(yield* Fiber.join(refreshing)), [1])
      assert.strictEqual(one.sent("renew").length, 2)
    }))

  it.effect("does not take a shard that is released meanwhile for a loss", () =>
    Effect.gen(function*() {
      const { one } = yield* two
      yield* one.acquire(here, shards(1, 2))
      const hold = yield* one.faulty.holdCalls("renew")
      const refreshing = yield* fork(one.refresh(here, shards(1, 2)))
      yield* hold.caught
      yield* one.release(here, shards(2)[0]!)
      yield* hold.release
      assert.deepStrictEqual(numbers(yield* Fiber.join(refreshing)), [1])
    }))

  it.effect("without shards asks whether the backend is there", () =>
    Effect.gen(function*() {
      const shared = yield* memory
      let isAway = true
      const inspect: typeof shared.admin.inspect = (on) => isAway ? Effect.never : shared.admin.inspect(on)
      const one = yield* processOn({ ...shared, admin: { ...shared.admin, inspect } })
      const probing = yield* fork(Effect.flip(one.refresh(here, [])))
      yield* TestClock.adjust("3 seconds")
      assert.instanceOf(yield* Fiber.join(probing), ClusterError.PersistenceError)
      isAway = false
      assert.deepStrictEqual(yield* one.refresh(here, []), [])
    }))
})

describe("a shard that is revoked", () => {
  const revoke = Effect.fnUntraced(function*(admin: Effect.Success<typeof memory>["admin"], grace: number) {
    const on = { key: "cluster/shard/default:1", prefix: "cluster/" }
    const [holder] = (yield* admin.inspect(on)).holders
    assert.strictEqual(yield* admin.revoke(on, { token: holder!.token, grace, by: "ops" }), "asked")
  })

  it.effect("is left by and by within the grace", () =>
    Effect.gen(function*() {
      const { memory, one, other } = yield* two
      yield* one.acquire(here, shards(1, 2))
      yield* revoke(memory.admin, 60_000)
      assert.deepStrictEqual(numbers(yield* one.refresh(here, shards(1, 2))), [2])
      yield* TestClock.adjust("6 seconds")
      // Its entities are ending, and Sharding goes on naming it.
      assert.deepStrictEqual(numbers(yield* one.refresh(here, shards(1, 2))), [2])
      yield* TestClock.adjust("6 seconds")
      assert.deepStrictEqual(yield* other.acquire(there, shards(1)), [])
      yield* one.release(here, shards(1)[0]!)
      assert.deepStrictEqual(numbers(yield* other.acquire(there, shards(1))), [1])
    }))

  it.effect("is confirmed like the others while it is left, or else its runner stops", () =>
    Effect.gen(function*() {
      const { memory, one } = yield* two
      yield* one.acquire(here, shards(1))
      yield* revoke(memory.admin, 60_000)
      assert.deepStrictEqual(yield* one.refresh(here, shards(1)), [])
      yield* TestClock.adjust("3 seconds")
      yield* one.faulty.fail("renew")
      const failing = yield* fork(Effect.flip(one.refresh(here, shards(1))))
      yield* TestClock.adjust("2999 millis")
      assert.isUndefined(failing.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      assert.instanceOf(yield* Fiber.join(failing), ClusterError.PersistenceError)
    }))

  it.effect("is left at once while there is still time, if it is never extended again", () =>
    Effect.gen(function*() {
      const { memory, one } = yield* two
      yield* one.acquire(here, shards(1))
      yield* revoke(memory.admin, 0)
      yield* TestClock.adjust("3 seconds")
      assert.deepStrictEqual(yield* one.refresh(here, shards(1)), [])
      yield* TestClock.adjust("3 seconds")
      assert.strictEqual(lossOf(yield* Effect.exit(one.refresh(here, shards(1)))).reason, "Revoked")
      assert.deepStrictEqual(yield* heldKeys(memory), ["shard/default:1"])
    }))
})

describe("releasing shards", () => {
  it.effect("fails while the backend does not answer, does not renew the shard any more, and works later", () =>
    Effect.gen(function*() {
      const { one, other } = yield* two
      yield* one.acquire(here, shards(1, 2))
      yield* one.faulty.fail("withdraw")
      assert.instanceOf(yield* Effect.flip(one.releaseAll(here)), ClusterError.PersistenceError)
      assert.deepStrictEqual(yield* one.refresh(here, shards(1)), [])
      assert.deepStrictEqual(one.sent("renew"), [])
      yield* one.faulty.heal()
      yield* one.releaseAll(here)
      assert.deepStrictEqual(numbers(yield* other.acquire(there, shards(1, 2))), [1, 2])
    }))

  it.effect("may be repeated, and releases nothing of another runner", () =>
    Effect.gen(function*() {
      const { memory, one, other } = yield* two
      yield* one.acquire(here, shards(1))
      yield* other.acquire(there, shards(2))
      yield* one.release(here, shards(1)[0]!)
      yield* one.release(here, shards(1)[0]!)
      yield* one.release(here, shards(2)[0]!)
      yield* one.releaseAll(here)
      assert.deepStrictEqual(yield* heldKeys(memory), ["shard/default:2"])
    }))

  it.effect("is bounded in a finalizer, where Sharding sets no limit", () =>
    Effect.gen(function*() {
      const { one } = yield* two
      yield* one.acquire(here, shards(1))
      yield* one.faulty.hang("withdraw")
      const releasing = yield* fork(Effect.uninterruptible(Effect.flip(one.releaseAll(here))))
      yield* TestClock.adjust("2 seconds")
      assert.instanceOf(yield* Fiber.join(releasing), ClusterError.PersistenceError)
      yield* one.faulty.heal()
    }))

  it.effect("happens to all that is left when the storage is closed", () =>
    Effect.gen(function*() {
      const shared = yield* memory
      const scope = yield* Scope.make()
      const one = yield* Scope.provide(processOn(shared), scope)
      yield* one.acquire(here, shards(1, 2))
      yield* one.faulty.fail("withdraw", undefined, 1)
      yield* Effect.ignore(one.release(here, shards(1)[0]!))
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(yield* heldKeys(shared), [])
    }))

  it.effect("happens to what nobody has been told of, too, when the storage is closed", () =>
    Effect.gen(function*() {
      const shared = yield* memory
      const scope = yield* Scope.make()
      const one = yield* Scope.provide(processOn(shared), scope)
      yield* one.faulty.fail("withdraw")
      yield* one.faulty.dropReplies("request", 1)
      yield* Effect.flip(one.acquire(here, shards(1)))
      assert.deepStrictEqual(yield* heldKeys(shared), ["shard/default:1"])
      yield* one.faulty.heal()
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(yield* heldKeys(shared), [])
    }))
})

describe("the token of a shard", () => {
  it.effect("is trusted from the confirmation that was sent last, in whatever order they come", () =>
    Effect.gen(function*() {
      const { one } = yield* two
      const [id] = shards(1)
      yield* one.acquire(here, [id!])
      const hold = yield* one.faulty.holdReplies("renew")
      const early = yield* fork(one.refresh(here, [id!]))
      yield* hold.caught
      yield* one.faulty.heal("renew")
      yield* TestClock.adjust("2 seconds")
      yield* one.refresh(here, [id!])
      yield* hold.release
      yield* Fiber.join(early)
      yield* TestClock.adjust("8999 millis")
      yield* one.shardLocks.fencingToken(id!)
      yield* TestClock.adjust("1 millis")
      assert.instanceOf(yield* Effect.flip(one.shardLocks.fencingToken(id!)), OwnershipLost)
    }))

  it.effect("grows from one runner to the next", () =>
    Effect.gen(function*() {
      const { one, other } = yield* two
      const [id] = shards(1)
      yield* one.acquire(here, [id!])
      const first = yield* one.shardLocks.fencingToken(id!)
      yield* one.release(here, id!)
      yield* other.acquire(there, [id!])
      assert.isTrue(yield* Effect.map(other.shardLocks.fencingToken(id!), (token) => token > first))
      assert.strictEqual((yield* Effect.flip(one.shardLocks.fencingToken(id!)))._tag, "LockNotHeld")
    }))

  it.effect("is refused from the deadline on, whatever the backend still keeps", () =>
    Effect.gen(function*() {
      const { memory, one } = yield* two
      const [id] = shards(1)
      yield* one.acquire(here, [id!])
      yield* TestClock.adjust("8999 millis")
      yield* one.shardLocks.fencingToken(id!)
      yield* TestClock.adjust("1 millis")
      const error = yield* Effect.flip(one.shardLocks.fencingToken(id!))
      assert.instanceOf(error, OwnershipLost)
      assert.deepStrictEqual(yield* heldKeys(memory), ["shard/default:1"])
    }))
})

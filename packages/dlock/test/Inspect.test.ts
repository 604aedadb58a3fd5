import { assert, describe, it } from "@effect/vitest"
import { DateTime, Duration, Effect, Exit, Fiber, Latch, Option, Scope, Stream } from "effect"
import {
  DistributedSemaphore,
  type InvalidLockRequest,
  LockBackendError,
  Locker,
  type LockInfo,
  MemoryLockStore,
  ReadWriteLock
} from "effect-dlock"
import { TestClock } from "effect/testing"
import { infoOf } from "../src/internal/admin/info.ts"
import { adminSetting, fork, lockerOver, outside } from "./support.ts"

// The ttl of these locks is 9 s and their guard gap 0.9 s, and they are renewed every 3 s.

const holding = (locker: Locker["Service"], key: string, metadata?: Readonly<Record<string, string>>) =>
  fork(outside(locker.withLock(key, Effect.never, { metadata })))

/** Collects what a stream emits. */
const watching = <E>(stream: Stream.Stream<LockInfo, E>) =>
  Effect.gen(function*() {
    const seen: Array<LockInfo> = []
    const fiber = yield* fork(Stream.runForEach(stream, (info) => Effect.sync(() => void seen.push(info))))
    return { seen, fiber }
  })

const refused = new LockBackendError({ operation: "inspect", retryable: false, cause: new Error("no permission") })

const names = ({ holders }: LockInfo) => holders.map(({ holder }) => holder)

describe("inspect", () => {
  it.effect("tells who holds a lock and who waits for it, with their metadata", () =>
    Effect.gen(function*() {
      const { locker, operator } = yield* adminSetting({ holder: "shop" })
      yield* TestClock.setTime(1_000_000)
      yield* holding(locker, "k", { pod: "a" })
      yield* holding(operator, "k", { pod: "b" })
      yield* holding(locker, "k")
      yield* TestClock.adjust("1 second")
      const info = yield* operator.inspect("k")
      const { token } = info.holders[0]!
      const expected: LockInfo = {
        key: "k",
        kind: Option.some("mutex"),
        capacity: Option.some(1),
        holders: [{
          holder: "shop",
          metadata: { pod: "a" },
          token,
          permits: 1,
          since: Option.some(DateTime.makeUnsafe(1_000_000)),
          expiresIn: Option.some(Duration.millis(8_900)),
          foreign: false,
          revoked: false
        }],
        holderCount: 1,
        permitsHeld: 1,
        waiting: [{ holder: "shop", metadata: { pod: "b" }, permits: 1, holds: [] }, {
          holder: "shop",
          metadata: {},
          permits: 1,
          holds: []
        }],
        queueLength: 2,
        lastToken: Option.some(token)
      }
      assert.deepStrictEqual(info, expected)
    }))

  it.effect("tells what a caller that waits holds besides, by the keys of this locker", () =>
    Effect.gen(function*() {
      const { locker, operator } = yield* adminSetting({ holder: "shop" })
      yield* holding(operator, "other")
      yield* fork(outside(locker.withLock("mine", locker.withLock("other", Effect.never))))
      const info = yield* operator.inspect("other")
      assert.deepStrictEqual(info.waiting, [{ holder: "shop", metadata: {}, permits: 1, holds: ["mine"] }])
    }))

  it("tells nothing of locks under another prefix", () => {
    const waiter = { holder: "shop\tholds [\"p:mine\",\"theirs:x\"]", permits: 1 }
    const state = { key: "p:other", kind: "mutex", capacity: 1, holders: [], holderCount: 0, permitsHeld: 0 } as const
    const info = infoOf({ ...state, waiting: [waiter], queueLength: 1, lastToken: undefined }, "p:")
    assert.deepStrictEqual(info.waiting, [{ holder: "shop", metadata: {}, permits: 1, holds: ["mine"] }])
  })

  it.effect("tells of a free lock, of permits, of readers and of a writer", () =>
    Effect.gen(function*() {
      const { operator } = yield* adminSetting()
      const free = yield* operator.inspect("k")
      assert.deepStrictEqual([free.kind, free.capacity, free.holders, free.queueLength, free.lastToken], [
        Option.none(),
        Option.none(),
        [],
        0,
        Option.none()
      ])
      const make = Effect.provideService(
        Effect.all([DistributedSemaphore.make("s", { permits: 5 }), ReadWriteLock.make("rw")]),
        Locker,
        operator
      )
      const [semaphore, readWrite] = yield* make
      yield* fork(outside(semaphore.withPermits(3)(Effect.never)))
      yield* fork(outside(semaphore.withPermits(1)(Effect.never)))
      yield* fork(outside(readWrite.withReadLock(Effect.never)))
      yield* fork(outside(readWrite.withWriteLock(Effect.never)))
      const permits = yield* operator.inspect("s")
      assert.deepStrictEqual([permits.kind, permits.capacity, permits.permitsHeld, permits.holderCount], [
        Option.some("semaphore"),
        Option.some(5),
        4,
        2
      ])
      const reading = yield* operator.inspect("rw")
      assert.deepStrictEqual([reading.kind, reading.permitsHeld, reading.queueLength], [
        Option.some("readWrite"),
        1,
        1
      ])
    }))

  it.effect("fails before anything is sent for a key that no lock can have", () =>
    Effect.gen(function*() {
      const { locker, sent } = yield* adminSetting()
      for (const key of ["", "a\0b", "x".repeat(2_000)]) {
        const error = (yield* Effect.flip(locker.inspect(key))) as InvalidLockRequest
        assert.deepStrictEqual([error._tag, error.parameter], ["InvalidLockRequest", "key"])
        assert.strictEqual((yield* Effect.flip(Stream.runDrain(locker.watchKey(key))))._tag, "InvalidLockRequest")
      }
      for (const prefix of ["a\0b", "x".repeat(2_000)]) {
        const error = (yield* Effect.flip(Stream.runDrain(locker.list(prefix)))) as InvalidLockRequest
        assert.deepStrictEqual([error._tag, error.parameter], ["InvalidLockRequest", "prefix"])
      }
      assert.strictEqual(sent("inspect").length, 0)
    }))

  it.effect("ends in time over a store that does not answer, and names the key", () =>
    Effect.gen(function*() {
      const { faulty, locker } = yield* adminSetting()
      yield* faulty.hang("inspect")
      const asking = yield* fork(Effect.flip(locker.inspect("k")))
      yield* TestClock.adjust(2_999)
      assert.isUndefined(asking.pollUnsafe())
      yield* TestClock.adjust(1)
      const error = (yield* Fiber.join(asking)) as LockBackendError
      assert.deepStrictEqual([error._tag, error.operation, error.key, error.retryable], [
        "LockBackendError",
        "inspect",
        "k",
        true
      ])
    }))
})

describe("a locker", () => {
  const calls = (locker: Locker["Service"]): ReadonlyArray<readonly [string, Effect.Effect<unknown, unknown>]> => [
    ["inspect", locker.inspect("k")],
    ["list", Stream.runDrain(locker.list("k"))],
    ["watch", Stream.runDrain(locker.watchKey("k"))],
    ["revoke", locker.revoke("k", { token: 1n })],
    ["break", locker.breakLock("k", { token: 1n })]
  ]

  const failures = Effect.fnUntraced(function*(locker: Locker["Service"], words: RegExp) {
    for (const [operation, call] of calls(locker)) {
      const error = (yield* Effect.flip(call)) as LockBackendError
      assert.deepStrictEqual([error._tag, error.operation, error.key, error.retryable], [
        "LockBackendError",
        operation,
        "k",
        false
      ])
      assert.match(error.message, words)
    }
  })

  it.effect("over a store without a LockAdmin says so", () =>
    Effect.gen(function*() {
      yield* failures(yield* lockerOver(yield* MemoryLockStore.make), /no LockAdmin was provided/)
    }))

  it.effect("that has closed says so", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const { locker } = yield* Scope.provide(adminSetting(), scope)
      const { fiber } = yield* watching(locker.watchKey("k"))
      yield* Scope.close(scope, Exit.void)
      yield* failures(locker, /the locker has been closed/)
      yield* TestClock.adjust("5.1 seconds")
      assert.strictEqual((yield* Effect.flip(Fiber.join(fiber)))._tag, "LockBackendError")
    }))

  it.effect("of a layer finds the LockAdmin of its store", () =>
    Effect.gen(function*() {
      for (const layer of [Locker.layerMemory, Locker.layerWithStore(MemoryLockStore.layer)]) {
        yield* Effect.gen(function*() {
          yield* Locker.scoped("k")
          assert.strictEqual((yield* Locker.inspect("k")).holderCount, 1)
          assert.deepStrictEqual((yield* Stream.runCollect(Locker.list())).map(({ key }) => key), ["k"])
          const [info] = yield* Stream.runCollect(Stream.take(Locker.watchKey("k"), 1))
          assert.isTrue(yield* Locker.breakLock("k", { token: info!.holders[0]!.token }))
        }).pipe(Effect.scoped, Effect.provide(layer, { local: true }))
      }
    }))
})

describe("list", () => {
  it.effect("fails with the prefix that the caller gave, if it gave one", () =>
    Effect.gen(function*() {
      const { admin, memory } = yield* adminSetting()
      const failing = yield* lockerOver(memory, {}, {
        ...admin,
        list: () => Stream.fail(new LockBackendError({ operation: "list", retryable: true, cause: new Error("gone") }))
      })
      const errors = [
        yield* Effect.flip(Stream.runDrain(failing.list("shelf/"))),
        yield* Effect.flip(Stream.runDrain(failing.list()))
      ]
      assert.deepStrictEqual(errors.map(({ message }) => message), [
        "The lock store failed to list locks for \"shelf/\": gone",
        "The lock store failed to list locks: gone"
      ])
    }))

  it.effect("finds what is held and waited for under a prefix of this locker, and nothing of another one", () =>
    Effect.gen(function*() {
      const memory = yield* adminSetting({ prefix: "shop:" })
      const elsewhere = yield* lockerOver(memory.memory, { prefix: "shopping:" }, memory.admin)
      for (const key of ["a", "ab", "b", "{a}b"]) yield* holding(memory.locker, key)
      yield* holding(memory.operator, "a")
      yield* holding(elsewhere, "a")
      const keys = (prefix?: string) =>
        Effect.map(Stream.runCollect(memory.locker.list(prefix)), (all) => all.map(({ key }) => key).sort())
      assert.deepStrictEqual(yield* keys(), ["a", "ab", "b", "{a}b"])
      assert.deepStrictEqual(yield* keys("a"), ["a", "ab"])
      assert.deepStrictEqual(yield* keys("{a"), ["{a}b"])
      assert.deepStrictEqual(yield* keys("c"), [])
    }))

  it.effect("leaves out what other applications have under names that no lock can have", () =>
    Effect.gen(function*() {
      const { admin, memory } = yield* adminSetting()
      const state = yield* admin.inspect({ key: "k", prefix: "dlock:" })
      const states = ["dlock:", "dlock:a}b", `dlock:${"k".repeat(1_020)}`, "dlock:k"].map((key) => ({ ...state, key }))
      const operator = yield* lockerOver(memory, {}, { ...admin, list: () => Stream.fromIterable(states) })
      assert.deepStrictEqual((yield* Stream.runCollect(operator.list())).map(({ key }) => key), ["k"])
    }))
})

describe("watchKey", () => {
  it.effect("tells of the lock at once, and of each change", () =>
    Effect.gen(function*() {
      const { locker, operator } = yield* adminSetting({ holder: "shop" })
      const { seen } = yield* watching(operator.watchKey("k"))
      assert.deepStrictEqual(seen.map(names), [[]])
      const first = yield* holding(locker, "k")
      yield* TestClock.adjust(50)
      assert.deepStrictEqual(seen.map(names), [[], ["shop"]])
      yield* holding(operator, "k")
      yield* TestClock.adjust(50)
      assert.deepStrictEqual(seen.map(({ queueLength }) => queueLength), [0, 0, 1])
      yield* Fiber.interrupt(first)
      yield* TestClock.adjust(50)
      assert.strictEqual(seen.length, 4)
      assert.notStrictEqual(seen[3]!.holders[0]!.token, seen[2]!.holders[0]!.token)
      assert.strictEqual(seen[3]!.queueLength, 0)
      yield* fork(operator.revoke("k", { token: seen[3]!.holders[0]!.token, grace: "1 minute" }))
      yield* TestClock.adjust(50)
      assert.deepStrictEqual(seen.map(({ holders }) => holders.map(({ revoked }) => revoked)).at(-1), [true])
    }))

  it.effect("makes one question of very many hints", () =>
    Effect.gen(function*() {
      const { locker, sent } = yield* adminSetting()
      const { seen } = yield* watching(locker.watchKey("k"))
      const before = sent("inspect").length
      for (let second = 0; second < 10; second++) {
        // The watcher runs whenever it wants to.
        for (let time = 0; time < 100; time++) yield* locker.withLock("k", TestClock.adjust(0))
        yield* TestClock.adjust(100)
      }
      assert.isAtMost(sent("inspect").length - before, 20)
      assert.isAtMost(seen.length, 20)
    }))

  it.effect("tells of an expiry, which nobody hints at, and that nobody holds the lock", () =>
    Effect.gen(function*() {
      const { admin, faulty, memory, operator } = yield* adminSetting()
      const { changes: _, ...deaf } = admin
      const quiet = yield* lockerOver(memory, {}, { ...deaf, changes: () => Stream.never })
      const dying = yield* Scope.make()
      const other = yield* Scope.provide(lockerOver(faulty.store, { defaultTtl: "2 seconds", guardGap: 500 }), dying)
      yield* holding(other, "k")
      yield* faulty.hang("renew")
      const { seen } = yield* watching(quiet.watchKey("k"))
      yield* TestClock.adjust(2_499)
      assert.deepStrictEqual(seen.map(({ holderCount }) => holderCount), [1])
      yield* TestClock.adjust(51)
      assert.deepStrictEqual(seen.map(({ holderCount }) => holderCount), [1, 0])
      // Another one comes, of whom no hint tells: at the latest after 5 s.
      yield* holding(operator, "k")
      yield* TestClock.adjust("5.1 seconds")
      assert.deepStrictEqual(seen.map(({ holderCount }) => holderCount), [1, 0, 1])
    }))

  it.effect("tells of renewals that a poll shows", () =>
    Effect.gen(function*() {
      const { locker } = yield* adminSetting()
      yield* holding(locker, "k")
      const { seen } = yield* watching(locker.watchKey("k"))
      yield* TestClock.adjust("16 seconds")
      assert.isAtLeast(seen.length, 3)
      const tokens = new Set(seen.map(({ holders }) => holders[0]!.token))
      assert.strictEqual(tokens.size, 1)
    }))

  it.effect("over a store that hints at nothing sees that nobody holds the lock for a second", () =>
    Effect.gen(function*() {
      const { admin, locker, memory } = yield* adminSetting()
      const { changes: _, ...deaf } = admin
      const quiet = yield* lockerOver(memory, {}, deaf)
      const { seen } = yield* watching(quiet.watchKey("k"))
      for (let time = 0; time < 3; time++) {
        const held = yield* holding(locker, "k")
        yield* TestClock.adjust("1 second")
        yield* Fiber.interrupt(held)
        yield* TestClock.adjust("1 second")
      }
      assert.deepStrictEqual(seen.map(({ holderCount }) => holderCount), [0, 1, 0, 1, 0, 1, 0])
    }))

  it.effect("waits while the backend does not answer, and fails for what does not pass by itself", () =>
    Effect.gen(function*() {
      const { faulty, locker } = yield* adminSetting()
      const { fiber, seen } = yield* watching(locker.watchKey("k"))
      yield* faulty.fail("inspect")
      yield* holding(locker, "k")
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(seen.length, 1)
      assert.isUndefined(fiber.pollUnsafe())
      yield* faulty.heal()
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual(seen.at(-1)?.holderCount, 1)
      yield* faulty.fail("inspect", refused)
      yield* TestClock.adjust("5.1 seconds")
      assert.strictEqual((yield* Effect.flip(Fiber.join(fiber)))._tag, "LockBackendError")
    }))

  it.effect("asks at once when a hint says that the backend is back", () =>
    Effect.gen(function*() {
      const { faulty, memory, sent } = yield* adminSetting()
      const back = Latch.makeUnsafe()
      const changes = () => Stream.concat(Stream.fromEffect(back.await), Stream.never)
      const locker = yield* lockerOver(memory, {}, { ...faulty.admin!, changes })
      yield* faulty.fail("inspect")
      const { seen } = yield* watching(locker.watchKey("k"))
      yield* TestClock.adjust("9 minutes")
      assert.isBelow(sent("inspect").length, 120)
      yield* faulty.heal()
      // Its next question would come at any time in the next five seconds.
      yield* TestClock.adjust("200 millis")
      assert.strictEqual(seen.length, 0)
      back.openUnsafe()
      yield* TestClock.adjust("200 millis")
      assert.strictEqual(seen.length, 1)
    }))

  it.effect("goes on over hints that break", () =>
    Effect.gen(function*() {
      const { admin, locker, memory } = yield* adminSetting()
      const broken = yield* lockerOver(memory, {}, { ...admin, changes: () => Stream.die("broken") })
      const { seen } = yield* watching(broken.watchKey("k"))
      for (let time = 0; time < 3; time++) {
        const held = yield* holding(locker, "k")
        yield* TestClock.adjust("1 second")
        assert.strictEqual(seen.at(-1)?.holderCount, 1)
        yield* Fiber.interrupt(held)
        yield* TestClock.adjust("1 second")
        assert.strictEqual(seen.at(-1)?.holderCount, 0)
      }
    }))

  it.effect("asks no more when its consumer has gone", () =>
    Effect.gen(function*() {
      const { locker, sent } = yield* adminSetting()
      const { fiber } = yield* watching(locker.watchKey("k"))
      yield* Fiber.interrupt(fiber)
      const before = sent("inspect").length
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(sent("inspect").length, before)
    }))
})

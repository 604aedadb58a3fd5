import { assert, describe, it } from "@effect/vitest"
import { Deferred, Duration, Effect, Fiber } from "effect"
import {
  DistributedSemaphore,
  LockBackendError,
  Locker,
  LockStore,
  type LockTimeout,
  MemoryLockStore,
  ReadWriteLock,
  Want
} from "effect-dlock"
import { TestClock } from "effect/testing"
import * as Owner from "../src/internal/options/owner.ts"
import { fork, lockerOver } from "./support.ts"

type Store = LockStore["Service"]
type LockerService = Locker["Service"]

/** A memory, its lockers, and what those ask of it. `change` alters what the lockers find there. */
const setting = Effect.fnUntraced(function*(change: (memory: Store) => Partial<Store> = () => ({})) {
  const memory = yield* MemoryLockStore.make
  const calls: Array<string> = []
  const store = { ...memory, ...change(memory) }
  const noted = LockStore.of({
    ...store,
    request: (claim, mode) => {
      calls.push(`request ${claim.key}: ${claim.holder}`)
      return store.request(claim, mode)
    },
    withdraw: (claim) => {
      calls.push(`withdraw ${claim.key}`)
      return store.withdraw(claim)
    },
    waiting: (on, most) => {
      calls.push(`waiting ${on.key}, ${most}`)
      return store.waiting!(on, most)
    }
  })
  const locker = (holder: string) => lockerOver(noted, { prefix: "p:", holder, defaultTtl: "10 minutes" })
  const [one, two, three] = yield* Effect.all([locker("one"), locker("two"), locker("three")])
  return { memory, calls, locker, one, two, three }
})

/** Holds one lock, and waits for another when all that is forked meanwhile holds its own. */
const holdAndWait = (locker: LockerService, first: string, second: string, timeout?: Duration.Input) =>
  fork(
    Effect.flip(
      locker.withLock(first, Effect.andThen(Effect.sleep(10), locker.withLock(second, Effect.never, { timeout })))
    )
  )

const timeoutOf = Effect.fnUntraced(function*<E>(fiber: Fiber.Fiber<unknown, E>) {
  yield* TestClock.adjust("5 seconds")
  const error = yield* Fiber.join(fiber)
  assert.strictEqual((error as { readonly _tag?: string } | undefined)?._tag, "LockTimeout")
  return error as LockTimeout
})

/** The circle in short: `b two, a one`. */
const circleOf = ({ deadlock }: LockTimeout): string | undefined =>
  deadlock?.map(({ holder, key }) => `${key} ${holder}`).join(", ")

describe("a timeout tells of a circle", () => {
  it.effect("of two callers, each of which holds what the other waits for", () =>
    Effect.gen(function*() {
      const { calls, one, two } = yield* setting()
      const first = yield* holdAndWait(one, "a", "b", "3 seconds")
      yield* holdAndWait(two, "b", "a")
      const error = yield* timeoutOf(first)
      assert.deepStrictEqual(error.deadlock, [
        { key: "b", kind: "mutex", holder: "two" },
        { key: "a", kind: "mutex", holder: "one" }
      ])
      assert.deepStrictEqual([error.holder, error.metadata, error.queueLength], ["two", undefined, 1])
      assert.strictEqual(Duration.toMillis(error.waited), 3_000)
      assert.strictEqual(
        error.message,
        "Timed out after 3000 ms waiting for the lock \"b\": two holds it (1 waiting). A deadlock: \"b\" is held by two, " +
          "which waits for \"a\", held by this caller. Acquire these locks together with withLocks"
      )
      // It reads the queue before its own claim leaves the other one: of two that time out together, one finds the other.
      assert.deepStrictEqual(calls.slice(0, 6), [
        "request p:a: one",
        "request p:b: two",
        "request p:b: one\tholds [\"p:a\"]",
        "request p:a: two\tholds [\"p:b\"]",
        "waiting p:a, 64",
        "withdraw p:b"
      ])
    }))

  for (const callers of [3, 4, 5]) {
    it.effect(`of ${callers} callers`, () =>
      Effect.gen(function*() {
        const { locker } = yield* setting()
        const first = yield* holdAndWait(yield* locker("0"), "k0", "k1", "3 seconds")
        for (let nth = 1; nth < callers; nth++) {
          yield* holdAndWait(yield* locker(`${nth}`), `k${nth}`, `k${(nth + 1) % callers}`)
        }
        const error = yield* timeoutOf(first)
        const rest = Array.from({ length: callers - 1 }, (_, nth) => `k${nth + 1} ${nth + 1}`)
        assert.strictEqual(circleOf(error), [...rest, "k0 0"].join(", "))
        assert.include(error.message, "\"k1\" is held by 1, which waits for \"k2\", held by 2, which waits for \"k")
        assert.include(error.message, ", which waits for \"k0\", held by this caller. Acquire")
      }))
  }

  it.effect("to a caller that holds the lock in its scope, or forked the call in its section", () =>
    Effect.gen(function*() {
      const { one, two } = yield* setting()
      const inScope = yield* fork(
        Effect.flip(Effect.scoped(
          Effect.andThen(one.scoped("a"), Effect.andThen(Effect.sleep(10), one.scoped("b", { timeout: "3 seconds" })))
        ))
      )
      yield* holdAndWait(two, "b", "a")
      assert.strictEqual(circleOf(yield* timeoutOf(inScope)), "b two, a one")
      const forked = one.withLock("c", Effect.void, { timeout: "3 seconds" })
      const section = yield* fork(
        Effect.flip(one.withLock("d", Effect.andThen(Effect.sleep(10), Effect.flatMap(fork(forked), Fiber.join))))
      )
      yield* holdAndWait(two, "c", "d")
      assert.strictEqual(circleOf(yield* timeoutOf(section)), "c two, d one")
    }))

  it.effect("with read locks and write locks", () =>
    Effect.gen(function*() {
      const { one, two } = yield* setting()
      const [ofOne, ofTwo] = yield* Effect.all(
        [one, two].map((locker) => Effect.provideService(ReadWriteLock.make("rw"), Locker, locker))
      )
      const reading = yield* fork(
        Effect.flip(ofOne!.withReadLock(
          Effect.andThen(Effect.sleep(10), one.withLock("m", Effect.void, { timeout: "3 seconds" }))
        ))
      )
      yield* fork(two.withLock("m", Effect.andThen(Effect.sleep(10), ofTwo!.withWriteLock(Effect.void))))
      assert.deepStrictEqual((yield* timeoutOf(reading)).deadlock, [
        { key: "m", kind: "mutex", holder: "two" },
        { key: "rw", kind: "readWrite", holder: "one" }
      ])
    }))

  it.effect("as one that may still open, where one of the locks is a semaphore", () =>
    Effect.gen(function*() {
      const { one, two } = yield* setting()
      const [ofOne, ofTwo] = yield* Effect.all(
        [one, two].map((locker) =>
          Effect.provideService(DistributedSemaphore.make("s", { permits: 2 }), Locker, locker)
        )
      )
      yield* fork(Effect.scoped(Effect.andThen(ofTwo!.takeScoped(1), Effect.never)))
      const taking = yield* fork(
        Effect.flip(ofOne!.withPermit(
          Effect.andThen(Effect.sleep(10), one.withLock("m", Effect.void, { timeout: "3 seconds" }))
        ))
      )
      yield* fork(two.withLock("m", Effect.andThen(Effect.sleep(10), ofTwo!.withPermit(Effect.void))))
      const error = yield* timeoutOf(taking)
      assert.strictEqual(circleOf(error), "m two, s one")
      assert.include(error.message, ". Perhaps a deadlock: \"m\" is held by two")
    }))

  it.effect("through a call for several locks, inside a section or with some of them there", () =>
    Effect.gen(function*() {
      const { one, two, three } = yield* setting()
      const inside = yield* fork(
        Effect.flip(one.withLock(
          "a",
          Effect.andThen(Effect.sleep(10), one.withLocks(["b", "c"], Effect.void, { timeout: "3 seconds" }))
        ))
      )
      yield* holdAndWait(two, "c", "a")
      const error = yield* timeoutOf(inside)
      assert.deepStrictEqual([error.key, error.acquired, error.wanted, circleOf(error)], ["c", 1, 2, "c two, a one"])
      assert.include(error.message, "with 1 of 2 locks there. A deadlock: \"c\" is held by two")

      const holder = yield* holdAndWait(three, "y", "x", "3 seconds")
      const alone = yield* fork(
        Effect.flip(one.withLocks([Want.lock("x"), "y"], Effect.void, { timeout: "2 seconds" }))
      )
      assert.strictEqual(circleOf(yield* timeoutOf(alone)), "y three, x one")
      yield* Fiber.interrupt(holder)
    }))

  it.effect("in keys without the prefix, where the callers have different ones too", () =>
    Effect.gen(function*() {
      const { memory } = yield* setting()
      const [one, two] = yield* Effect.all([
        lockerOver(memory, { prefix: "p:", holder: "one", defaultTtl: "10 minutes" }),
        lockerOver(memory, { prefix: "", holder: "two", defaultTtl: "10 minutes" })
      ])
      const first = yield* holdAndWait(one, "a", "b", "3 seconds")
      yield* holdAndWait(two, "p:b", "p:a")
      assert.strictEqual(circleOf(yield* timeoutOf(first)), "b two, a one")
    }))
})

describe("a timeout tells of no circle", () => {
  it.effect("where the holder waits for something else, or others wait for what the caller holds", () =>
    Effect.gen(function*() {
      const { calls, locker, one, two, three } = yield* setting()
      yield* fork(three.withLock("d", Effect.never))
      const first = yield* holdAndWait(one, "a", "b", "3 seconds")
      yield* holdAndWait(two, "b", "d")
      yield* holdAndWait(yield* locker("four"), "c", "a")
      yield* holdAndWait(yield* locker("five"), "e", "c")
      const error = yield* timeoutOf(first)
      assert.isUndefined(error.deadlock)
      assert.notProperty(error, "deadlock")
      assert.strictEqual(error.message, "Timed out after 3000 ms waiting for the lock \"b\": two holds it (1 waiting)")
      // It followed those who wait for it to the end.
      assert.deepStrictEqual(calls.filter((call) => call.startsWith("waiting")), [
        "waiting p:a, 64",
        "waiting p:c, 64",
        "waiting p:e, 64"
      ])
    }))

  it.effect("of more than five callers, after a bounded number of reads", () =>
    Effect.gen(function*() {
      const { calls, locker } = yield* setting()
      const first = yield* holdAndWait(yield* locker("0"), "k0", "k1", "3 seconds")
      for (let nth = 1; nth < 6; nth++) yield* holdAndWait(yield* locker(`${nth}`), `k${nth}`, `k${(nth + 1) % 6}`)
      assert.isUndefined((yield* timeoutOf(first)).deadlock)
      assert.strictEqual(calls.filter((call) => call.startsWith("waiting")).length, 4)
    }))

  it.effect("among many that hold much, after 32 reads", () =>
    Effect.gen(function*() {
      const { calls, locker, one, two } = yield* setting()
      yield* fork(two.withLock("b", Effect.never))
      const deep = (left: number, inside: Effect.Effect<void, unknown>): Effect.Effect<void, unknown> =>
        left === 0 ? inside : one.withLock(`mine${left}`, deep(left - 1, inside))
      const waiting = yield* fork(
        Effect.flip(
          deep(10, Effect.andThen(Effect.sleep(10), one.withLock("b", Effect.void, { timeout: "3 seconds" })))
        )
      )
      // Everyone waits for the one before, and holds nine locks of its own.
      for (let level = 1; level <= 6; level++) {
        for (let nth = 1; nth <= 9; nth++) {
          const other = yield* locker(`${level}.${nth}`)
          const target = level === 1 ? `mine${nth}` : `${level - 1}.${nth}.1`
          yield* fork(other.withLocks(
            Array.from({ length: 9 }, (_, lock) => `${level}.${nth}.${lock}`),
            Effect.andThen(Effect.sleep(10), other.withLock(target, Effect.void))
          ))
        }
      }
      assert.isUndefined((yield* timeoutOf(waiting)).deadlock)
      assert.isAtMost(calls.filter((call) => call.startsWith("waiting")).length, 32)
    }))

  it.effect("where a fiber that outlived its section waits for the caller, and another has the lock", () =>
    Effect.gen(function*() {
      const { one, two, three } = yield* setting()
      const over = yield* Deferred.make<void>()
      const first = yield* fork(
        Effect.flip(one.withLock(
          "a",
          Effect.andThen(Effect.sleep("1 second"), one.withLock("b", Effect.void, { timeout: "3 seconds" }))
        ))
      )
      yield* fork(two.withLock(
        "b",
        Effect.andThen(Effect.forkDetach(Effect.ignore(two.withLock("a", Effect.never))), Deferred.await(over))
      ))
      yield* TestClock.adjust(10)
      yield* Deferred.succeed(over, undefined)
      yield* fork(three.withLock("b", Effect.never))
      const error = yield* timeoutOf(first)
      assert.deepStrictEqual([error.holder, error.deadlock], ["three", undefined])
    }))

  it.effect("of others, whose locks it reads once", () =>
    Effect.gen(function*() {
      const { calls, one, two, three } = yield* setting()
      const first = yield* holdAndWait(one, "a", "b", "3 seconds")
      yield* fork(two.withLock("b", Effect.never))
      const both = Effect.all([two.withLock("a", Effect.void), two.withLock("d", Effect.void)], { concurrency: 2 })
      yield* fork(two.withLock("c", Effect.andThen(Effect.sleep(10), both)))
      yield* holdAndWait(three, "d", "c")
      assert.isUndefined((yield* timeoutOf(first)).deadlock)
      assert.deepStrictEqual(calls.filter((call) => call.startsWith("waiting")), [
        "waiting p:a, 64",
        "waiting p:c, 64",
        "waiting p:d, 64"
      ])
    }))

  it.effect("through names that are not of its locks, which it does not read", () =>
    Effect.gen(function*() {
      const holder = Owner.withHeld("x", ["other:x", "p:", "p:\0", "p:a}", "p:fine"])
      const { calls, one, two } = yield* setting(() => ({ waiting: () => Effect.succeed([{ kind: "mutex", holder }]) }))
      const first = yield* holdAndWait(one, "a", "b", "3 seconds")
      yield* fork(two.withLock("b", Effect.never))
      yield* timeoutOf(first)
      assert.deepStrictEqual(calls.filter((call) => call.startsWith("waiting")), [
        "waiting p:a, 64",
        "waiting p:fine, 64"
      ])
    }))

  it.effect("over locks of two stores that have the same names", () =>
    Effect.gen(function*() {
      const [here, there] = yield* Effect.all([setting(), setting()])
      const first = yield* fork(
        Effect.flip(there.one.withLock(
          "a",
          Effect.andThen(Effect.sleep(10), here.one.withLock("b", Effect.void, { timeout: "3 seconds" }))
        ))
      )
      yield* holdAndWait(here.two, "b", "a")
      yield* fork(here.three.withLock("a", Effect.never))
      assert.isUndefined((yield* timeoutOf(first)).deadlock)
      assert.isEmpty(here.calls.filter((call) => call.startsWith("waiting")))
    }))
})

describe("a caller that waits says what it holds", () => {
  /** What the claim on this key said. */
  const saidOn = (calls: ReadonlyArray<string>, key: string) =>
    Owner.decode(calls.find((call) => call.startsWith(`request p:${key}:`))!).holds

  it.effect("in its sections, in the scopes around them and in its own scope, from the inside out", () =>
    Effect.gen(function*() {
      const { calls, one } = yield* setting()
      const inside = Effect.scoped(Effect.andThen(one.scoped("c"), one.withLock("last", Effect.void)))
      yield* Effect.scoped(Effect.andThen(one.scoped("a"), one.withLock("b", inside)))
      assert.deepStrictEqual(saidOn(calls, "last"), ["p:b", "p:a", "p:c"])
    }))

  it.effect("with all locks of a call for several, also those that it had before", () =>
    Effect.gen(function*() {
      const { calls, one } = yield* setting()
      const lockOf = (key: string) => Effect.provideService(ReadWriteLock.make(key), Locker, one)
      const [r1, r2] = [yield* lockOf("r1"), yield* lockOf("r2")]
      const views = one.withLocks([Want.read(r1), Want.read(r2)], one.withLock("views", Effect.void))
      yield* r1.withReadLock(Effect.scoped(Effect.andThen(r2.readLock(), views)))
      assert.deepStrictEqual(saidOn(calls, "views").toSorted(), ["p:r1", "p:r2"])
      yield* one.withLocks(["x", "y"], one.withLock("own", Effect.void))
      assert.deepStrictEqual(saidOn(calls, "own").toSorted(), ["p:x", "p:y"])
    }))

  it.effect("of which it names eight at most", () =>
    Effect.gen(function*() {
      const { calls, one } = yield* setting()
      const some = Effect.forEach(Array.from({ length: 6 }, (_, nth) => `scoped${nth}`), (key) => one.scoped(key))
      const nested = Array.from({ length: 6 }, (_, nth) => `section${nth}`).reduce(
        (inside: Effect.Effect<void, unknown>, key) => one.withLock(key, inside),
        one.withLock("last", Effect.void)
      )
      yield* Effect.scoped(Effect.andThen(some, nested))
      const said = saidOn(calls, "last")
      assert.deepStrictEqual([said.length, new Set(said).size, said[0]], [8, 8, "p:section0"])
    }))

  it.effect("and not what it held before", () =>
    Effect.gen(function*() {
      const { calls, one } = yield* setting()
      const over = yield* Deferred.make<void>()
      yield* Effect.scoped(one.scoped("scoped"))
      const later = yield* one.withLocks(
        ["x", "y"],
        Effect.forkDetach(Effect.andThen(Deferred.await(over), one.withLock("after", Effect.void)))
      )
      yield* Deferred.succeed(over, undefined)
      yield* Fiber.join(later)
      assert.deepStrictEqual(saidOn(calls, "after"), [])
    }))
})

describe("a caller that holds nothing, or does not wait", () => {
  it.effect("says nothing of what it holds, and looks for nothing", () =>
    Effect.gen(function*() {
      const { calls, one, two } = yield* setting()
      yield* fork(two.withLock("b", Effect.never))
      const waiting = yield* fork(Effect.flip(one.withLock("b", Effect.void, { timeout: "1 second" })))
      yield* timeoutOf(waiting)
      yield* Effect.scoped(Effect.andThen(Effect.scoped(one.scoped("over")), one.withLock("c", Effect.void)))
      yield* one.withLock("d", one.withLockIfAvailable("b", Effect.void))
      assert.deepStrictEqual(calls.filter((call) => !call.startsWith("withdraw")), [
        "request p:b: two",
        "request p:b: one",
        "request p:over: one",
        "request p:c: one",
        "request p:d: one",
        "request p:b: one"
      ])
    }))
})

describe("a store that does not show who waits", () => {
  /** What the error is, when the time is over, and when the claim was withdrawn. */
  const timedOut = Effect.fnUntraced(function*(waiting: NonNullable<Store["waiting"]>) {
    const { calls, one, two } = yield* setting(() => ({ waiting }))
    const first = yield* holdAndWait(one, "a", "b", "3 seconds")
    yield* holdAndWait(two, "b", "a")
    yield* TestClock.adjust(3_010)
    assert.include(calls, "withdraw p:b", "the claim is withdrawn without delay")
    yield* TestClock.adjust(50)
    const exit = first.pollUnsafe()
    assert(exit?._tag === "Success", "the caller has its answer within 50 ms")
    const error = exit.value as LockTimeout
    assert.deepStrictEqual([error._tag, error.holder, error.deadlock], ["LockTimeout", "two", undefined])
    return error
  })

  it.effect("delays nothing if it is silent", () => timedOut(() => Effect.never))

  it.effect("spoils nothing if it fails, breaks or answers nonsense", () =>
    Effect.gen(function*() {
      const cause = new Error("down")
      yield* timedOut(() => Effect.fail(new LockBackendError({ operation: "acquire", retryable: true, cause })))
      yield* timedOut(() => Effect.die(cause))
      yield* timedOut(() => {
        throw cause
      })
      yield* timedOut(() => Effect.succeed(undefined as never))
      yield* timedOut(() => Effect.succeed([{ kind: "mutex", holder: undefined as never }]))
    }))

  it.effect("is told nothing and asked nothing if it has no `waiting`", () =>
    Effect.gen(function*() {
      const { waiting: _, ...memory } = yield* MemoryLockStore.make
      const holders: Array<string> = []
      const locker = yield* lockerOver({
        ...memory,
        request: (claim, mode) => {
          holders.push(claim.holder)
          return memory.request(claim, mode)
        }
      }, { holder: "one", defaultTtl: "10 minutes" })
      const first = yield* holdAndWait(locker, "a", "b", "3 seconds")
      yield* holdAndWait(locker, "b", "a")
      assert.isUndefined((yield* timeoutOf(first)).deadlock)
      assert.deepStrictEqual(Array.from(new Set(holders)), ["one"])
    }))
})

describe("a store that answers nonsense", () => {
  it.effect("costs the words, and never the error", () =>
    Effect.gen(function*() {
      const holder = Owner.withHeld("two", ["p:b"])
      for (const waiter of [{ kind: "banana", holder }, { holder }, { kind: "mutex", holder: 7 }, null]) {
        const { one, two } = yield* setting(() => ({ waiting: () => Effect.succeed([waiter as never]) }))
        const first = yield* holdAndWait(one, "a", "b", "3 seconds")
        yield* holdAndWait(two, "b", "a")
        assert.isUndefined((yield* timeoutOf(first)).deadlock)
      }
    }))
})

describe("the text of a holder", () => {
  it("keeps the metadata and what its caller holds apart from the name", () => {
    const named = Owner.encode("host:1 [\"x\"]", { job: "a } [\"b\"]\tholds []" })
    const text = Owner.withHeld(named, ["p:{a}\t\"", "ü"])
    assert.deepStrictEqual(Owner.decode(text), {
      name: "host:1 [\"x\"]",
      metadata: { job: "a } [\"b\"]\tholds []" },
      traceparent: undefined,
      holds: ["p:{a}\t\"", "ü"]
    })
    assert.deepStrictEqual(Owner.decode(Owner.withHeld("host:1", ["a"])), {
      name: "host:1",
      metadata: undefined,
      traceparent: undefined,
      holds: ["a"]
    })
    assert.strictEqual(Owner.withHeld("host:1", ["x".repeat(2_000)]), "host:1")
  })

  it("names locks in at most 1,024 bytes, and none by half", () => {
    const [long, other] = ["ü".repeat(400), "ö".repeat(400)]
    const text = Owner.withHeld("host:1", [long, other, "short", "x".repeat(2_000)])
    assert.deepStrictEqual(Owner.decode(text).holds, [long, "short"])
  })

  it("is a name where others wrote it, up to what may stand behind a name", () => {
    const nothing = { metadata: undefined, traceparent: undefined, holds: [] }
    for (const text of ["x {1}", "x null", "x {\"a\":1}"]) {
      assert.deepStrictEqual(Owner.decode(text), { name: text, ...nothing })
    }
    for (const part of ["holds nonsense", "holds {\"a\":1}", "holds [1]", "trace nonsense", "later 1", ""]) {
      assert.deepStrictEqual(Owner.decode(`x\t${part}`), { name: "x", ...nothing })
    }
  })

  it("of a later version keeps all that this one knows", () => {
    const traceparent = `00-${"a".repeat(32)}-${"b".repeat(16)}-01`
    const known = Owner.withHeld(Owner.withTrace(Owner.encode("x", { job: "1" }), traceparent), ["y"])
    const [name, trace, holds] = known.split("\t")
    const owner = { name: "x", metadata: { job: "1" }, traceparent, holds: ["y"] }
    for (const text of [known, `${known}\tlater 1`, `${name}\tlater 1\t${holds}\t${trace}`]) {
      assert.deepStrictEqual(Owner.decode(text), owner)
      assert.strictEqual(Owner.withoutHeld(text), name)
    }
  })
})

import { assert, describe, it, vi } from "@effect/vitest"
import { Clock, Effect, Fiber } from "effect"
import { Leader, LockBackendError, Locker, MemoryLockStore } from "effect-dlock"
import { TestClock } from "effect/testing"
import { fork, lockerOver, outside, setting, shiftedClock, withLogs } from "./support.ts"

const texts = (lines: ReadonlyArray<{ readonly message: string }>) => lines.map(({ message }) => message)

/** Without what the test clock says. */
const told = (lines: Parameters<Parameters<typeof withLogs>[0]>[0]) =>
  texts(lines.filter(({ annotations }) => annotations.component === "dlock"))

describe("a caller that still waits", () => {
  it.effect("is told after 10 s and at each doubling, with the holder and its place, and no more when it is in", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        const { locker, memory } = yield* setting()
        const other = yield* lockerOver({ ...memory }, { holder: "other" })
        const holder = yield* fork(
          outside(other.withLock("k", Effect.sleep("100 seconds"), { metadata: { pod: "a" }, ttl: "1 hour" }))
        )
        const waiter = yield* fork(locker.withLock("k", Effect.sleep("1 hour"), { ttl: "3 hours" }))
        yield* TestClock.adjust("9999 millis")
        assert.deepStrictEqual(lines, [])
        yield* TestClock.adjust(1)
        const text = (seconds: number) =>
          `A caller has waited ${seconds} s for the lock "k", which is held by "other": 0 of 1 waiters come before it`
        assert.deepStrictEqual(texts(lines), [text(10)])
        assert.deepInclude(lines[0], { level: "Warn", annotations: { component: "dlock", key: "k" } })
        yield* TestClock.adjust("90 seconds")
        assert.deepStrictEqual(texts(lines), [10, 20, 40, 80].map(text))
        yield* TestClock.adjust("1 hour")
        yield* Fiber.joinAll([holder, waiter])
        assert.strictEqual(lines.length, 4)
      })
    ))

  it.effect("is nobody who stands for a leadership", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        const { locker } = yield* setting()
        const stand = Leader.run("mailer", Effect.never).pipe(Effect.provideService(Locker, locker))
        const candidates = yield* Effect.all([fork(stand), fork(stand)])
        yield* TestClock.adjust("1 day")
        assert.deepStrictEqual(told(lines), [])
        yield* Fiber.interruptAll(candidates)
      })
    ))

  it.effect("is told of no more after a timeout or an interruption", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        const { locker } = yield* setting({ warnAfter: "2 seconds" })
        const holder = yield* fork(locker.withLock("k", Effect.never))
        const late = yield* fork(Effect.flip(locker.withLock("k", Effect.void, { timeout: "1 second" })))
        const stopped = yield* fork(locker.withLock("k", Effect.void))
        yield* TestClock.adjust("1.5 seconds")
        yield* Fiber.join(late)
        yield* Fiber.interrupt(stopped)
        yield* TestClock.adjust("1 minute")
        assert.deepStrictEqual(lines, [])
        yield* Fiber.interrupt(holder)
      })
    ))

  it.effect("is told of no more if its wait ends while its line waits for others", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        const { locker, memory } = yield* setting()
        const other = yield* lockerOver({ ...memory })
        const holders = [
          yield* fork(other.withLock("a", Effect.never)),
          yield* fork(other.withLock("b", Effect.sleep("10300 millis")))
        ]
        const waiters = [yield* fork(locker.withLock("a", Effect.void))]
        yield* TestClock.adjust(100)
        waiters.push(yield* fork(locker.withLock("b", Effect.void)))
        yield* TestClock.adjust("15 seconds")
        assert.strictEqual(told(lines).length, 1)
        assert.include(told(lines)[0], "for the lock \"a\"")
        yield* Fiber.interruptAll([...holders, ...waiters])
      })
    ))

  it.effect("that lost its place and asked again has waited since its call", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        const { faulty, locker } = yield* setting()
        const holder = yield* fork(locker.withLock("k", Effect.never))
        const gone = new LockBackendError({ operation: "wait", retryable: true, cause: "gone" })
        const { store } = faulty
        let places = 0
        const losing = yield* lockerOver({
          ...store,
          request: (claim, mode) =>
            Effect.map(store.request(claim, mode), (answer) =>
              answer._tag === "Queued" && places++ === 0
                ? { ...answer, granted: Effect.as(Effect.sleep("7 seconds"), { _tag: "Gone" as const, error: gone }) }
                : answer)
        })
        const waiter = yield* fork(losing.withLock("k", Effect.void))
        yield* TestClock.adjust("10 seconds")
        assert.strictEqual(places, 2)
        assert.strictEqual(lines.length, 1)
        assert.include(lines[0]!.message, "has waited 10 s")
        yield* Fiber.interruptAll([holder, waiter])
      })
    ))

  it.effect("for one of several locks is told by the key of that one", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        const { locker } = yield* setting()
        const holder = yield* fork(locker.withLock("b", Effect.never))
        const waiter = yield* fork(locker.withLocks(["a", "b"], Effect.void))
        yield* TestClock.adjust("10 seconds")
        assert.include(lines[0]!.message, "for the lock \"b\"")
        assert.strictEqual(lines[0]!.annotations.key, "b")
        yield* Fiber.interruptAll([holder, waiter])
      })
    ))

  it.effect("is never told with warnAfter Infinity", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        const { locker } = yield* setting({ warnAfter: "Infinity" })
        const holder = yield* fork(locker.withLock("k", Effect.never))
        const waiter = yield* fork(locker.withLock("k", Effect.void))
        yield* TestClock.adjust("1 day")
        assert.deepStrictEqual(lines, [])
        yield* Fiber.interruptAll([holder, waiter])
      })
    ))
})

describe("ten thousand callers that wait", () => {
  it.effect("for one lock make one line at a time, and one timer", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        const { clock } = yield* shiftedClock
        let sleeping = 0
        let most = 0
        const counted: Clock.Clock = Object.assign(Object.create(clock), {
          sleep: (duration: Parameters<typeof clock.sleep>[0]) =>
            Effect.suspend(() => {
              most = Math.max(most, ++sleeping)
              return Effect.ensuring(clock.sleep(duration), Effect.sync(() => void sleeping--))
            })
        })
        const memory = yield* MemoryLockStore.make
        const locker = yield* Effect.provideService(lockerOver(memory), Clock.Clock, counted)
        const holder = yield* fork(locker.withLock("k", Effect.never))
        const waiters = yield* Effect.forEach(
          Array.from({ length: 10_000 }, (_, index) => index),
          (index) =>
            Effect.andThen(
              index % 1_000 === 0 ? TestClock.adjust(100) : Effect.void,
              fork(locker.withLock("k", Effect.void))
            )
        )
        most = sleeping
        yield* TestClock.adjust("25 seconds")
        // At 10 s of the first one, and at its 20 s.
        assert.strictEqual(told(lines).length, 2)
        assert.include(told(lines)[0], "0 of 10000 waiters come before it")
        assert.isAtMost(most, 5)
        yield* Fiber.interruptAll([holder, ...waiters])
      })
    ))

  it.effect("for as many locks make a few lines, each with the names of some", () =>
    withLogs((lines) =>
      Effect.gen(function*() {
        const { locker, memory } = yield* setting()
        const other = yield* lockerOver({ ...memory }, { defaultTtl: "1 hour" })
        const keys = Array.from({ length: 2_000 }, (_, index) => `k${index}`)
        const holders = yield* Effect.forEach(keys, (key) => fork(other.withLock(key, Effect.never)))
        const waiters = yield* Effect.forEach(keys, (key) => fork(locker.withLock(key, Effect.void)))
        yield* TestClock.adjust("15 seconds")
        assert.isAtMost(told(lines).length, 2)
        assert.match(told(lines)[0]!, /; callers also wait for: "k\d+", "k\d+", "k\d+", "k\d+" and 1995 others$/)
        yield* Fiber.interruptAll([...holders, ...waiters])
      })
    ))

  it.effect("for as many locks do not make it look through all of them for each one", () =>
    withLogs(() =>
      Effect.gen(function*() {
        const { locker, memory } = yield* setting()
        const other = yield* lockerOver({ ...memory }, { defaultTtl: "1 hour" })
        const keys = Array.from({ length: 3_000 }, (_, index) => `k${index}`)
        const holders = yield* Effect.forEach(keys, (key) => fork(other.withLock(key, Effect.never)))
        const waiters = yield* Effect.forEach(keys, (key) => fork(locker.withLock(key, Effect.void)))
        yield* TestClock.adjust("9 seconds")
        let steps = 0
        const entries = Map.prototype[Symbol.iterator]
        vi.spyOn(Map.prototype, Symbol.iterator).mockImplementation(function(this: Map<unknown, unknown>) {
          const all = entries.call(this)
          const next = all.next.bind(all)
          return Object.assign(all, { next: () => (steps++, next()) })
        })
        yield* Effect.ensuring(TestClock.adjust("2 seconds"), Effect.sync(() => vi.restoreAllMocks()))
        assert.isAtMost(steps, 10 * keys.length)
        yield* Fiber.interruptAll([...holders, ...waiters])
      })
    ))
})

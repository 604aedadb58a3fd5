/** What is told of a leader from outside, over real servers, as an effect; for tests only, since it loads the test runner. */
import { assert } from "@effect/vitest"
import { Effect, Fiber, Option, type Scope, Stream } from "effect"
import { Leader, type LockBackendError, Locker } from "effect-dlock"
import { eventually } from "./live.ts"

type OneLocker = Locker["Service"]

const role = "role"

/** Milliseconds. How soon an observer is told, also when its store has to be asked. */
const soon = 1_000

const shown = Option.match<string, Leader.LeaderInfo, string>({
  onNone: () => "nobody",
  onSome: ({ holder }) => holder
})

/** The leaders that an observer of this locker is told of, from now on. */
const observed = (locker: OneLocker) =>
  Effect.gen(function*() {
    const told: Array<Option.Option<Leader.LeaderInfo>> = []
    const note = (leader: Option.Option<Leader.LeaderInfo>) => Effect.sync(() => void told.push(leader))
    yield* Effect.forkScoped(Stream.runForEach(Leader.observe(role), note).pipe(Effect.provideService(Locker, locker)))
    return told
  })

/**
 * What observers are told of three processes that are called `one`, `two` and `three`: each leader, and nobody whenever
 * that lasts for more than a second, also when the lock of a leader was deleted by hand.
 */
export const leadersAreSeen = <E>(
  another: (holder: string) => Effect.Effect<OneLocker, E, Scope.Scope>,
  deleteByHand: Effect.Effect<unknown>
): Effect.Effect<void, E | LockBackendError, Scope.Scope> =>
  Effect.gen(function*() {
    const lockers = yield* Effect.all([another("one"), another("two"), another("three")])
    const [one, two, three] = lockers as [OneLocker, OneLocker, OneLocker]
    const told = yield* observed(three)
    const toldToo = yield* observed(three)
    const slow: Array<string> = []
    yield* Effect.forkScoped(
      Stream.runForEach(Leader.observe(role), (leader) => {
        slow.push(shown(leader))
        return Effect.sleep("1 second")
      }).pipe(Effect.provideService(Locker, two))
    )
    const current = Effect.orDie(Effect.provideService(Leader.current(role), Locker, three))
    const standOf = (locker: OneLocker, name: string) =>
      Effect.forkScoped(
        Leader.run(role, Effect.never, { ttl: "1 second", metadata: { name } }).pipe(
          Effect.provideService(Locker, locker),
          Effect.orDie
        )
      )
    const expected: Array<string> = []
    const expectTold = (name: string, limit = soon) =>
      Effect.suspend(() => {
        expected.push(name)
        return eventually(
          `${expected.join()} was told, not ${told.map(shown).join()}`,
          () => Promise.resolve([told, toldToo].every(({ length }) => length >= expected.length)),
          limit
        )
      })

    yield* expectTold("nobody")
    assert.isTrue(Option.isNone(yield* current))
    const first = yield* standOf(one, "of one")
    yield* expectTold("one")
    const leader = Option.getOrThrow(yield* current)
    assert.deepStrictEqual<unknown>([leader.holder, leader.metadata], ["one", { name: "of one" }])
    assert.strictEqual(Option.getOrThrow(told.at(-1)!).term, leader.term)

    // Its renewals are no news, and neither is who stands.
    const second = yield* standOf(two, "of two")
    yield* Effect.sleep("2500 millis")
    assert.strictEqual(told.length, 2)
    yield* Fiber.interrupt(first)
    yield* expectTold("two")
    yield* Fiber.interrupt(second)
    yield* Effect.sleep("1100 millis")
    const third = yield* standOf(one, "of one")
    yield* expectTold("nobody")
    yield* expectTold("one")
    yield* Fiber.interrupt(third)
    yield* expectTold("nobody")
    assert.isTrue(Option.isNone(yield* current))

    // Somebody holds the lock, and nobody tells of its end.
    yield* Effect.forkScoped(
      one.withLock(role, Effect.uninterruptible(Effect.sleep("8 seconds")), { ttl: "20 seconds" }).pipe(Effect.ignore)
    )
    yield* expectTold("one")
    // The slow one is told in a moment too.
    yield* Effect.sleep("200 millis")
    yield* deleteByHand
    yield* expectTold("nobody", 5_000 + soon)

    assert.deepStrictEqual(told.map(shown), expected)
    yield* eventually("the slow one is told the same", () => Promise.resolve(slow.length === told.length), 30_000)
    assert.deepStrictEqual(slow, expected)
    assert.deepStrictEqual(toldToo, told)
    const terms = told.flatMap((seen) => Option.isSome(seen) ? [seen.value.term] : [])
    assert.deepStrictEqual(terms, terms.toSorted((a, b) => a < b ? -1 : 1))
    assert.strictEqual(new Set(terms).size, terms.length)
  })

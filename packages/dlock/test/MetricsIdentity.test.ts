import { assert, describe, it } from "@effect/vitest"
import { random } from "dlock-testing/random"
import { Cause, Effect, Exit, Fiber, Option, Scope } from "effect"
import { DistributedSemaphore, LockMetrics, LossReason, ReadWriteLock, Want } from "effect-dlock"
import { TestClock } from "effect/testing"
import { its } from "./leaderSupport.ts"
import { type Measured, measured, unexplained } from "./metricsSupport.ts"
import { adminSetting, fork, lockerOver, outside } from "./support.ts"

const { acquired, held, lost, released, wait, waiting } = LockMetrics

/** What the calls themselves saw, which the metrics must say too. */
const countsOf = (kinds: ReadonlyArray<string>) => ({
  /** The leases that reached a caller. */
  granted: Object.fromEntries(kinds.map((kind) => [kind, 0])) as Record<string, number>,
  timeouts: 0
})

/** Many callers, faults of the store, revocations, and in the end a locker that closes, all from a seed. */
const disturbed = Effect.fnUntraced(function*(seed: number, metrics: Measured) {
  const { below, chance, pick } = random(seed)
  const { admin, faulty, memory, operator } = yield* adminSetting()
  const scope = yield* Scope.make()
  const options = { defaultTtl: "9 seconds", defaultTimeout: "20 seconds" } as const
  const locker = yield* Scope.provide(lockerOver(faulty.store, options, admin), scope)
  // A client of its own, whose metrics are the same ones.
  const second = yield* Scope.provide(lockerOver({ ...memory }, options, admin), scope)
  const semaphore = yield* its(locker)(DistributedSemaphore.make("permits", { permits: 4 }))
  const shelf = yield* its(locker)(ReadWriteLock.make("shelf"))
  const keys = ["a", "b", "c"]
  const counts = countsOf(["mutex", "semaphore", "readWrite"])
  const got = (kind: string) => Effect.sync(() => void counts.granted[kind]!++)

  const millis = () => Effect.sleep(below(8_000))
  const program = () =>
    pick([
      millis,
      () => Effect.andThen(millis(), Effect.fail("own")),
      () => Effect.andThen(millis(), Effect.die("defect")),
      () => Effect.uninterruptible(millis()),
      () => Effect.onInterrupt(Effect.never, millis),
      () => Effect.void
    ])()
  const limits = () => ({
    ...(chance(0.3) && { timeout: below(6_000) }),
    ...(chance(0.2) && { maxHold: 1 + below(6_000) }),
    ...(chance(0.2) && { maxQueue: below(3) }),
    ...(chance(0.2) && { name: pick(["one", "two"]) })
  })
  const calls = [
    () => {
      const key = pick(keys)
      const inner = locker.withLock(key, program(), { reentrant: true })
      return locker.withLock(key, Effect.andThen(got("mutex"), chance(0.3) ? inner : program()), limits())
    },
    () => second.withLock(pick(keys), Effect.andThen(got("mutex"), program()), limits()),
    () => locker.withLockIfAvailable(pick(keys), Effect.andThen(got("mutex"), program())),
    () =>
      Effect.scoped(Effect.gen(function*() {
        const lease = yield* locker.scoped(pick(keys), limits())
        yield* got("mutex")
        yield* chance(0.5) ? lease.whileHeld(program()) : program()
        if (chance(0.5)) yield* lease.release
        yield* program()
      })),
    () => Effect.andThen(got("semaphore"), program()).pipe(semaphore.withPermits(1 + below(4), limits())),
    () => shelf.withReadLock(Effect.andThen(got("readWrite"), program()), limits()),
    () =>
      shelf.withWriteLock(
        (lease) =>
          Effect.andThen(got("readWrite"), Effect.andThen(chance(0.5) ? lease.downgrade : Effect.void, program())),
        limits()
      ),
    () =>
      locker.withLocks(
        [pick(keys), pick(keys), Want.permits(semaphore, 1 + below(2)), Want.read(shelf)],
        (leases) =>
          Effect.andThen(
            Effect.forEach(
              leases.keys,
              (key) => got(key === "permits" ? "semaphore" : key === "shelf" ? "readWrite" : "mutex")
            ),
            program()
          ),
        limits()
      ),
    () => locker.withLocksIfAvailable(["a", "b"], Effect.andThen(Effect.all([got("mutex"), got("mutex")]), program()))
  ]
  const faults = [
    () => faulty.fail("request", undefined, 1 + below(3)),
    () => faulty.hang("request", 1 + below(2)),
    () => faulty.dropReplies("request", 1 + below(3)),
    () => faulty.dropReplies("renew", 1 + below(3)),
    () => faulty.hang("renew", 1 + below(3)),
    () => faulty.answerRenewals({ _tag: pick(["Gone", "Replaced", "Revoked"] as const) }, 1),
    () => faulty.fail("withdraw", undefined, 1 + below(3)),
    () => faulty.hang("withdraw", 1),
    () => faulty.dropReplies("wait", 1),
    () => faulty.heal(),
    () => faulty.heal(),
    () =>
      Effect.suspend(() => {
        const claim = faulty.calls.findLast(({ answer, operation }) => operation === "request" && answer === "Granted")
        return claim === undefined ? Effect.void : faulty.lose(claim.claims[0]!.id, pick(LossReason.literals))
      }),
    () =>
      Effect.flatMap(operator.inspect(pick([...keys, "permits", "shelf"])), ({ holders }) => {
        const holder = holders[0]
        const key = pick(keys)
        if (holder === undefined) return Effect.void
        return fork(operator.revoke(key, { token: holder.token, grace: below(2_000) }))
      })
  ]

  const check = (when: string) => {
    assert.deepStrictEqual(unexplained(metrics), {}, when)
    assert.strictEqual(metrics.sum(wait, { outcome: "granted" }), metrics.sum(acquired), when)
  }

  const fibers: Array<Fiber.Fiber<unknown, unknown>> = []
  for (let step = 0; step < 60; step++) {
    for (let more = below(4); more > 0; more--) {
      const call = Effect.suspend((): Effect.Effect<unknown, unknown> => pick(calls)())
      fibers.push(
        yield* fork(Effect.onExit(outside(call), (exit) =>
          Effect.sync(() => {
            if (Exit.isFailure(exit) && isTimeout(exit.cause)) counts.timeouts++
          })))
      )
    }
    if (chance(0.4)) yield* pick(faults)()
    if (chance(0.3) && fibers.length > 0) yield* fork(Fiber.interrupt(pick(fibers)))
    yield* TestClock.adjust(below(3_000))
    check(`step ${step}`)
  }
  if (chance(0.5)) {
    yield* faulty.heal()
    yield* TestClock.adjust("10 minutes")
  }
  yield* fork(Scope.close(scope, Exit.void))
  yield* TestClock.adjust("1 minute")
  for (const fiber of fibers) yield* fork(Fiber.interrupt(fiber))
  yield* TestClock.adjust("10 minutes")
  yield* Fiber.awaitAll(fibers)
  check("at the end")
  assert.strictEqual(metrics.sum(held), 0)
  assert.strictEqual(metrics.sum(waiting), 0)
  // A caller that is interrupted in the moment of its grant never sees its lease.
  for (const [kind, count] of Object.entries(counts.granted)) assert.isAtLeast(metrics.sum(acquired, { kind }), count)
  return { lost: metrics.sum(lost), released: metrics.sum(released), timeouts: counts.timeouts }
})

const isTimeout = (cause: Cause.Cause<unknown>): boolean => {
  const error = Option.getOrUndefined(Cause.findErrorOption(cause))
  return typeof error === "object" && error !== null && "_tag" in error && error._tag === "LockTimeout"
}

describe("what was acquired was released, was lost, or is held", () => {
  it.effect.each(Array.from({ length: 60 }, (_, seed) => seed))(
    "at each quiet moment of a run with faults: seed %i",
    (seed) => measured((metrics) => disturbed(seed, metrics))
  )

  it.effect("in runs that really lose, release and time out", () =>
    Effect.gen(function*() {
      const runs = yield* Effect.forEach(Array.from({ length: 10 }, (_, seed) => 1_000 + seed), (seed) =>
        measured((metrics) => disturbed(seed, metrics)))
      for (const what of ["lost", "released", "timeouts"] as const) {
        assert.isAbove(
          runs.reduce((sum, run) =>
            sum + run[what], 0),
          20,
          what
        )
      }
    }))
})
